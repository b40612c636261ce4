"""One update by python-tuf's client: client.py STATE BASE-URL ROOT.json TARGET...

STATE is the folder in which the client keeps what it trusts, as a machine keeps it from boot to boot. Prints one JSON
object: versions of the roles and SHA-256 of the targets, or the class of the error and what it says.
"""

import hashlib
import json
import pathlib
import sys

from tuf.ngclient import Updater


def update(state: pathlib.Path, base: str, root: bytes, names: list[str]) -> dict:
    metadata, targets = state / "metadata", state / "targets"
    for folder in (metadata, targets):
        folder.mkdir(parents=True, exist_ok=True)
    # The root is believed the first time only; afterwards the client has its own.
    bootstrap = None if (metadata / "root.json").exists() else root
    updater = Updater(str(metadata), f"{base}/metadata/", str(targets), f"{base}/targets/", bootstrap=bootstrap)
    updater.refresh()
    digests = {}
    for name in names:
        info = updater.get_targetinfo(name)
        if info is None:
            raise LookupError(name)
        path = updater.find_cached_target(info) or updater.download_target(info)
        digests[name] = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    roles = ("root", "timestamp", "snapshot", "targets")
    versions = {role: json.loads((metadata / f"{role}.json").read_text())["signed"]["version"] for role in roles}
    return {"versions": versions, "targets": digests}


def main() -> None:
    state, base, root, *names = sys.argv[1:]
    try:
        result = update(pathlib.Path(state), base, pathlib.Path(root).read_bytes(), names)
    except Exception as error:  # The tests look at its class, whichever it is.
        result = {"error": type(error).__name__, "message": str(error)}
    json.dump(result, sys.stdout)


main()
