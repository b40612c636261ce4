"""Users, roles, projects and the catalog, through Keystone's own API."""

import sys

sys.path.insert(0, "/region")
from region import ADDRESS, KEYSTONE, SETTINGS, administrator, call

TOKEN = administrator()


def keystone(method, path, body=None):
    return call(method, KEYSTONE + path, body, TOKEN)[1]


def make(kind, **fields):
    """Makes one thing; gives its id."""
    plural = kind[:-1] + "ies" if kind.endswith("y") else kind + "s"
    return keystone("POST", f"/{plural}", {kind: fields})[kind]["id"]


roles = {role["name"]: role["id"] for role in keystone("GET", "/roles")["roles"]}
service = make("project", name="service", domain_id="default")

for name in ("nova", "placement", "glance", "neutron"):
    user = make("user", name=name, password=SETTINGS["SERVICE_PASSWORD"], domain_id="default")
    for role in ("admin", "service"):
        keystone("PUT", f"/projects/{service}/users/{user}/roles/{roles[role]}")

for kind, name, port in (
    ("placement", "placement", "8778"),
    ("compute", "nova", "8774/v2.1"),
    ("image", "glance", "9292"),
    ("network", "neutron", "9696"),
):
    at = make("service", type=kind, name=name)
    for interface in ("public", "internal"):
        region = SETTINGS["REGION_NAME"]
        make("endpoint", service_id=at, interface=interface, region_id=region, url=f"http://{ADDRESS}:{port}")

# What registrar/deploy/nova.md asks for.
hypervisors = make("domain", name="hypervisors")
group = make("group", name="nova-compute", domain_id=hypervisors)
keystone("PUT", f"/projects/{service}/groups/{group}/roles/{roles['service']}")
roles["compute_registrar"] = make("role", name="compute_registrar")
registrar = make("user", name="registrar", password=SETTINGS["REGISTRAR_PASSWORD"], domain_id=hypervisors)
keystone("PUT", f"/domains/{hypervisors}/users/{registrar}/roles/{roles['manager']}")
keystone("PUT", f"/projects/{service}/users/{registrar}/roles/{roles['compute_registrar']}")
