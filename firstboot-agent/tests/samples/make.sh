#!/bin/sh
# Makes the sample disks in this folder, each with the tool that makes such disks in the field: `make.sh FOLDER`.
# As root on Debian 12, with the packages named below; some tools want a loop device. The samples are kept, so that tests
# need neither. RAID members come from make-raid.sh; what has no free tool (VMFS, ReFS, BitLocker) is not here.
#   xfsprogs btrfs-progs ntfs-3g dosfstools exfatprogs erofs-utils squashfs-tools xorriso f2fs-tools lvm2 cryptsetup-bin
#   hfsutils apfsprogs bcache-tools jfsutils reiserfsprogs nilfs-tools udftools gdisk fdisk drbd-utils gfs2-utils
#   ocfs2-tools zfs-fuse genromfs e2fsprogs zstd
set -eu
# Some tools ask what is mounted.
[ -e /etc/mtab ] || ln -s /proc/self/mounts /etc/mtab
cd "$1"
umask 022

blank() { rm -f disk; truncate --size="$1" disk; }
# A loop device for as long as the command runs.
with_loop() {
    device=$(losetup --find --show disk)
    status=0
    "$@" "$device" || status=$?
    sync
    losetup --detach "$device"
    return $status
}
# Takes out what is random anyway, so that the sample stays small.
hollow() { fallocate --punch-hole --offset "$1" --length 1G disk; }
keep() { zstd --quiet --force -19 --long=27 disk -o "$1.img.zst"; rm -f disk; echo "$1"; }
# A sample, or a line that says why there is none. `if` would switch off `set -e` in what is tried.
try() {
    name=$1
    shift
    set +e
    (set -e; "$@") >"$name.log" 2>&1
    status=$?
    set -e
    if [ $status = 0 ] && [ -s disk ]; then keep "$name"; else echo "no $name: $(tail -n1 "$name.log")"; fi
    rm -f "$name.log"
}

for kind in ext2 ext3 ext4; do
    make() { blank 8M; mkfs.$kind -q -F -L photos disk; }; try $kind make
done
make() { blank 300M; mkfs.xfs -q -f -L photos disk; }; try xfs make
make() { blank 120M; mkfs.btrfs -q -f -L photos disk; }; try btrfs make
make() { blank 16M; mkfs.ntfs -F -Q -q -L 'Till data' disk; }; try ntfs make
make() { blank 16M; mkfs.ntfs -F -Q -q -L 'Till data' disk; dd if=/dev/zero of=disk bs=1M count=15 conv=notrunc status=none; }; try ntfs-without-its-first-sectors make
make() { blank 8M; mkfs.vfat -F 12 -n TILL disk; }; try fat12 make
make() { blank 16M; mkfs.vfat -F 16 -n TILL disk; }; try fat16 make
make() { blank 40M; mkfs.vfat -F 32 -n TILL disk; }; try fat32 make
make() { blank 40M; mkfs.vfat -F 32 -n TILL disk; dd if=/dev/zero of=disk bs=512 count=1 conv=notrunc status=none; }; try fat32-without-its-first-sector make
make() { blank 40M; mkfs.vfat -F 32 -S 4096 -n TILL disk; }; try fat32-4k make
make() { blank 16M; mkfs.exfat -L TILL disk; }; try exfat make
make() { mkdir -p tree; echo hello >tree/file; rm -f disk; mkfs.erofs disk tree; rm -r tree; }; try erofs make
make() { mkdir -p tree; echo hello >tree/file; rm -f disk; mksquashfs tree disk -quiet -no-progress; rm -r tree; }; try squashfs make
make() { mkdir -p tree; echo hello >tree/file; rm -f disk; xorriso -as mkisofs -quiet -V TILL -o disk tree; rm -r tree; }; try iso9660 make
make() { mkdir -p tree; echo hello >tree/file; rm -f disk; genromfs -d tree -f disk -V till; rm -r tree; }; try romfs make
make() { blank 8M; mkswap -L till disk; }; try swap make
make() { blank 8M; mkswap -p 65536 -L till disk; }; try swap-64k make
make() { blank 64M; mkfs.f2fs -q -f -l photos disk; }; try f2fs make
make() { blank 16M; mkfs.jfs -q disk; }; try jfs make
make() { blank 40M; mkfs.reiserfs -q -f -f -l photos disk; }; try reiserfs make
make() { blank 136M; with_loop mkfs.nilfs2 -q -f -L photos; }; try nilfs2 make
make() { blank 16M; mkudffs --label=TILL disk; }; try udf make
make() { blank 8M; hformat -l Photos disk; }; try hfs make
make() { blank 600M; mkapfs -L photos disk; }; try apfs make
make() { blank 64M; mkfs.gfs2 -q -O -p lock_nolock -J 8 disk; }; try gfs2 make
make() { blank 64M; with_loop mkfs.ocfs2 -q -F -M local -J size=4M -x; }; try ocfs2 make
make() { blank 8M; with_loop pvcreate --yes --config "devices{use_devicesfile=0 filter=[\"a|^/dev/loop|\",\"r|.*|\"]} activation{udev_sync=0 udev_rules=0} global{event_activation=0} backup{backup=0 archive=0}"; }; try lvm2 make
make() { blank 8M; printf secret | cryptsetup luksFormat --batch-mode --type luks1 --pbkdf-force-iterations 1000 disk -; hollow 4K; }; try luks1 make
make() { blank 20M; printf secret | cryptsetup luksFormat --batch-mode --type luks2 --label till --pbkdf pbkdf2 --pbkdf-force-iterations 1000 disk -; hollow 32K; }; try luks2 make
make() { blank 20M; printf secret | cryptsetup luksFormat --batch-mode --type luks2 --label till --pbkdf pbkdf2 --pbkdf-force-iterations 1000 disk -; hollow 32K; dd if=/dev/zero of=disk bs=4096 count=1 conv=notrunc status=none; }; try luks2-without-its-first-header make
make() { blank 8M; with_loop make-bcache --wipe-bcache -B; }; try bcache make
make() { blank 64M; with_loop make-bcache --wipe-bcache -C; }; try bcache-cache make
make() { blank 64M; echo yes | with_loop drbd; }; drbd() { drbdmeta --force 0 v08 "$1" internal create-md; }; try drbd-8 make
drbd() { drbdmeta --force 0 v09 "$1" internal create-md 1; }; try drbd-9 make
make() { blank 64M; zpool create -m none till "$PWD/disk"; zpool export till; }; try zfs make

