"""A run in the page that is paused, reloaded, or whose worker, tab or browser is killed goes on to the same bits."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Playwright, expect

from tests.browser.conftest import HEADLESS, SOFTWARE_GPU
from tests.browser.lab import START_MS, Lab

N = 4  # steps between checkpoints
STEPS = 40

# Every adapter's losses and the bytes of its weights; every file of a run that was stopped.
STORED = """async () => {
  const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab", { create: true });
  const adapters = await home.getDirectoryHandle("adapters", { create: true });
  const runs = await home.getDirectoryHandle("runs", { create: true });
  const found = { adapters: [], runs: [] };
  for await (const one of adapters.values()) {
    const read = async (name) => (await (await one.getFileHandle(name)).getFile());
    const parsed = (name) => read(name).then((file) => file.text()).then(JSON.parse).catch(() => null);
    const about = (await parsed("lora-lab.json.new")) ?? (await parsed("lora-lab.json"));  // as whole_file.py reads it
    if (!about) throw new Error(`${one.name} has no lora-lab.json that is whole`);
    const weights = new Uint8Array(await (await read("adapter_model.safetensors")).arrayBuffer());
    found.adapters.push({ about, weights: Array.from(weights) });
  }
  for await (const one of runs.values()) for await (const file of one.values()) found.runs.push(file.name);
  return found;
}"""


class Profile:
    """A browser of our own with a profile on disk, which can be killed and started again."""

    def __init__(self, playwright: Playwright, chromium: str, folder: Path, url: str) -> None:
        self._playwright, self._chromium, self.folder, self._url = playwright, chromium, folder, url
        self._context: BrowserContext | None = None

    def open(self) -> Lab:
        if self._context is None:
            self._context = self._playwright.chromium.launch_persistent_context(
                str(self.folder), executable_path=self._chromium, args=[*HEADLESS, *SOFTWARE_GPU],
                viewport={"width": 1440, "height": 900}, reduced_motion="reduce",
            )  # fmt: skip
        lab = Lab(self._context, self._url + "?model=tiny")
        lab.page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
        return lab

    def kill(self) -> None:
        """SIGKILL the browser's own process, which takes all others with it."""
        assert self._context is not None
        wanted = f"--user-data-dir={self.folder}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in arguments and not any(argument.startswith(b"--type=") for argument in arguments):
                os.kill(int(process.name), signal.SIGKILL)
        self.close()

    def close(self) -> None:
        if self._context is not None:
            try:
                self._context.close()
            except Exception as error:  # it was killed
                assert "closed" in str(error), error
            self._context = None


@pytest.fixture
def profile(playwright: Playwright, chromium_path: str, tmp_path: Path, site_url: str) -> Iterator[Profile]:
    made = Profile(playwright, chromium_path, tmp_path / "profile", site_url)
    yield made
    made.close()


def begin(lab: Lab, ships: Path) -> None:
    """Begin a run that keeps a checkpoint every N steps."""
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.wait_for_data()
    lab.page.locator("#more-settings > summary").click()
    lab.set(steps=STEPS, batch=4, lr="1e-2", checkpoint=N, validation=10)
    lab.start()


def go_on(lab: Lab) -> int:
    """Press Resume as soon as it can be; return the step that the run stood at."""
    expect(lab.part("train-resume")).to_be_enabled(timeout=START_MS)
    step = stopped_at(lab)
    lab.part("train-resume").click()
    return step


def stopped_at(lab: Lab) -> int:
    expect(lab.page.locator("#stopped-run")).to_be_visible(timeout=START_MS)  # it is told of after the run's last state
    text = lab.page.locator("#stopped-at").inner_text()
    found = re.fullmatch(rf"Run stopped at (\d+) of {STEPS}", text)
    assert found, text
    return int(found[1])


def wait_for_step(lab: Lab, step: int) -> int:
    """Wait until a step was told of, and return the last one."""
    lab.page.wait_for_function(
        "(step) => Number(document.getElementById('train-step').textContent.split(' / ')[0]) >= step", arg=step,
        timeout=START_MS,
    )  # fmt: skip
    return int(lab.text("train-step").split(" / ")[0])


