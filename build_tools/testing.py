"""`build.py test`: installs what tests need, then runs them tier by tier, the fast ones first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from build_tools.base import CACHE, ROOT, BuildError, FileHashes, say
from build_tools.environment import VENV_PYTHON, ensure_node_modules, ensure_test_packages, search_path
from build_tools.fetch import Fetcher
from build_tools.parts import MODEL
from build_tools.site import build_site

# In the order in which they run. `lint` is ruff, mypy, import-linter and tsc, the others are pytest's markers.
TIERS = ("lint", "unit", "gpu", "model", "browser", "firefox")
# Where a tier's tests may stand, so that no tier waits for the imports of another one's files.
TIER_FOLDERS = {
    "unit": ("tests/unit",),
    "gpu": ("tests/gpu",),
    "model": ("tests/model", "tests/gpu"),
    "browser": ("tests/browser",),
    "firefox": ("tests/firefox",),
}
# So many processes run a tier's tests. A browser's spend much of their time waiting; the real model uses all there is.
PROCESSES = {"unit": 2, "gpu": 2, "browser": 2}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FIREFOXES = ("firefox-esr", "firefox")
MAC_FIREFOX = "/Applications/Firefox.app/Contents/MacOS/firefox"
MAC_BROWSERS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
VULKAN_FOLDERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")
NO_TESTS_COLLECTED = 5
LONG_OPTION = "--long"  # what takes hours: kills, fuzz, endless runs


@dataclass
class Counts:
    """What came of a number of tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run_tests(arguments: list[str]) -> int:
    """Run the tiers named first in `arguments` (all when none is), the rest going to pytest. Return the exit code.

    With `--long` their long tests in place of the others.
    """
    only_long = LONG_OPTION in arguments
    pytest_arguments = [argument for argument in arguments if argument not in (*TIERS, LONG_OPTION)]
    tiers = [tier for tier in TIERS if tier in arguments] or tiers_of(named_paths(pytest_arguments)) or list(TIERS)
    ensure_test_packages()
    environment = {**os.environ, "PATH": search_path()}
    if only_long:
        tiers = [tier for tier in tiers if tier != "lint"]
    if tiers != ["lint"]:
        environment["LORA_LAB_NODE_MODULES"] = str(ensure_node_modules(development=True))
        with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
            environment["LORA_LAB_MODELS"] = str(fetcher.obtain(MODEL).parent)
    if {"gpu", "model", "browser", "firefox"} & set(tiers):
        gpu = bool({"gpu", "model", "firefox"} & set(tiers))
        ensure_system_packages(browser="browser" in tiers, gpu=gpu, firefox="firefox" in tiers)
    if "firefox" in tiers:
        environment["LORA_LAB_FIREFOX"] = find_firefox() or ""
    if "browser" in tiers:
        environment["LORA_LAB_CHROMIUM"] = find_browser() or ""
        if processes("browser", pytest_arguments):
            with tempfile.TemporaryDirectory() as folder:
                build_site(Path(folder))  # each makes a site of its own: what all of them need is fetched here, once

    results: dict[str, tuple[int, Counts, float]] = {}
    for tier in tiers:
        say(f"\n=== {tier} ===")
        started = time.monotonic()
        code, counts = run_lint() if tier == "lint" else run_tier(tier, pytest_arguments, environment, only_long)
        results[tier] = code, counts, time.monotonic() - started

    total = sum((counts for _, counts, _ in results.values()), Counts())
    say("")
    for tier, (code, counts, elapsed_s) in results.items():
        say(f"{tier:8} {counts} in {elapsed_s:.0f} s{'' if code == 0 else f' (exit {code})'}")
    say(str(total))
    failures = [code for code, _, _ in results.values() if code]
    if not failures and total.passed + total.failed == 0:
        say("No test ran.")
        return NO_TESTS_COLLECTED
    return failures[0] if failures else 0


def named_paths(arguments: list[str]) -> list[str]:
    """Return the test files and folders that the arguments name; they take the place of the tiers' own folders."""
    return [name for name in (a.partition("::")[0] for a in arguments if a[:1] != "-") if (ROOT / name).exists()]


def tiers_of(paths: list[str]) -> list[str]:
    """Return the tiers that may have tests in these paths."""
    folders = [(ROOT / path).resolve() for path in paths]
    return [
        tier
        for tier, own in TIER_FOLDERS.items()
        if any(path.is_relative_to(ROOT / folder) for path in folders for folder in own)
    ]


def run_lint() -> tuple[int, Counts]:
    """Run ruff, mypy, import-linter and tsc over the project, four checks that pass or fail."""
    # import-linter has no module to run; its script calls this.
    rooms = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[0] = 'lint-imports'; run()"
    checks = (["-m", "ruff", "check", "."], ["-m", "mypy"], ["-c", rooms, "--no-cache"])
    codes = [subprocess.run([str(VENV_PYTHON), *check], cwd=ROOT).returncode for check in checks]
    # In a process of its own: the types come from the program's dataclasses, as they are now.
    codes.append(subprocess.run([str(VENV_PYTHON), "-m", "build_tools.page"], cwd=ROOT).returncode)
    return max(codes), Counts(passed=codes.count(0), failed=len(codes) - codes.count(0))