# Tables. One with partitions that hold something, one for each kind of damage.
table() { printf 'label: %s\nunit: sectors\n%b' "$1" "$2" | sfdisk --quiet ${3:-} disk; }
windows='start=2048,size=8192,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,name=esp\nsize=8192,type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE\nsize=32768,type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7,name=Basic\n'
inside() { rm -f part; truncate --size="$2" part; shift 2; "$@" part; }
gpt() { blank 32M; table gpt "$windows"; inside part 16M mkfs.exfat -L Windows; dd if=part of=disk bs=1M seek=9 conv=notrunc status=none; rm part; }
make() { gpt; }; try gpt make
make() { gpt; dd if=/dev/zero of=disk bs=512 count=34 conv=notrunc status=none; }; try gpt-backup-only make
make() { gpt; printf X | dd of=disk bs=1 seek=600 conv=notrunc status=none; }; try gpt-damaged-primary make
make() { gpt; printf X | dd of=disk bs=1 seek=600 conv=notrunc status=none; printf X | dd of=disk bs=1 seek=$((32*1024*1024-512+40)) conv=notrunc status=none; }; try gpt-damaged-twice make
make() { gpt; dd if=/dev/zero of=disk bs=512 seek=1 count=33 conv=notrunc status=none; dd if=/dev/zero of=disk bs=512 seek=65503 count=33 conv=notrunc status=none; dd if=/dev/zero of=disk bs=1M seek=9 count=16 conv=notrunc status=none; }; try protective-mbr-alone make
make() { gpt; sgdisk --hybrid=3 disk; }; try gpt-hybrid make
gpt4k() { blank 64M; device=$(losetup --sector-size 4096 --find --show disk); printf 'label: gpt\n,8M,L\n,8M,U\n' | sfdisk --quiet --no-reread --no-tell-kernel "$device"; sync; losetup --detach "$device"; }
make() { gpt4k; }; try gpt-4k make
make() { blank 32M; table dos 'start=2048,size=8192,type=7,bootable\nsize=8192,type=83\nsize=8192,type=5\n'; inside part 4M mkfs.ext4 -q -L root; dd if=part of=disk bs=512 seek=10240 conv=notrunc status=none; rm part; }; try mbr make
make() { blank 8M; table sun 'size=4096\n'; }; try sun make
make() { blank 8M; table sgi 'size=4096\n'; }; try sgi make
rm -f disk part
