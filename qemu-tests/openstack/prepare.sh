#!/bin/bash
# Prepares the tree, inside it, in a network namespace of its own: everything that does not belong to one run.
set -euo pipefail
. /region/services.sh
ip link set lo up
ip addr add $REGION_ADDRESS/32 dev lo

printf '127.0.0.1 localhost\n' >/etc/hosts
echo localhost >/etc/hostname
rm -f /etc/resolv.conf
chown -R root: /var/lib/mysql /var/lib/rabbitmq /var/log/rabbitmq

# --- configuration
cat >/etc/mysql/mariadb.conf.d/90-region.cnf <<EOF
[mariadbd]
bind-address = 127.0.0.1
skip-name-resolve
performance_schema = OFF
innodb_buffer_pool_size = 64M
innodb_log_file_size = 16M
innodb_flush_log_at_trx_commit = 0
innodb_doublewrite = OFF
innodb_use_native_aio = OFF
max_connections = 300
skip-log-bin
EOF
cat >/etc/rabbitmq/rabbitmq.conf <<EOF
listeners.tcp.default = 5672
management.tcp.port = 15672
loopback_users = none
log.console = true
log.console.level = info
log.file = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
EOF
cat >/etc/rabbitmq/rabbitmq-env.conf <<EOF
NODENAME=rabbit@localhost
SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
EOF
echo '[rabbitmq_management].' >/etc/rabbitmq/enabled_plugins

auth() { # USER
  cat <<EOF
auth_type = password
auth_url = http://$REGION_ADDRESS:5000/v3
username = $1
password = $SERVICE_PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = $REGION_NAME
EOF
}
db() { echo "mysql+pymysql://region:$DATABASE_PASSWORD@127.0.0.1/$1?charset=utf8"; }

cat >/etc/keystone/keystone.conf <<EOF
[DEFAULT]
use_stderr = true
[database]
connection = $(db keystone)
[token]
provider = fernet
[fernet_tokens]
max_active_keys = 3
[identity]
password_hash_rounds = 4
EOF
cat >/etc/placement/placement.conf <<EOF
[DEFAULT]
use_stderr = true
[placement_database]
connection = $(db placement)
[keystone_authtoken]
www_authenticate_uri = http://$REGION_ADDRESS:5000
# so that a revoked host's token ends at once
token_cache_time = -1
$(auth placement)
EOF
cat >/etc/glance/glance-api.conf <<EOF
[DEFAULT]
use_stderr = true
enabled_backends = fs:file
[database]
connection = $(db glance)
[glance_store]
default_backend = fs
[fs]
filesystem_store_datadir = /var/lib/glance/images
[keystone_authtoken]
www_authenticate_uri = http://$REGION_ADDRESS:5000
$(auth glance)
[paste_deploy]
flavor = keystone
EOF
cat >/etc/nova/nova.conf <<EOF
[DEFAULT]
use_stderr = true
host = region
my_ip = $REGION_ADDRESS
enabled_apis = osapi_compute
osapi_compute_workers = 1
rpc_response_timeout = 20
state_path = /var/lib/nova
transport_url = rabbit://nova:$RABBIT_NOVA_PASSWORD@127.0.0.1:5672/
[api_database]
connection = $(db nova_api)
[database]
connection = $(db nova)
[api]
auth_strategy = keystone
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = -1
[keystone_authtoken]
www_authenticate_uri = http://$REGION_ADDRESS:5000
$(auth nova)
[service_user]
send_service_user_token = true
$(auth nova)
[placement]
$(auth nova)
[glance]
region_name = $REGION_NAME
[neutron]
$(auth nova)
[cinder]
os_region_name = $REGION_NAME
[oslo_messaging_rabbit]
rabbit_retry_backoff = 0
[oslo_concurrency]
lock_path = /var/lib/nova/tmp
EOF
cat >/etc/neutron/neutron.conf <<EOF
[DEFAULT]
use_stderr = true
core_plugin = ml2
service_plugins =
transport_url = rabbit://nova:$RABBIT_NOVA_PASSWORD@127.0.0.1:5672/
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
api_workers = 1
rpc_workers = 0
[ml2]
# No agents, no networks to attach to: servers here are made without any.
mechanism_drivers =
type_drivers = local
tenant_network_types = local
extension_drivers =
[database]
connection = $(db neutron)
[keystone_authtoken]
www_authenticate_uri = http://$REGION_ADDRESS:5000
$(auth neutron)
[oslo_concurrency]
lock_path = /var/lib/neutron/lock
EOF
mkdir -p /etc/openstack
cat >/etc/openstack/clouds.yaml <<EOF
clouds:
  admin:
    region_name: $REGION_NAME
    auth:
      auth_url: http://$REGION_ADDRESS:5000/v3
      username: admin
      password: $ADMIN_PASSWORD
      project_name: admin
      user_domain_name: Default
      project_domain_name: Default
