"""The site's bill of materials, in CycloneDX's JSON (1.6): each part with version, licence, hash and files.

Every file of the site stands in it once, below the part that it belongs to; tests/unit/build_tools/test_sbom.py holds
the two against each other. It is made from what the packages say of themselves, by nothing but the standard library, so
that a build needs no more packages for it; the tests hold it against CycloneDX's own schema.
"""

from __future__ import annotations

import base64
import json
import uuid
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from build_tools.base import ROOT, BuildError, FileHashes, hash_bytes

SBOM = "sbom.cdx.json"
# Licences of wheels that name none as an SPDX expression.
WHEEL_LICENCES = {
    "jinja2": "BSD-3-Clause",
    "micropip": "MPL-2.0",
    "numpy": "BSD-3-Clause",
    "packaging": "Apache-2.0 OR BSD-2-Clause",
}
# npm packages whose file in the site has others of what they need inside; what else they need is not in it.
BUNDLED = {
    "@preact/signals": ("@preact/signals-core",),
    "markdown-it": ("entities", "linkify-it", "mdurl", "punycode.js", "uc.micro"),
}
LEFT_OUT = {"markdown-it": ("argparse",), "pyodide": ("ws",)}  # for a command line, and for Node
# Which files a part has where it is not a folder of vendor/ or one wheel.
OWN = ("assets/", "bench/", "samples/", "start/", "wheels/lora_lab", "wheels/index.json", "models/index.json")

Component = dict[str, Any]


def make_sbom(
    files: dict[str, bytes | Path], version: str, models: dict, vendored: list[str], npm: Path, hashes: FileHashes
) -> bytes:
    """Return the bill of a site with these `files`, of this `version` of the program.

    `models` is what models/index.json says, `vendored` the npm packages under vendor/, `npm` the folder node_modules.
    """
    left = {
        name: hash_bytes(content) if isinstance(content, bytes) else hashes.sha256(content)
        for name, content in sorted(files.items())
    }

    def take(*beginnings: str) -> list[Component]:
        """Return the files that begin so; nobody else gets them."""
        taken = [name for name in left if name.startswith(beginnings)]
        return [_file(name, left.pop(name)) for name in taken]

    components = []
    for name, content in files.items():
        if name.endswith(".whl") and isinstance(content, Path) and not name.startswith(OWN):
            components.append({**_wheel(content, left[name]), "components": take(name)})
    for package in ["pyodide", *vendored]:
        inside = [_npm(other, npm) for other in BUNDLED.get(package, ())]
        if package == "pyodide":
            inside += _pyodide_contents(npm / "pyodide")
            where = "pyodide/"
        else:
            where = f"vendor/{package.rpartition('/')[2]}/"
        components.append({**_npm(package, npm), "components": inside + take(where)})
    for model_id, about in models["models"].items():
        components.append({**_model(model_id, about), "components": take(f"models/{model_id}/")})
    own = _component("application", "lora-lab", version, f"pkg:pypi/lora-lab@{version}", "Apache-2.0")
    own["components"] = take("")
    for entry in own["components"]:
        if "/" in entry["name"] and not entry["name"].startswith(OWN):
            raise BuildError(f"{entry['name']} belongs to no part that {Path(__file__).name} knows")
    return _document(own, sorted(components, key=lambda one: str(one["bom-ref"])))


def _document(own: Component, components: list[Component]) -> bytes:
    main = {**own, "bom-ref": "lora-lab"}
    content = {
        "metadata": {"component": main},
        "components": components,
        "dependencies": [{"ref": "lora-lab", "dependsOn": [one["bom-ref"] for one in components]}],
    }
    # The number is the content's: the same site has the same bill, to the byte. So there is no time in it either.
    number = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": f"urn:uuid:{number}"}
    return (json.dumps({**head, **content}, indent=1) + "\n").encode()


def _component(kind: str, name: str, version: str | None, purl: str | None, licence: str | None) -> Component:
    made: Component = {"type": kind, "name": name, "bom-ref": purl or name}
    if version:
        made["version"] = version
    if purl:
        made["purl"] = purl
    if licence:
        plain = licence.strip("()")
        made["licenses"] = [{"expression": plain}] if " " in plain else [{"license": {"id": plain}}]
    return made


def _file(name: str, sha256: str) -> Component:
    return {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}]}


def _npm(package: str, npm: Path) -> Component:
    """Return an npm package; its hash is that of the archive, which package-lock.json names and npm checks."""
    about = json.loads((npm / package / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    integrity = lock["packages"][f"node_modules/{package}"]["integrity"].removeprefix("sha512-")
    purl = f"pkg:npm/{package.replace('@', '%40')}@{about['version']}"
    made = _component("library", package, about["version"], purl, about["license"])
    return {**made, "hashes": [{"alg": "SHA-512", "content": base64.b64decode(integrity).hex()}]}


def _pyodide_contents(package: Path) -> list[Component]:
    """Return what is compiled into Pyodide: Python, by the toolchain whose runtime is in it too."""
    info = json.loads((package / "pyodide-lock.json").read_text(encoding="utf-8"))["info"]
    emscripten = info["platform"].removeprefix("emscripten_").replace("_", ".")
    python = info["python"]
    return [
        _component("platform", "cpython", python, f"pkg:generic/cpython@{python}", "Python-2.0"),
        _component("library", "emscripten", emscripten, f"pkg:generic/emscripten@{emscripten}", "MIT OR NCSA"),
    ]


def _wheel(path: Path, sha256: str) -> Component:
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(archive.read(name).decode("utf-8"), headersonly=True)
    package, version = about["Name"].lower(), about["Version"]
    licence = about["License-Expression"] or WHEEL_LICENCES.get(package)
    if licence is None:
        raise BuildError(f"{path.name} names no licence as an SPDX expression: say it in {Path(__file__).name}")
    made = _component("library", package, version, f"pkg:pypi/{package}@{version}", licence)
    return {**made, "hashes": [{"alg": "SHA-256", "content": sha256}]}


def _model(model_id: str, about: dict) -> Component:
    base = about.get("base_model")
    purl = f"pkg:huggingface/{base}" if base else None
    made = _component("machine-learning-model", about["title"] or model_id, None, purl, about.get("license"))
    return {**made, "bom-ref": f"model:{model_id}"}