def run_tier(
    tier: str, pytest_arguments: list[str], environment: dict[str, str], only_long: bool = False
) -> tuple[int, Counts]:
    """Run one tier in a process of its own: a crash of a GPU driver in one must not take the others with it."""
    folders = [folder for folder in TIER_FOLDERS[tier] if (ROOT / folder).is_dir()]
    report = CACHE / "test-results" / f"{tier}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [
        str(VENV_PYTHON),
        "-m",
        "pytest",
        "-m",
        f"{tier} and {'' if only_long else 'not '}long",
        f"--junitxml={report}",
        *processes(tier, pytest_arguments),
        *(["-rP"] if only_long else []),  # what long tests print are the counts to be written down
        *([] if named_paths(pytest_arguments) else folders),
    ]
    code = subprocess.run([*command, *pytest_arguments], cwd=ROOT, env=environment).returncode
    counts = read_report(report)
    if code == NO_TESTS_COLLECTED:
        code = 0  # a -k or a path may leave nothing of one tier; a run in which no tier has any test is caught above
    elif code and not counts.failed:
        counts.failed = 1  # pytest itself failed or crashed: it must not read as a run without failures
    return code, counts


def processes(tier: str, pytest_arguments: list[str]) -> list[str]:
    """Return the options that split a whole tier among processes; none where only some of its tests are wanted.

    What is chosen is often watched too (-s, --pdb, -x), which one process does better. A file stays with one process:
    what its tests share is made once, and nothing in the cache is fetched twice at a time.
    """
    count = min(PROCESSES.get(tier, 1), os.cpu_count() or 1)
    return ["-n", str(count), "--dist", "loadfile"] if count > 1 and not pytest_arguments else []


def read_report(report: Path) -> Counts:
    """Return the counts in a JUnit XML report; none when pytest died before it wrote one."""
    counts = Counts()
    if not report.exists():
        return counts
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            counts.failed += 1
        elif "skipped" in outcomes:
            counts.skipped += 1
        else:
            counts.passed += 1
    return counts


def find_browser() -> str | None:
    """Return a Chromium or Chrome: the one that LORA_LAB_CHROMIUM names, or the machine's."""
    named = os.environ.get("LORA_LAB_CHROMIUM")
    if named:
        return named
    return next(filter(None, map(shutil.which, BROWSERS)), None) or next(filter(os.path.exists, MAC_BROWSERS), None)


def find_firefox() -> str | None:
    """Return a Firefox: the one that LORA_LAB_FIREFOX names, or the machine's."""
    if named := os.environ.get("LORA_LAB_FIREFOX"):
        return named
    return next(filter(None, map(shutil.which, [*FIREFOXES, MAC_FIREFOX])), None)


def has_vulkan_device() -> bool:
    """Say whether a Vulkan driver is installed, a software one included. Other systems than Linux have their own."""
    if not sys.platform.startswith("linux") or os.environ.get("VK_ICD_FILENAMES") or os.environ.get("VK_DRIVER_FILES"):
        return True
    return any(path for folder in VULKAN_FOLDERS for path in Path(folder).glob("*.json"))


def ensure_system_packages(*, browser: bool, gpu: bool, firefox: bool = False) -> None:
    """Install browsers and a software Vulkan device through apt where they are missing and we are root."""
    missing = []
    if browser and find_browser() is None:
        missing.append("chromium")
    if firefox and find_firefox() is None:
        missing.append("firefox-esr")
    if gpu and not has_vulkan_device():
        missing += ["mesa-vulkan-drivers", "libvulkan1"]
    if not missing:
        return
    if sys.platform.startswith("linux") and shutil.which("apt-get") and os.geteuid() == 0:
        say(f"Installing {', '.join(missing)} through apt")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], env=environment, stdout=subprocess.DEVNULL)
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
        if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL).returncode == 0:
            return
        raise BuildError(f"apt-get could not install {', '.join(missing)}; its own message stands above.")
    lines = []
    if "chromium" in missing:
        lines.append(
            "The browser tests need Chromium or Chrome, and none was found. Install one (on Debian: "
            "`sudo apt install chromium`), or name one in the environment variable LORA_LAB_CHROMIUM."
        )
    if "firefox-esr" in missing:
        lines.append(
            "The firefox tests need Firefox, and none was found. Install it (on Debian: `sudo apt install "
            "firefox-esr`), or name one in the environment variable LORA_LAB_FIREFOX."
        )
    if "libvulkan1" in missing:
        lines.append(
            "The gpu, model and firefox tests need a Vulkan device, and no driver was found. A software one will do "
            "(on Debian and Ubuntu: `sudo apt install mesa-vulkan-drivers`)."
        )
    lines.append("Or run the tiers that need neither: python3 build.py test lint unit")
    raise BuildError("\n".join(lines))
