"""Ctrl-C without a GPU: who hears it, when it is acted on, and what the second one does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from build_tools.base import ROOT
from lora_lab.cli.interrupt import EXIT_INTERRUPTED, Interrupts
from lora_lab.cli.interrupt import interrupts as program
from lora_lab.cli.terminal import GracefulInterrupt, run_interruptible

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send one process a Ctrl-C")


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The exit codes with which the process would have been ended at once. Ctrl-C is taken as the program takes it."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise SystemExit  # of the thread that listens

    monkeypatch.setattr(os, "_exit", end)
    with program.listening():
        yield codes


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the stand-in's way to end
def test_one_ctrl_c_asks_two_end(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []
    with GracefulInterrupt(lambda: asked.append(threading.current_thread().name)) as interrupt:
        press()
        wait_until(lambda: asked)
        assert (asked, interrupt.asked, ended) == (["Ctrl-C"], True, [])
        press()
        wait_until(lambda: ended)
    assert (len(asked), ended) == (1, [EXIT_INTERRUPTED])
    assert capfd.readouterr().err == "\nlora-lab: interrupted\n"


def test_python_s_own_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    threads = threading.active_count()
    with Interrupts().listening():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads
    with pytest.raises(KeyboardInterrupt):
        press()


def test_only_one_listens_and_only_in_the_main_thread() -> None:
    one = Interrupts()
    with one.listening():
        handler, threads = signal.getsignal(signal.SIGINT), threading.active_count()
        with one.listening():
            assert threading.active_count() == threads
        assert signal.getsignal(signal.SIGINT) is handler

        def elsewhere() -> None:
            with Interrupts().listening():
                pass

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("ignored", [True, False], ids=["in the background", "control"])
def test_a_ctrl_c_that_is_kept_from_the_process_is_not_taken(ignored: bool) -> None:
    """A shell's script starts `lora-lab train &` with SIGINT ignored; Ctrl-C then is meant for somebody else."""
    program = (
        "import sys, time\n"
        "from _signal import SIG_IGN, SIGINT, getsignal, raise_signal\n"
        "import lora_lab.cli.__main__\n"
        "from lora_lab.cli.interrupt import interrupts\n"
        "def begun():\n"
        "    raise_signal(SIGINT)\n"
        "    while getsignal(SIGINT) != SIG_IGN: time.sleep(0.01)\n"
        "    with interrupts.listening():\n"
        "        raise_signal(SIGINT)\n"
        "    interrupts.check()\n"
        "    return 7\n"
        "import lora_lab.cli.main as main_module\n"
        "main_module.main = begun\n"
        "if len(sys.argv) > 1: raise_signal(SIGINT)\n"
        "sys.exit(lora_lab.cli.__main__.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "app" / "py")}
    for early in ([], ["early"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *early], env=environment, capture_output=True, timeout=60,
            preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
        )  # fmt: skip
        wanted = (7, b"") if ignored else (EXIT_INTERRUPTED, b"\nlora-lab: interrupted\n")
        assert (done.returncode, done.stderr) == wanted


def test_other_signals_are_nobody_s_business_here(ended: list[int]) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.raise_signal(signal.SIGUSR1)
    press()
    wait_until(lambda: program.asked)
    signal.signal(signal.SIGUSR1, before)
    assert ended == []


def test_a_coroutine_is_cancelled_where_it_waits(ended: list[int]) -> None:
    """Never between two lines: what has no await in it is done whole."""
    done: list[str] = []

    async def work() -> None:
        try:
            press()
            wait_until(lambda: program.asked)
            done.append("the line after")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            done.append("never")
        finally:
            await asyncio.sleep(0)
            done.append("put away")

    with pytest.raises(KeyboardInterrupt):
        run_interruptible(work())
    assert done == ["the line after", "put away"]


def test_a_wait_without_an_end_ends(ended: list[int]) -> None:
    async def work() -> None:
        threading.Timer(0.05, press_from_outside).start()
        await asyncio.Event().wait()

    def press_from_outside() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_interruptible(work())


@pytest.mark.filterwarnings("error")
def test_what_comes_before_the_work_keeps_it_from_beginning(ended: list[int]) -> None:
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)

    press()
    wait_until(lambda: program.asked)
    with pytest.raises(KeyboardInterrupt):
        run_interruptible(work())
    with pytest.raises(KeyboardInterrupt), GracefulInterrupt(lambda: begun.append(False)):
        pass
    with pytest.raises(KeyboardInterrupt):
        program.check()
    assert begun == []


def test_work_that_is_done_anyway_gives_its_result(ended: list[int]) -> None:
    async def work() -> int:
        press()
        wait_until(lambda: program.asked)
        return 5

    assert run_interruptible(work()) == 5


# In Python, in C that no signal wakes, and waiting for another thread.
HANGS = {
    "python": "while True: pass",
    "native code": "import ctypes; c = ctypes.CDLL(None); m = ctypes.create_string_buffer(64)\n"
    "for _ in range(2): c.pthread_mutex_lock(m)",
    "a lock": "one = threading.Lock(); one.acquire(); one.acquire()",
}


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_the_second_ends_what_hangs_and_leaves_no_half_file(code: str, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.write_text("half")
    program = (
        "import os, sys, threading, time\n"
        "from lora_lab.cli.interrupt import interrupts\n"
        "interrupts.listen_to_the_end()\n"
        f"interrupts.unfinished.add({str(half)!r})\n"
        "with interrupts.acting(lambda: os.write(1, b'heard\\n')):\n"
        "    os.write(1, b'begun\\n')\n" + "".join(f"    {line}\n" for line in code.splitlines())
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "app" / "py")}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    for line in (b"begun\n", b"heard\n"):
        assert process.stdout.readline() == line
        assert half.exists()
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (EXIT_INTERRUPTED, b"\nlora-lab: interrupted\n")
    assert not half.exists()
