#!/bin/bash
# build.sh MIRROR TREE: makes the prepared tree of the region "e2e".
# Runs as root, or as root of a user namespace (unshare --map-root-user --map-auto --mount --pid --fork --mount-proc).
set -euo pipefail
MIRROR=$1 TREE=$2
HERE=$(cd "$(dirname "$0")" && pwd)
began=$SECONDS
step() { echo "build: $((SECONDS - began)) s: $*"; }

packages=iproute2,procps,curl,ca-certificates,netbase
packages+=,mariadb-server,rabbitmq-server,keystone,placement-api,nova-api,nova-conductor,nova-scheduler,glance-api,neutron-api
packages+=,uwsgi-core,uwsgi-plugin-python3,python3-pymysql,python3-openstackclient

mmdebstrap --variant=minbase --mode=root --quiet --skip=chroot/mount/sys \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='force-unsafe-io' \
  --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"' \
  --essential-hook='chroot "$1" debconf-set-selections <"'"$HERE"'/debconf"' \
  --aptopt='Acquire::Retries "3"' --include="$packages" trixie "$TREE" "deb $MIRROR trixie main"
step packages installed

mkdir "$TREE/region"
cp -a "$HERE/." "$TREE/region/"
unshare --mount --net --pid --fork --kill-child bash "$HERE/in-tree.sh" "$TREE" bash /region/prepare.sh
step prepared
