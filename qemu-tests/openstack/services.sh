# Sourced in the tree: how each service is started and seen to be ready.
. /region/settings
LOGS=/var/log/region
mkdir -p $LOGS /run/mysqld
export RABBITMQ_NODENAME=rabbit@localhost ERL_EPMD_ADDRESS=127.0.0.1
export PYTHONUNBUFFERED=1

service_mariadb() { exec mariadbd --user=root >$LOGS/mariadb.log 2>&1; }
ready_mariadb() { mariadb-admin --silent ping >/dev/null 2>&1; }

service_rabbitmq() {
  cd /var/lib/rabbitmq; export HOME=/var/lib/rabbitmq
  exec /usr/lib/rabbitmq/bin/rabbitmq-server >$LOGS/rabbitmq.log 2>&1
}
ready_rabbitmq() { listening 5672; }
ready_rabbitmq_api() { answers http://127.0.0.1:15672/api/overview 401; }

wsgi() { # NAME PORT FILE
  exec uwsgi_python3 --need-app --master --die-on-term --lazy-apps --buffer-size 65535 --rem-header Content-Length \
    --add-header 'Connection: close' \
    --enable-threads --processes 1 --threads "${4:-4}" --listen 100 --disable-logging --procname-prefix "$1 " \
    --http-socket "0.0.0.0:$2" --wsgi-file "$3" >$LOGS/$1.log 2>&1
}
service_keystone() { wsgi keystone 5000 /usr/bin/keystone-wsgi-public; }
ready_keystone() { answers http://127.0.0.1:5000/v3 200; }
service_placement() { wsgi placement 8778 /usr/bin/placement-api; }
ready_placement() { answers http://127.0.0.1:8778/ 200; }
# Not uwsgi: with eventlet in several uwsgi threads an RPC's reply is never seen (os-hypervisors/ID: 60 s, then 500).
service_nova_api() { exec nova-api >$LOGS/nova-api.log 2>&1; }
ready_nova_api() { answers http://127.0.0.1:8774/ 200; }
service_glance() { wsgi glance 9292 /usr/bin/glance-wsgi-api; }
ready_glance() { answers http://127.0.0.1:9292/versions 200; }
service_neutron() { wsgi neutron 9696 /usr/bin/neutron-api; }
ready_neutron() { answers http://127.0.0.1:9696/ 200; }
service_nova_conductor() { exec nova-conductor >$LOGS/nova-conductor.log 2>&1; }
service_nova_scheduler() { exec nova-scheduler >$LOGS/nova-scheduler.log 2>&1; }
ready_nova_conductor() { consumed conductor; }
ready_nova_scheduler() { consumed scheduler; }

listening() { (exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null; }
answers() { [ "$(curl -s -o /dev/null -m 5 -w '%{http_code}' "$1")" = "$2" ]; }
consumed() { # TOPIC: its queue exists; queues are transient, so a process of THIS start declared it (the API's consumer lists lag 5 s behind)
  [ "$(curl -s -o /dev/null -m 5 -u "registrar:$REGISTRAR_RABBIT_PASSWORD" -w '%{http_code}' "http://127.0.0.1:15672/api/queues/%2F/$1")" = 200 ]
}
start() { "service_$1" & PIDS[$1]=$!; STARTED[$1]=$EPOCHREALTIME; }
wait_for() { # NAME [READY]
  local name=$1 what=${2:-$1} tries=0
  until "ready_$what"; do
    if ! kill -0 "${PIDS[$name]}" 2>/dev/null; then echo "region: $name has ended:" >&2; tail -20 $LOGS/${name//_/-}.log >&2; return 1; fi
    if ((tries++ > 1200)); then echo "region: $name not ready" >&2; return 1; fi
    sleep 0.1
  done
  printf 'region: %-16s %5.1f s after its start, %5.1f s after ours\n' "$what" \
    "$(echo "$EPOCHREALTIME ${STARTED[$name]}" | awk '{print $1-$2}')" "$(echo "$EPOCHREALTIME $BEGAN" | awk '{print $1-$2}')"
}
declare -A PIDS STARTED
BEGAN=$EPOCHREALTIME
