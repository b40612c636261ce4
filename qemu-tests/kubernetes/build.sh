#!/bin/sh
# Makes real Kubernetes programs from Debian 12's source package, for a region and nodes to test with.
#
#   build.sh MIRROR WORK OUT
#
# MIRROR  a Debian mirror's base URL (the setting `debian`)
# WORK    an empty folder for the build root; the caller deletes it
# OUT     gets kubelet, kube-apiserver, kube-controller-manager, kubeadm and VERSION
#
# The build runs in a Debian 12 root, so that its result does not depend on the host.
# Two patches are needed: see the comments. Nothing else in the project depends on this version.
set -eu
mirror=$1 work=$2 out=$3
root=$work/root
mkdir -p "$work"

say() { printf 'kubernetes: %s\n' "$*"; }

say "making a Debian 12 root with Go"
# Root of a user namespace may not mount the host's sysfs; nothing here needs it.
mmdebstrap --quiet --variant=minbase --skip=chroot/mount/sys \
  --include=golang-go,dpkg-dev,rsync,jq,make,golang-github-modern-go-reflect2-dev \
  --aptopt='Acquire::Languages "none"' \
  bookworm "$root" "deb $mirror bookworm main" "deb-src $mirror bookworm main"

say "fetching the source package"
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" sh -eu <<'IN'
cd /root
apt-get -qq update
apt-get -qq source --download-only kubernetes 2>&1 | grep -v unsandboxed || true
dpkg-source --no-check -x kubernetes_*.dsc k8s >/dev/null
IN

say "compiling (about ten minutes on two cores)"
chroot "$root" sh -eu <<'IN'
mount -t proc proc /proc 2>/dev/null || true
cd /root
upstream=$(dpkg-parsechangelog -l k8s/debian/changelog -S Version | sed -E 's/.*really([0-9.]+).*/\1/')
mkdir -p go/src/k8s.io
ln -sfn /root/k8s go/src/k8s.io/kubernetes
export GOPATH=/root/go GO111MODULE=off CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOCACHE=/root/gocache

# The vendored reflect2 1.0.1 reads runtime internals that Go 1.18 moved: kubeadm dies with SIGSEGV in
# aeshashbody. Debian's own package has 1.0.2, which does not.
v=k8s/vendor/github.com/modern-go/reflect2
rm -rf "$v"/*.go "$v"/*.s
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.go "$v"/
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.s "$v"/ 2>/dev/null || true
rm -f "$v"/*_test.go

cd go/src/k8s.io/kubernetes
# The make target generates the OpenAPI code that the API server links; it also builds the server itself.
make WHAT=cmd/kube-apiserver >/root/make.log 2>&1 || { tail -n 40 /root/make.log; exit 1; }

# In GOPATH mode the linker knows this package by its vendored path; without it kubeadm believes v0.0.0.
p=k8s.io/kubernetes/vendor/k8s.io/component-base/version
major=$(echo "$upstream" | cut -d. -f1) minor=$(echo "$upstream" | cut -d. -f2)
flags="-s -w -X $p.gitVersion=v$upstream -X $p.gitMajor=$major -X $p.gitMinor=$minor"
mkdir -p /root/out
for c in kubelet kube-apiserver kube-controller-manager kubeadm; do
  go build -trimpath -ldflags "$flags" -o /root/out/$c ./cmd/$c
  echo "kubernetes: built $c"
done
echo "$upstream" > /root/out/VERSION
umount /proc 2>/dev/null || true
IN

mkdir -p "$out"
cp "$root"/root/out/* "$out"/
say "done: $(cat "$out/VERSION")"
