"""Holds the lists and the provenance of an image against the formats' own validators.

sbom.py REPOSITORY TEMPLATE VERSION: prints one line per check, ends with 1 at the first that fails. Each validator also gets
a damaged document, which it has to refuse: a check that cannot fail says nothing.
"""

import base64
import copy
import hashlib
import json
import logging
import pathlib
import sys
import tempfile

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from license_expression import get_spdx_licensing
from packageurl import PackageURL
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key
from spdx_tools.spdx.parser.error import SPDXParsingError
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def check(what, good, detail=""):
    if not good:
        sys.exit(f"FAILED {what} {detail}".rstrip())
    print(f"ok {what}", flush=True)


class Repository:
    """The newest signed list of targets, and the files that it names, checked by digest."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        metadata = self.folder / "metadata"
        newest = max(metadata.glob("*.targets.json"), key=lambda path: int(path.name.split(".")[0]))
        self.targets = json.loads(newest.read_bytes())["signed"]["targets"]
        self.root = json.loads((metadata / "1.root.json").read_bytes())["signed"]

    def read(self, name):
        digest = self.targets[name]["hashes"]["sha256"]
        content = (self.folder / "targets" / f"{digest}.{name}").read_bytes()
        check(f"{name} has the digest that TUF names", hashlib.sha256(content).hexdigest() == digest)
        return content

    def holds(self, name, digest):
        """A target by its digest, which a later build may have replaced since, or a plain file: an archive."""
        target = self.folder / "targets" / f"{digest}.{name}"
        path = target if target.exists() else self.folder / name
        return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def cyclonedx(content):
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    problem = validator.validate_str(content.decode())
    check("CycloneDX 1.6: the strict schema", problem is None, problem)
    document = json.loads(content)
    damaged = copy.deepcopy(document)
    damaged["components"][0]["colour"] = "red"
    check("CycloneDX 1.6: a damaged list is refused", validator.validate_str(json.dumps(damaged)) is not None)

    model = Bom.from_json(document)
    check("CycloneDX 1.6: the library's model takes it, every reference leads somewhere", model.validate())
    parts = document["components"]
    known = {part["bom-ref"] for part in parts} | {document["metadata"]["component"]["bom-ref"]}
    named = {name for entry in document["dependencies"] for name in [entry["ref"], *entry.get("dependsOn", [])]}
    check("CycloneDX 1.6: dependencies name parts of the list", named <= known, named - known)

    licensing = get_spdx_licensing()
    packages = [part for part in parts if "purl" in part]
    for package in packages:
        url = PackageURL.from_string(package["purl"])
        same = (url.type, url.name, url.version) == ("deb", package["name"], package["version"])
        if not same or url.to_string() != package["purl"] or not url.qualifiers.get("arch"):
            check("package URLs", False, package["purl"])
        for licence in package.get("licenses", []):
            problems = licensing.validate(licence["expression"])
            strange = [name for name in problems.invalid_symbols if not name.startswith("LicenseRef-")]
            if strange or (problems.errors and not problems.invalid_symbols):
                check("licences are SPDX expressions", False, f"{package['name']}: {problems.errors}")
        silent = any(entry["name"] == "shelfboot:why-no-licence" for entry in package["properties"])
        if silent == bool(package.get("licenses")):
            check("a package has a licence or says why not", False, package["name"])
    check("package URLs are well-formed and say name and version", True)
    check("licences are SPDX expressions", True)
    check("a package has a licence or says why not", True)

    vendors = {package["name"]: PackageURL.from_string(package["purl"]).namespace for package in packages}
    foreign = {name: vendor for name, vendor in vendors.items() if vendor not in ("debian", "shelfboot")}
    check("only the kubelet is from the template's own repository", foreign == {"kubelet": "kubernetes"}, foreign)
    names = {package["name"] for package in packages}
    wanted = {"libc6", "systemd", "linux-image-amd64", "cryptsetup-bin", "systemd-boot-efi"}
    check("the kernel, the root's and the boot image's packages are there", wanted <= names, wanted - names)
    files = {file["name"]: part for part in parts if part["bom-ref"] != "initrd" for file in part.get("components", [])}
    origins = {
        "/usr/lib/systemd/systemd": "systemd",
        "/usr/lib/shelfboot/firstboot-agent": "firstboot-agent",
        "/etc/ld.so.cache": "ldconfig",
    }
    for path, origin in origins.items():
        check(f"{path} comes from {origin}", files[path]["name"] == origin, files[path]["name"])
    licensed = sum(1 for package in packages if package.get("licenses"))
    print(f"{len(packages)} packages, {licensed} of them with a licence; {len(files)} files; {len(content)} bytes")
    return {(package["name"], package["version"]) for package in packages}, files


def spdx(content, packages, files):
    def parse(document):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "list.spdx.json"
            path.write_text(json.dumps(document))
            return parse_file(str(path))

    document = json.loads(content)
    parsed = parse(document)
    messages = validate_full_spdx_document(parsed)
    check("SPDX 2.3: the validator has nothing to say", not messages, [str(m.validation_message) for m in messages[:5]])
    damaged = copy.deepcopy(document)
    damaged["files"], damaged["relationships"] = damaged["files"][:9], []
    damaged["packages"] = damaged["packages"][:9]
    damaged["files"][0]["checksums"] = damaged["files"][0]["checksums"][1:]
    check("SPDX 2.3: a list without a digest is refused", validate_full_spdx_document(parse(damaged)))
    damaged["packages"][1]["licenseDeclared"] = "MIT AND"
    try:
        parse(damaged)
        refused = False
    except SPDXParsingError:
        refused = True
    check("SPDX 2.3: a broken licence expression is refused", refused)

    urls = [package for package in document["packages"] if package.get("externalRefs")]
    check("SPDX and CycloneDX name the same packages", {(p["name"], p["versionInfo"]) for p in urls} == packages)
    listed = {file["fileName"][1:] for file in document["files"] if file["SPDXID"].startswith("SPDXRef-Root-")}
    links = {path for path in files if path not in listed}
    check("SPDX has every file of CycloneDX but links", listed <= set(files) and is_links(files, links))
    print(f"{len(document['files'])} files; {len(content)} bytes")


def is_links(files, paths):
    holders = {id(files[path]): files[path] for path in paths}
    links = {
        file["name"]
        for holder in holders.values()
        for file in holder["components"]
        if any(entry["name"] == "shelfboot:link" for entry in file["properties"])
    }
    return paths <= links


def provenance(repository, content, template, version):
    keys = [Key.from_dict(name, repository.root["keys"][name]) for name in repository.root["roles"]["targets"]["keyids"]]
    envelope = Envelope.from_dict(json.loads(content))
    signers = envelope.verify(keys, threshold=1)
    check("DSSE: a key of the role targets signed it", len(signers) >= 1)

    def refused(envelope, keys):
        try:
            envelope.verify(keys, threshold=1)
            return False
        except VerificationError:
            return True

    payload = bytearray(envelope.payload)
    payload[len(payload) // 2] ^= 1
    changed = Envelope(bytes(payload), envelope.payload_type, envelope.signatures)
    check("DSSE: one flipped bit is refused", refused(changed, keys))
    others = [Key.from_dict(n, k) for n, k in repository.root["keys"].items() if n not in repository.root["roles"]["targets"]["keyids"]]
    check("DSSE: another role's keys are refused", others and refused(envelope, others))
    check("DSSE: it is an in-toto payload", envelope.payload_type == "application/vnd.in-toto+json")

    # Unknown fields are errors here.
    statement = json_format.Parse(envelope.payload, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    check("in-toto: a valid statement, version 1", statement.predicate_type == "https://slsa.dev/provenance/v1")
    predicate = json_format.MessageToDict(statement.predicate)
    parsed = json_format.ParseDict(predicate, provenance_pb2.Provenance())
    build = parsed.build_definition
    check("SLSA: valid provenance, version 1", bool(build.build_type and parsed.run_details.builder.id))
    check("SLSA: what was asked for is in it", build.external_parameters["template"] == template)
    metadata = parsed.run_details.metadata
    named = metadata.invocation_id and metadata.started_on.seconds <= metadata.finished_on.seconds
    check("SLSA: the run is named, and ended after it began", named)
    unpinned = [package.uri for package in build.resolved_dependencies if not package.digest.get("sha256")]
    own = [uri for uri in unpinned if uri.startswith("pkg:deb/shelfboot/")]
    check("SLSA: every dependency has a digest, but the empty package that the build makes", unpinned == own, unpinned)
    subjects = {subject.name: subject.digest["sha256"] for subject in statement.subject}
    wrong = [name for name, digest in subjects.items() if not repository.holds(name, digest)]
    check("SLSA: every subject is in the repository", not wrong, wrong)
    mine = {name for name in repository.targets if name.startswith(f"images/{template}/{version}/")}
    mine.discard(f"images/{template}/{version}/provenance.dsse.json")
    check("SLSA: every file of the image is a subject", mine <= set(subjects), mine - set(subjects))
    print(f"{len(subjects)} subjects, {len(build.resolved_dependencies)} dependencies; {len(content)} bytes")


def main(folder, template, version):
    # The SPDX parser says on the log what it also raises.
    logging.disable(logging.CRITICAL)
    repository = Repository(folder)
    image = f"images/{template}/{version}"
    packages, files = cyclonedx(repository.read(f"{image}/sbom.cdx.json"))
    spdx(repository.read(f"{image}/sbom.spdx.json"), packages, files)
    provenance(repository, repository.read(f"{image}/provenance.dsse.json"), template, version)


main(*sys.argv[1:])
