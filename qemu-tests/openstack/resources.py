"""Flavors, through Nova's own API."""
import json, urllib.request
env = dict(l.strip().split("=", 1) for l in open("/region/settings") if "=" in l and not l.startswith("#"))
A = env["REGION_ADDRESS"]
def call(method, url, body=None, token=None):
    r = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode(),
                               headers={"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})})
    with urllib.request.urlopen(r) as a:
        t = a.read(); return a.headers, json.loads(t) if t else None
h, _ = call("POST", f"http://{A}:5000/v3/auth/tokens", {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "domain": {"id": "default"}, "password": env["ADMIN_PASSWORD"]}}}, "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}})
call("POST", f"http://{A}:8774/v2.1/flavors", {"flavor": {"id": "m1.nano", "name": "m1.nano", "vcpus": 1, "ram": 64, "disk": 0}}, h["X-Subject-Token"])