def stored(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.page.evaluate(STORED)
    return found


def result(lab: Lab) -> tuple[Any, Any, str]:
    """The newest adapter: its losses, its validation losses, the digest of its weights."""
    newest = max(stored(lab)["adapters"], key=lambda one: one["about"]["created_at"] + one["about"]["id"])
    about = newest["about"]
    return about["loss_curve"], about["validation_curve"], hashlib.sha256(bytes(newest["weights"])).hexdigest()


def finish(lab: Lab) -> tuple[Any, Any, str]:
    """Wait for the end of the run; return what came of it, and give the adapter away."""
    lab.wait_for_phase("done")
    assert stored(lab)["runs"] == []
    found = result(lab)
    lab.page.evaluate("""async () => {
      const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
      const adapters = await home.getDirectoryHandle("adapters");
      for await (const name of adapters.keys()) await adapters.removeEntry(name, { recursive: true });
    }""")
    return found


def test_paused_and_gone_on_with(profile: Profile, ships: Path) -> None:
    """Paused in the middle; gone on with in the same page, and after a reload; the same bits as without."""
    lab = profile.open()
    begin(lab, ships)
    whole = finish(lab)
    assert len(whole[0]) == STEPS and len(whole[1]) == 11  # one before the first step
    lab.start()
    wait_for_step(lab, 5)
    lab.part("train-pause").click()
    lab.wait_for_text("train-status", rf"^Paused after step \d+ of {STEPS}\.$")
    first = stopped_at(lab)
    assert f"Paused after step {first} of" in lab.text("train-status")
    assert stored(lab)["adapters"] == []
    assert go_on(lab) == first
    wait_for_step(lab, first + 6)
    lab.page.reload()
    second = go_on(lab)
    assert second >= first + 6 - N
    lab.wait_for_text("train-step", r"^\d+ / ")
    assert finish(lab) == whole
    expect(lab.part("stopped-run")).to_be_hidden()
    # The control: with another seed it is another run.
    lab.drop_data(ships)
    lab.wait_for_data()
    lab.set(steps=STEPS, batch=4, lr="1e-2", seed=1)
    lab.start()
    assert finish(lab) != whole


def test_a_discarded_run_is_gone(profile: Profile, ships: Path) -> None:
    lab = profile.open()
    begin(lab, ships)
    wait_for_step(lab, N + 1)
    lab.part("train-pause").click()
    expect(lab.part("train-discard")).to_be_visible(timeout=START_MS)
    assert len(stored(lab)["runs"]) >= 2
    lab.part("train-discard").click()
    expect(lab.part("stopped-run")).to_be_hidden()
    assert stored(lab)["runs"] == []
    lab.page.reload()
    lab.wait_for_model()
    expect(lab.part("stopped-run")).to_be_hidden()


def test_another_tab_offers_nothing_while_one_trains(profile: Profile, ships: Path) -> None:
    lab = profile.open()
    begin(lab, ships)
    wait_for_step(lab, N + 1)
    other = profile.open()
    other.wait_for_model()
    expect(other.part("stopped-run")).to_be_hidden()
    lab.page.close()
    other.page.reload()
    expect(other.part("train-resume")).to_be_enabled(timeout=START_MS)  # the control


WAYS = ("worker", "tab", "browser", "reload")


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
def test_kills_at_any_moment_lose_no_more_than_n_steps(profile: Profile, ships: Path, kills: int) -> None:
    rng = random.Random(kills)
    lab = profile.open()
    begin(lab, ships)
    whole = finish(lab)
    counts = dict.fromkeys(WAYS, 0)
    lost_most = finished = 0
    begin_anew = True
    while sum(counts.values()) < kills:
        if begin_anew:
            lab.page.reload()
            begin(lab, ships)
            before, begin_anew = 0, False
        reached = wait_for_step(lab, min(STEPS, before + rng.randint(N + 1, 12)))
        lab.page.wait_for_timeout(rng.uniform(0, 150))  # anywhere in a step, or in the writing of a checkpoint
        way = WAYS[sum(counts.values()) % len(WAYS)]
        reached = int(lab.text("train-step").split(" / ")[0])
        if way == "worker":
            next(worker for worker in lab.page.workers if "kind=train" in worker.url).evaluate("self.close()")
            lab.page.reload()
        elif way == "tab":
            lab.page.close()
            lab = profile.open()
        elif way == "browser":
            profile.kill()
            lab = profile.open()
        else:
            lab.page.reload()
        counts[way] += 1
        lab.wait_for_model()
        if stored(lab)["adapters"]:  # it had come to its end
            assert result(lab) == whole
            finish_as_it_is(lab)
            finished, begin_anew = finished + 1, True
            continue
        before = go_on(lab)
        lost_most = max(lost_most, reached - before)
        lab.wait_for_text("train-step", r"^\d+ / ")
        assert before <= reached + 2
    if not begin_anew:
        assert finish(lab) == whole
        finished += 1
    print(f"{counts}, {finished} runs came to their end, {lost_most} steps lost at most")
    assert lost_most <= N


def finish_as_it_is(lab: Lab) -> None:
    """Remove the adapter of a run that had ended before it could be killed."""
    lab.page.evaluate("""async () => {
      const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
      for (const part of ["adapters", "runs"]) {
        const folder = await home.getDirectoryHandle(part);
        for await (const name of folder.keys()) await folder.removeEntry(name, { recursive: true });
      }
    }""")
