#!/bin/bash
# The region's first process: starts every service, says when each is ready, waits.
set -euo pipefail
. /region/services.sh
start mariadb; start rabbitmq
wait_for mariadb
for s in nova_conductor nova_scheduler nova_api keystone placement glance neutron; do start $s; done
wait_for rabbitmq
wait_for keystone; wait_for placement; wait_for nova_api; wait_for glance; wait_for neutron
wait_for rabbitmq rabbitmq_api
wait_for nova_conductor; wait_for nova_scheduler
printf 'region: ready in %.1f s\n' "$(echo "$EPOCHREALTIME $BEGAN" | awk '{print $1-$2}')"
wait -n || true
echo "region: a service has ended" >&2
for s in "${!PIDS[@]}"; do kill -0 "${PIDS[$s]}" 2>/dev/null || { echo "region: $s" >&2; tail -20 $LOGS/${s//_/-}.log >&2; }; done
exit 1
