#!/bin/sh
# Makes the samples of RAID members (md-*, ddf, imsm): mdadm writes them only where the kernel has its md driver. Run as root in
# a machine with such a kernel and six blank disks: `make-raid.sh A B C D E F`. The samples here were made in QEMU with
# Debian 12's kernel and mdadm 4.2.
#   A, B  32 MiB, used four times          C, D  160 MiB, for DDF          E, F  160 MiB SCSI disks with serial numbers, for IMSM
set -eu
number=0
for version in 0.90 1.0 1.1 1.2; do
    name="--name=till --homehost=shop"
    [ "$version" != 0.90 ] || name=
    wipefs --all --quiet "$1" "$2"
    # shellcheck disable=SC2086
    mdadm --create "/dev/md$number" --run --level=1 --raid-devices=2 --metadata="$version" $name --assume-clean "$1" "$2"
    mdadm --stop "/dev/md$number"
    zstd --quiet --force -19 --long=27 "$1" -o "md-$version.img.zst"
    number=$((number + 1))
done
mdadm --create /dev/md9 --run --level=container --raid-devices=2 --metadata=ddf "$3" "$4"
mdadm --stop /dev/md9
zstd --quiet --force -19 --long=27 "$3" -o ddf.img.zst
export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
mdadm --create /dev/md8 --run --level=container --raid-devices=2 --metadata=imsm "$5" "$6"
mdadm --create /dev/md7 --run --level=1 --raid-devices=2 --assume-clean /dev/md8
mdadm --stop /dev/md7
mdadm --stop /dev/md8
zstd --quiet --force -19 --long=27 "$5" -o imsm.img.zst