EOF
. /region/policy.sh

# --- databases
start mariadb; wait_for mariadb
{
  for d in keystone placement glance neutron nova nova_api nova_cell0; do echo "CREATE DATABASE $d CHARACTER SET utf8mb4;"; done
  echo "CREATE USER region@'127.0.0.1' IDENTIFIED BY '$DATABASE_PASSWORD'; GRANT ALL ON *.* TO region@'127.0.0.1';"
} | mariadb
start rabbitmq
took() {
  local from=$EPOCHREALTIME
  "$@" || { echo "prepare: failed: ${*:1:3}" >&2; return 1; }
  printf 'prepare: %5.1f s %s\n' "$(echo "$EPOCHREALTIME $from" | awk '{print $1-$2}')" "${*:1:3}"
}
quiet() { "$@" >>$LOGS/prepare.log 2>&1 || { tail -20 $LOGS/prepare.log >&2; return 1; }; }
nova_schemas() {
  quiet nova-manage api_db sync
  quiet nova-manage cell_v2 map_cell0 --database_connection "$(db nova_cell0)"
  quiet nova-manage db sync
  quiet nova-manage cell_v2 create_cell --name cell1
}
took nova_schemas & nova_job=$!
took quiet glance-manage db sync & glance_job=$!
took quiet placement-manage db sync & placement_job=$!
took quiet neutron-db-manage upgrade heads & neutron_job=$!
took quiet keystone-manage db_sync
wait $placement_job; wait $glance_job; wait $neutron_job; wait $nova_job
mkdir -p /etc/keystone/fernet-keys
quiet keystone-manage fernet_setup --keystone-user root --keystone-group root
took quiet keystone-manage bootstrap --bootstrap-password "$ADMIN_PASSWORD" --bootstrap-region-id "$REGION_NAME" \
  --bootstrap-public-url "http://$REGION_ADDRESS:5000/v3" --bootstrap-internal-url "http://$REGION_ADDRESS:5000/v3" --bootstrap-admin-url "http://$REGION_ADDRESS:5000/v3"

# --- the message bus' users
wait_for rabbitmq; wait_for rabbitmq rabbitmq_api
rabbit() { # METHOD PATH [BODY]: through the management API
  curl -sS -f -u "${RABBIT_AS:-guest:guest}" -X "$1" -H 'content-type: application/json' ${3:+-d "$3"} "http://127.0.0.1:15672/api/$2"
}
rabbit PUT users/nova "{\"password\":\"$RABBIT_NOVA_PASSWORD\",\"tags\":\"\"}"
rabbit PUT permissions/%2F/nova '{"configure":".*","write":".*","read":".*"}'
rabbit PUT users/registrar "{\"password\":\"$REGISTRAR_RABBIT_PASSWORD\",\"tags\":\"administrator\"}"
rabbit PUT permissions/%2F/registrar '{"configure":"^$","write":"^$","read":"^$"}'
RABBIT_AS="registrar:$REGISTRAR_RABBIT_PASSWORD" rabbit DELETE users/guest

# --- identities and catalog
start keystone; wait_for keystone
took python3 /region/identities.py

# --- first start of the rest: nova writes its service records once
for s in placement glance nova_api nova_conductor nova_scheduler; do start $s; done
for s in placement glance nova_api nova_conductor nova_scheduler; do wait_for $s; done
kill "${PIDS[nova_conductor]}" "${PIDS[nova_scheduler]}"; wait "${PIDS[nova_conductor]}" "${PIDS[nova_scheduler]}" || true
kill "${PIDS[nova_api]}" "${PIDS[glance]}" "${PIDS[placement]}" "${PIDS[keystone]}"
(cd /var/lib/rabbitmq; HOME=/var/lib/rabbitmq quiet /usr/lib/rabbitmq/bin/rabbitmqctl -n rabbit@localhost shutdown)
mariadb-admin shutdown
wait "${PIDS[rabbitmq]}" "${PIDS[mariadb]}" || true
epmd -kill >/dev/null 2>&1 || true
rm -rf $LOGS/*; mkdir -p $LOGS
