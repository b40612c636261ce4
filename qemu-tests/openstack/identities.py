"""Users, roles, projects and the catalog, through Keystone's own API."""
import json, os, urllib.request
env = dict(l.strip().split("=", 1) for l in open("/region/settings") if "=" in l and not l.startswith("#"))
A = env["REGION_ADDRESS"]; K = f"http://{A}:5000/v3"
token = None
def call(method, path, body=None):
    r = urllib.request.Request(K + path, method=method, data=None if body is None else json.dumps(body).encode(),
                               headers={"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})})
    with urllib.request.urlopen(r) as a:
        t = a.read(); return a.headers, json.loads(t) if t else None
def password(user, pw): return {"methods": ["password"], "password": {"user": {"name": user, "domain": {"id": "default"}, "password": pw}}}
h, _ = call("POST", "/auth/tokens", {"auth": {"identity": password("admin", env["ADMIN_PASSWORD"]), "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}})
token = h["X-Subject-Token"]
roles = {r["name"]: r["id"] for r in call("GET", "/roles")[1]["roles"]}
service = call("POST", "/projects", {"project": {"name": "service", "domain_id": "default"}})[1]["project"]["id"]
call("POST", "/projects", {"project": {"name": "demo", "domain_id": "default"}})
def user(name, pw, domain="default"): return call("POST", "/users", {"user": {"name": name, "password": pw, "domain_id": domain}})[1]["user"]["id"]
def grant_project(u, project, role): call("PUT", f"/projects/{project}/users/{u}/roles/{roles[role]}")
for name in ("nova", "placement", "glance", "neutron"):
    u = user(name, env["SERVICE_PASSWORD"])
    grant_project(u, service, "admin"); grant_project(u, service, "service")
for kind, name, url in (("placement", "placement", f"http://{A}:8778"), ("compute", "nova", f"http://{A}:8774/v2.1"), ("image", "glance", f"http://{A}:9292"), ("network", "neutron", f"http://{A}:9696")):
    s = call("POST", "/services", {"service": {"type": kind, "name": name}})[1]["service"]["id"]
    for i in ("public", "internal"):
        call("POST", "/endpoints", {"endpoint": {"service_id": s, "interface": i, "region_id": env["REGION_NAME"], "url": url}})
# The broker's domain: it manages users here and nowhere else; a group holds the role that nova-compute needs.
roles["compute_registrar"] = call("POST", "/roles", {"role": {"name": "compute_registrar"}})[1]["role"]["id"]
domain = call("POST", "/domains", {"domain": {"name": "hypervisors"}})[1]["domain"]["id"]
group = call("POST", "/groups", {"group": {"name": "nova-compute", "domain_id": domain}})[1]["group"]["id"]
call("PUT", f"/projects/{service}/groups/{group}/roles/{roles['service']}")
b = user("broker", env["BROKER_PASSWORD"], domain)
call("PUT", f"/domains/{domain}/users/{b}/roles/{roles['manager']}")
grant_project(b, service, "compute_registrar")
