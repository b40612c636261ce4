#!/bin/sh
# Gives containerd the container images that this root carries. Written by image-builder.
set -eu
images=/usr/lib/shelfboot/images
# There while images are being unpacked. containerd does not wait until what it unpacked is on the disk: after a power cut it
# may believe in layers that are not whole, so what it has of these images is thrown away then.
unfinished=${STATE_DIRECTORY:?}/unfinished
pin=io.cri-containerd.pinned
ours=shelfboot.dev/preloaded

ctr() {
    /usr/bin/ctr --namespace k8s.io "$@"
}

if [ -e "$unfinished" ]; then
    echo "an earlier import was cut off: begin again"
    cut -d' ' -f1 "$images/names" | while read -r name; do
        ctr images rm --sync "$name" >/dev/null
    done
fi

# The names that containerd has not, or has with another digest, or does not hold on to.
ctr images ls >"$RUNTIME_DIRECTORY/held"
missing=$(awk -v pin="$pin=pinned" '
    FNR == NR { wanted[$1] = $2; next }
    ($1 in wanted) && wanted[$1] == $3 && index($0, pin) { delete wanted[$1] }
    END { for (name in wanted) print name }
' "$images/names" "$RUNTIME_DIRECTORY/held")
total=$(wc -l <"$images/names")

if [ -z "$missing" ]; then
    echo "all $total names are there"
else
    : >"$unfinished"
    sync "$unfinished" "$STATE_DIRECTORY"
    echo "importing: $(echo "$missing" | wc -l) of $total names are missing"
    tar -C "$images" -cf - oci-layout index.json blobs | ctr images import --local - >/dev/null
    cut -d' ' -f1 "$images/names" | while read -r name; do
        ctr images label "$name" "$pin=pinned" "$ours=yes" >/dev/null
    done
    sync -f /var/lib/containerd
    rm "$unfinished"
    sync "$STATE_DIRECTORY"
    echo "imported, and on the disk"
fi

# Of an earlier root: the kubelet removes them when it needs the room.
ctr images ls -q "labels.\"$ours\"==yes" | while read -r name; do
    if ! cut -d' ' -f1 "$images/names" | grep -qxF "$name"; then
        ctr images label "$name" "$pin=" "$ours=" >/dev/null
        echo "no longer held: $name"
    fi
done
