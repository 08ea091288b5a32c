"""Makes dist/: a static site with relative addresses, from app/, the npm packages and the fetched parts."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from build_tools import parts
from build_tools.base import (
    CACHE,
    CHUNK_BYTES,
    ROOT,
    BuildError,
    FileHashes,
    atomic_writer,
    commit,
    hash_bytes,
    hash_tree,
    program_settings,
    setting_schema,
    write_bytes,
)
from build_tools.environment import ensure_node_modules
from build_tools.fetch import Fetcher
from build_tools.hub import HubSite
from build_tools.offline import MANIFEST, service_worker, web_manifest
from build_tools.page import bundle_page
from build_tools.policy import SERVICE_WORKER, headers_file, page_policy, site_headers
from build_tools.sbom import SBOM, make_sbom

WEB = ROOT / "app" / "web"
BENCH = ROOT / "bench"
SAMPLES = ROOT / "app" / "samples"
# The worker's own library; those of the page stand in app/web/vendor.json.
WORKER_VENDOR = {"@huggingface/tokenizers": ["dist/tokenizers.min.mjs", "LICENSE"]}
INDEX = "models/index.json"
MODEL_FILE_SUFFIXES = {".json", ".safetensors", ".jinja", ".gguf"}


@dataclass
class Site:
    """The files of the site by their path in it: bytes made here, or a file to copy."""

    files: dict[str, bytes | Path] = field(default_factory=dict)
    models: dict = field(default_factory=lambda: {"default": None, "models": {}})

    def add_tree(self, folder: Path, prefix: str, leave_out: tuple[str, ...] = ()) -> None:
        """Add every file of a folder, except hidden ones and the top-level names in `leave_out`."""
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
            if path.is_file() and not hidden and inside.parts[0] not in leave_out:
                self.files[prefix + inside.as_posix()] = path

    def add_model(self, model_id: str, files: list[Path], about: Mapping[str, str | None], hashes: FileHashes) -> None:
        """Add a model's files under models/<id>/ and its entry to models/index.json. The first one is the default.

        `about` is what the entry says of it: title, license, and base_model, its name on the Hugging Face hub.
        """
        entries = []
        for path in files:
            inside = f"{model_id}/{path.name}"
            self.files[f"models/{inside}"] = path
            entries.append({"path": inside, "size_bytes": path.stat().st_size, "sha256": hashes.sha256(path)})
        self.models["models"][model_id] = {**about, "files": entries}
        self.models["default"] = self.models["default"] or model_id


def parse_added_model(text: str) -> tuple[str, Path]:
    """Return (id, path) of an --add-model argument, `ID=FOLDER_OR_GGUF`."""
    model_id, equals, name = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", model_id):
        raise BuildError(f"--add-model {text}: wanted ID=PATH, the id of small letters, digits, '.', '_' and '-'")
    path = Path(name).expanduser().resolve()
    model_files(path)
    return model_id, path


def model_files(path: Path) -> list[Path]:
    """Return the files of a model: the GGUF itself, or those of a Hugging Face folder."""
    if path.is_file() and path.suffix == ".gguf":
        return [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix in MODEL_FILE_SUFFIXES)
        if any(p.suffix in {".safetensors", ".gguf"} for p in files):
            return files
        raise BuildError(f"{path} holds no .safetensors and no .gguf file")
    raise BuildError(f"{path} is neither a .gguf file nor a folder")


def build_site(
    dist: Path, *, with_model: bool = True, added_models: list[tuple[str, Path]] | None = None,
    hub: HubSite | None = None,
) -> dict:  # fmt: skip
    """Build or bring up to date the site in `dist`. Return its manifest: path -> {"size_bytes", "sha256"}.

    `hub` is where the page may fetch models from; None leaves that out.
    """
    node_modules = ensure_node_modules()
    hashes = FileHashes(CACHE / "hashes.json")
    site = Site()
    with Fetcher(CACHE / "parts", hashes) as fetcher:
        _add_pyodide(site, node_modules / "pyodide", fetcher)
        _add_wheels(site, fetcher, hashes)
        if with_model:
            builtin = parts.BUILTIN
            about = {"title": builtin.title, "license": builtin.licence, "base_model": builtin.base}
            site.add_model(builtin.id, [fetcher.obtain(parts.MODEL)], about, hashes)
    for model_id, path in added_models or []:
        title = path.stem if path.is_file() else path.name
        site.add_model(model_id, model_files(path), {"title": title, "license": None, "base_model": None}, hashes)
    site.files[INDEX] = _json({**site.models, "hub": hub.url if hub else None})
    site.add_tree(SAMPLES, "samples/")
    site.add_tree(WEB / "worker", "assets/worker/")
    site.files["assets/icon.svg"] = WEB / "icon.svg"
    page = bundle_page(_about(site, hub))
    site.files.update({f"assets/{name}": content for name, content in page.files.items()})
    _add_vendor(site, node_modules)
    _add_pages(site, hub, page.preloads)
    site.add_tree(WEB / "icons", "assets/icons/")
    site.files[MANIFEST] = web_manifest()
    kept = {name: content for name, content in site.files.items() if not name.startswith("models/") or name == INDEX}
    site.files[SERVICE_WORKER] = service_worker(kept, site.models, site_headers(hub), hashes)
    _add_bench(site)
    site.files["_headers"] = headers_file(hub)
    site.files[".nojekyll"] = b""  # GitHub Pages would drop files whose names begin with an underscore
    site.files[SBOM] = make_sbom(site.files, program_version(), site.models, [*vendor_files()], node_modules, hashes)
    manifest = write_site(site.files, dist, hashes)
    hashes.save()
    return manifest


def _add_pyodide(site: Site, package: Path, fetcher: Fetcher) -> None:
    for name in parts.PYODIDE_CORE:
        site.files[f"pyodide/{name}"] = package / name
    for part in parts.pyodide_packages(package):
        site.files[f"pyodide/{part.name}"] = fetcher.obtain(part)


def _add_wheels(site: Site, fetcher: Fetcher, hashes: FileHashes) -> None:
    pyodide_files = [
        content for name, content in site.files.items() if name.startswith("pyodide/") and isinstance(content, Path)
    ]
    sources = [
        ROOT / "app" / "py",
        ROOT / "app" / "wgsl",
        ROOT / "pyproject.toml",
        ROOT / "README.md",
        ROOT / "LICENSE",
    ]
    wheels = [
        parts.markupsafe_wheel(fetcher),
        fetcher.obtain(parts.JINJA2),
        parts.program_wheel(fetcher.folder, hash_tree(sources), ROOT),
    ]
    for wheel in wheels:
        site.files[f"wheels/{wheel.name}"] = wheel
    site.files["wheels/index.json"] = _json({"wheels": [wheel.name for wheel in wheels]})
    start = {}
    tools = ROOT / "build_tools"
    scripts = [tools / "freeze.mjs", tools / "steady.mjs", WEB / "worker" / "python.js"]
    for path in parts.frozen_start(fetcher.folder, pyodide_files, wheels, scripts):
        # The content is part of the name: whatever a cache on the way still holds, the two always fit each other.
        name = f"{path.stem}-{hashes.sha256(path)[:16]}{path.suffix}"
        site.files[f"start/{name}"] = path
        start[path.stem] = name
    site.files["start/index.json"] = _json(start)


def vendor_files() -> dict[str, list[str]]:
    """Return the npm packages of which files stand under vendor/, and which files."""
    return {**json.loads((WEB / "vendor.json").read_text()), **WORKER_VENDOR}


def _about(site: Site, hub: HubSite | None) -> dict:
    """Return what the page's script knows of the site: app/web/site.ts says what is what."""
    titles = {model_id: model["title"] or model_id for model_id, model in site.models["models"].items()}
    models = {"default": site.models["default"], "titles": titles}
    known = None
    if hub:
        context = hub.context()
        starters = [
            {"name": str(one.name), "repository": one.repository, "word": one.word, "licence": one.licence}
            for one in context["starters"]
        ]
        known = {"host": context["host"], "file_hosts": context["file_hosts"], "starters": starters}
    presets = [dataclasses.asdict(one) for one in program_settings().PRESETS]
    return {"models": models, "hub": known, "samples": samples(), "presets": presets}


