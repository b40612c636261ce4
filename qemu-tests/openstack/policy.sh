# What the role compute_registrar may do, besides what the defaults give to others: registrar/deploy/nova.md.
cat >/etc/nova/policy.d/50-registrar.yaml <<EOF
"os_compute_api:os-services:list": "rule:context_is_admin or role:compute_registrar"
"os_compute_api:os-services:update": "rule:context_is_admin or role:compute_registrar"
"os_compute_api:os-hypervisors:list": "rule:context_is_admin or role:compute_registrar"
"os_compute_api:os-hypervisors:list-detail": "rule:context_is_admin or role:compute_registrar"
"os_compute_api:os-hypervisors:show": "rule:context_is_admin or role:compute_registrar"
EOF
cat >/etc/placement/policy.d/50-registrar.yaml <<EOF
"placement:resource_providers:list": "rule:admin_or_service_api or role:compute_registrar"
"placement:resource_providers:inventories:list": "rule:admin_or_service_api or role:compute_registrar"
EOF
