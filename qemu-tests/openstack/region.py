"""Talks to the region's services while the tree is prepared. Settings come from /region/settings."""

import json
import urllib.request

SETTINGS = dict(
    line.strip().split("=", 1) for line in open("/region/settings") if "=" in line and not line.startswith("#")
)
ADDRESS = SETTINGS["REGION_ADDRESS"]
KEYSTONE = f"http://{ADDRESS}:5000/v3"


def call(method, url, body=None, token=None):
    """Gives the answer's headers and its JSON."""
    headers = {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
        return answer.headers, json.loads(text) if text else None


def administrator():
    """A token with all rights."""
    user = {"name": "admin", "domain": {"id": "default"}, "password": SETTINGS["ADMIN_PASSWORD"]}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
    headers, _ = call("POST", f"{KEYSTONE}/auth/tokens", {"auth": auth})
    return headers["X-Subject-Token"]
