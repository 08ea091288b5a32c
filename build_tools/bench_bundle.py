"""`build.py bench-bundle`: the benchmark as one archive, to run offline on a bare Linux machine with an NVIDIA driver.

It holds Node, Dawn, Pyodide with numpy, the engine and bench/. All that the machine must bring is its GPU's driver; a
Vulkan loader goes along for machines that have none.
"""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from build_tools import parts
from build_tools.base import CACHE, ROOT, BuildError, FileHashes, atomic_writer, commit, say
from build_tools.environment import ensure_node_modules, find_npm, search_path
from build_tools.fetch import Fetcher

NAME = "lora-lab-bench"
MAX_BYTES = 60_000_000
VULKAN_LOADER = "libvulkan.so.1"
# Vendor-neutral libraries that NVIDIA's Vulkan driver is linked with; containers often have the driver without them.
GLVND = ("libGLdispatch.so.0", "libGLX.so.0", "libEGL.so.1")
LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
# What every glibc system has, and must not be mixed with another's.
SYSTEM_LIBRARIES = re.compile(r"(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libresolv)[.-]")
RUN = Path(__file__).with_name("bench_run.sh")
WEBGPU_FILES = ("index.js", "package.json", "LICENSE.md", "dist/linux-x64/dawn.node")


def write_bundle(target: Path) -> None:
    """Write the archive and say how large it is. Raises BuildError where it would be larger than MAX_BYTES."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        raise BuildError(
            f"The bundle holds this machine's own Node and its libraries, so it is made on x86-64 Linux; this is "
            f"{sys.platform} on {platform.machine()}."
        )
    files = bundle_files()
    say(f"Packing {len(files)} files, {sum(map(_size, files.values())) / 2**20:.0f} MiB (a minute or two)")
    with atomic_writer(target) as out:
        with tarfile.open(fileobj=out, mode="w:xz", preset=6) as archive:
            for name, content in sorted(files.items()):
                add_file(archive, f"{NAME}/{name}", content)
        check_size(out.tell(), target)
    say(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    say(f"On the other machine: tar xf {target.name} && ./{NAME}/run.sh [--baseline] [--quick] [MODEL]")


def check_size(size_bytes: int, target: Path) -> None:
    """Refuse an archive that is too large to be carried about; atomic_writer then keeps nothing of it."""
    if size_bytes > MAX_BYTES:
        raise BuildError(f"{target.name} would be {size_bytes / 1e6:.1f} MB; wanted at most {MAX_BYTES / 1e6:.0f} MB")


def add_file(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    """Add one file, nobody's own and without a date, so that equal inputs give equal archives."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o755 if name.endswith((".sh", "/node")) else 0o644
    archive.addfile(entry, io.BytesIO(data))


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def bundle_files() -> dict[str, bytes | Path]:
    """Return the bundle's files by their path in it. Raises BuildError for what this machine lacks."""
    modules = ensure_node_modules(development=True)
    find_npm()
    node = shutil.which("node", path=search_path())
    if node is None:
        raise BuildError("Node.js was not found beside npm. Install Node.js 18 or newer.")
    binary = Path(node).resolve()
    if binary.read_bytes()[:4] != b"\x7fELF":
        raise BuildError(f"{binary} is no program but a script that starts one; the bundle needs Node itself on PATH.")
    files: dict[str, bytes | Path] = {"node": binary, "run.sh": RUN, "LICENSE": ROOT / "LICENSE"}
    for name in WEBGPU_FILES:
        files[f"node_modules/webgpu/{name}"] = modules / "webgpu" / name
    for path in (binary, modules / "webgpu" / "dist/linux-x64/dawn.node"):
        files |= {f"lib/{library.name}": library for library in linked_libraries(path)}
    files[f"vulkan/{VULKAN_LOADER}"] = find_library(VULKAN_LOADER, "libvulkan1")
    files |= {f"glvnd/{name}": find_library(name, "libegl1 libglx0") for name in GLVND}
    files |= project_files()
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        files |= site_files(modules, fetcher)
    files["COMMIT"] = f"{commit()}\n".encode()
    missing = [name for name, content in files.items() if isinstance(content, Path) and not content.is_file()]
    if missing:
        raise BuildError(f"The bundle's files are not all there: {', '.join(sorted(missing))}")
    return files


def site_files(modules: Path, fetcher: Fetcher) -> dict[str, bytes | Path]:
    """Return as much of a built site as node_host.mjs needs: Pyodide, numpy, and the engine's pure packages."""
    files: dict[str, bytes | Path] = {f"dist/pyodide/{name}": modules / "pyodide" / name for name in parts.PYODIDE_CORE}
    for part in parts.pyodide_packages(modules / "pyodide"):
        if part.name.startswith("numpy-"):
            files[f"dist/pyodide/{part.name}"] = fetcher.obtain(part)
    wheels = [parts.markupsafe_wheel(fetcher), fetcher.obtain(parts.JINJA2)]
    files |= {f"dist/wheels/{wheel.name}": wheel for wheel in wheels}
    files["dist/wheels/index.json"] = json.dumps({"wheels": [wheel.name for wheel in wheels]}).encode()
    return files


def project_files() -> dict[str, bytes | Path]:
    """Return the engine and the benchmark; results of other runs stay at home."""
    ours = ("app/web/worker/calls.js", "app/web/worker/gpu.js")
    files: dict[str, bytes | Path] = {name: ROOT / name for name in ours}
    for folder in ("app/py", "app/wgsl", "bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT)
            if path.is_file() and "__pycache__" not in inside.parts and "results" not in inside.parts:
                files[inside.as_posix()] = path
    return files


def linked_libraries(program: Path) -> list[Path]:
    """Return the libraries that a program is linked with, but those of glibc, by the names it asks for."""
    found = subprocess.run(["ldd", str(program)], capture_output=True, text=True)
    if found.returncode:
        raise BuildError(f"ldd cannot say which libraries {program} needs: {found.stderr.strip()}")
    libraries = []
    for name, where in re.findall(r"^\s*(\S+) => (\S+)", found.stdout, re.MULTILINE):
        if where == "not":
            raise BuildError(f"{program} needs {name}, which this machine does not have")
        if not SYSTEM_LIBRARIES.match(name):
            libraries.append(Path(where))
    return libraries


def find_library(name: str, debian_package: str) -> Path:
    """Return this machine's copy of a library, for machines without one."""
    for folder in LIBRARY_FOLDERS:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise BuildError(
        f"{name} was found in none of {', '.join(LIBRARY_FOLDERS)}. Install it "
        f"(on Debian and Ubuntu: `apt install {debian_package}`)."
    )