def _add_vendor(site: Site, node_modules: Path) -> None:
    for package, names in vendor_files().items():
        for name in names:
            path = node_modules / package / name
            if not path.is_file():
                raise BuildError(
                    f"{name} is not in the npm package {package}. app/web/vendor.json asks for it: "
                    "correct it there, or pin a version that has it in package.json."
                )
            site.files[f"vendor/{package.rpartition('/')[2]}/{path.name}"] = path


def _add_pages(site: Site, hub: HubSite | None = None, preloads: tuple[str, ...] = ()) -> None:
    import jinja2

    loader = jinja2.FileSystemLoader(WEB / "templates")
    pages = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    context = {
        "version": program_version(),
        "sbom": SBOM,
        "models": site.models,
        "hub": hub.context() if hub else None,
        "policy": page_policy(hub),
        "samples": samples(),
        "preloads": preloads,
        "settings": program_settings(),
        "small": setting_schema().small,
    }
    # Every other template is a part of this one.
    try:
        site.files["index.html"] = pages.get_template("index.html").render(context).encode()
    except jinja2.TemplateSyntaxError as error:
        raise BuildError(f"app/web/templates/{error.name}:{error.lineno}: {error}") from error
    except jinja2.TemplateError as error:
        raise BuildError(f"app/web/templates: {error}") from error


