#!/bin/sh
# Packs kubelet as a Debian package and puts it into a flat, signed apt repository, as a vendor of Kubernetes
# packages does. Runs apart from the host: its mounts vanish with it.
#
#   pack.sh LAB PROGRAMS OUT
#
# LAB       the lab tree: dpkg-deb, apt-ftparchive and gpg are taken from it
# PROGRAMS  folder with kubelet and VERSION
# OUT       gets the package, Packages, Release, InRelease and keyring.asc
set -eu
lab=$1 programs=$2 out=$3

mount -t tmpfs -o mode=1777 tmpfs "$lab/tmp"
mount -t proc proc "$lab/proc"
mount --rbind /dev "$lab/dev"
mkdir "$lab/tmp/programs" "$lab/tmp/out"
mount --bind "$programs" "$lab/tmp/programs"
mount --bind "$out" "$lab/tmp/out"

chroot "$lab" sh -eu <<'IN'
export LC_ALL=C PATH=/usr/sbin:/usr/bin HOME=/tmp GNUPGHOME=/tmp/gnupg
version=$(cat /tmp/programs/VERSION)

# Dependencies like those of the packages of the Kubernetes project, which bring the network plugins as
# kubernetes-cni; Debian's own package of the same plugins is containernetworking-plugins.
mkdir -p /tmp/kubelet/DEBIAN /tmp/kubelet/usr/bin
cp /tmp/programs/kubelet /tmp/kubelet/usr/bin/kubelet
chmod 0755 /tmp/kubelet/usr/bin/kubelet
cat > /tmp/kubelet/DEBIAN/control <<CONTROL
Package: kubelet
Version: $version-1
Architecture: amd64
Maintainer: Shelfboot test world <nobody@invalid>
Section: admin
Priority: optional
Depends: conntrack, containernetworking-plugins, ebtables, ethtool, iproute2, iptables, mount, socat, util-linux
Description: Kubernetes node agent
 Built from Debian's source package for the test world. Brings no unit: the profile does.
CONTROL
find /tmp/kubelet -exec touch -h -d @0 {} +
dpkg-deb --root-owner-group -Zgzip -z1 --build /tmp/kubelet "/tmp/out/kubelet_${version}-1_amd64.deb" >/dev/null
chmod 0644 /tmp/out/*.deb

cd /tmp/out
apt-ftparchive packages . > Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=shelfboot-test -o APT::FTPArchive::Release::Suite=./ \
  release . > /tmp/Release
mv /tmp/Release Release

# The private key never leaves this tmpfs: the repository is signed once and never changes.
mkdir -m 0700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key 'Shelfboot test packages <nobody@invalid>' rsa3072 sign never
gpg --batch --quiet --armor --export > keyring.asc
gpg --batch --quiet --clearsign --output InRelease Release
gpgconf --kill all
IN