def _add_bench(site: Site) -> None:
    """Add the benchmark's page under bench/, and its Python as one archive without dates, so that it changes only when
    a file does."""
    site.add_tree(BENCH / "page", "bench/")
    page = (BENCH / "page" / "index.html").read_text(encoding="utf-8")
    site.files["bench/index.html"] = page.replace(
        "{{ policy }}", page_policy(None)
    ).encode()  # it has no use for the hub
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted([*BENCH.glob("*.py"), *BENCH.glob("*.wgsl")]):
            out.writestr(zipfile.ZipInfo(f"bench/{path.name}"), path.read_bytes(), zipfile.ZIP_DEFLATED)
    site.files["bench/python.zip"] = archive.getvalue()
    site.files["bench/about.json"] = _json({"commit": commit()})


def samples() -> list[dict]:
    """Return what each app/samples/<name>.json says of the dataset <name>.jsonl beside it, and that one's size."""
    described = []
    for path in sorted(SAMPLES.glob("*.json")):
        data = path.with_suffix(".jsonl").read_bytes()
        rows = sum(1 for line in data.splitlines() if line.strip())
        sizes = {"name": path.stem, "rows": rows, "size_bytes": len(data)}
        described.append({**json.loads(path.read_text(encoding="utf-8")), **sizes})
    return described


def program_version() -> str:
    """Return `__version__` of the package, without importing it."""
    text = (ROOT / "app" / "py" / "lora_lab" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise BuildError("app/py/lora_lab/__init__.py has no __version__")
    return match[1]


def write_site(files: dict[str, bytes | Path], dist: Path, hashes: FileHashes) -> dict:
    """Make `dist` hold exactly `files` and a manifest.json. Only what changed is written, the manifest last."""
    dist.mkdir(parents=True, exist_ok=True)
    _remove_others(dist, {*files, "manifest.json"})
    manifest: dict[str, dict] = {}
    for name, content in sorted(files.items()):
        target = dist / name
        sha256 = hash_bytes(content) if isinstance(content, bytes) else hashes.sha256(content)
        if not target.is_file() or hashes.sha256(target) != sha256:
            _place(content, target)
            hashes.learn(target, sha256)
        manifest[name] = {"size_bytes": target.stat().st_size, "sha256": sha256}
    write_bytes(dist / "manifest.json", _json(manifest))
    return manifest


def _place(content: bytes | Path, target: Path) -> None:
    with atomic_writer(target) as out:
        if isinstance(content, bytes):
            out.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, out, CHUNK_BYTES)


def _remove_others(dist: Path, wanted: set[str]) -> None:
    for folder, _, names in os.walk(dist, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.relative_to(dist).as_posix() not in wanted:
                path.unlink()
        if Path(folder) != dist and not any(Path(folder).iterdir()):
            Path(folder).rmdir()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
