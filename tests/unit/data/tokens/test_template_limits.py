"""Chat templates are programs: a rendering ends, within its memory, in text or in a TemplateError."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lora_lab.data.tokens import template_timer
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.template_budget import MAX_TEXT, Budget, LimitError
from lora_lab.data.tokens.template_timer import HardLimit
from tests.unit.data.helpers import ROOT
from tests.unit.data.tokens.hostile_templates import HOSTILE, LABORIOUS

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes."}]
MOST_BYTES = 512 << 20  # of addresses, beyond what Python and numpy take
# Ends at the first template that does anything but what is allowed; its name is the last line then.
CHILD = """
import json, resource, sys
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
templates, messages, most_bytes = json.load(sys.stdin)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + most_bytes, taken + most_bytes))
for name, source in templates:
    print(json.dumps(name), flush=True)
    try:
        said = [True, len(ChatTemplate(source).render(messages))]
    except TemplateError as error:
        said = [False, str(error)]
    print(json.dumps(said), flush=True)
"""


def _run_child(code: str, order: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "app/py")}
    return subprocess.run(
        [sys.executable, "-c", code], input=order, capture_output=True, text=True, timeout=300, env=environment
    )


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list]:
    """What came of each template, in a process of its own with little memory."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux says how much memory a process has and bounds it")
    order = json.dumps([[*HOSTILE.items(), *LABORIOUS.items()], MESSAGES, MOST_BYTES])
    done = _run_child(CHILD, order)
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-2000:]}"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused(outcomes: dict[str, list], name: str) -> None:
    is_text, said = outcomes[name]
    assert not is_text
    assert 20 < len(said) < 800
    assert not said.startswith("the chat template fails on this conversation: MemoryError")


@pytest.mark.parametrize("name", LABORIOUS)
def test_a_laborious_template_ends(outcomes: dict[str, list], name: str) -> None:
    assert outcomes[name][0] or "MemoryError" not in outcomes[name][1]


def test_the_memory_of_the_child_is_bounded() -> None:
    """The control: a child that takes more than it may is seen."""
    code = CHILD.replace("ChatTemplate(source).render(messages)", "'x' * 600_000_000")
    order = json.dumps([[["much", ""]], MESSAGES, MOST_BYTES])
    done = _run_child(code, order)
    assert done.returncode != 0 and "MemoryError" in done.stderr


def test_what_is_allowed_grows_with_the_conversation() -> None:
    """A long document may be said twice; nobody may make as much out of a short one."""
    twice = ChatTemplate("{% for message in messages %}{{ message.content ~ message.content }}{% endfor %}")
    long = "word " * (MAX_TEXT // 4)
    assert twice.render([{"role": "user", "content": long}]) == long * 2
    many = [{"role": "user", "content": "a"}] * 30_000
    assert twice.render(many) == "aa" * 30_000
    assert ChatTemplate("{% for m in messages[1:] %}{{ m.content }}{% endfor %}").render(many) == "a" * 29_999
    with pytest.raises(TemplateError, match="makes a text of"):
        ChatTemplate("{{ messages[0].content * 20000000 }}").render([{"role": "user", "content": "a"}])


def test_limits_are_those_of_one_rendering() -> None:
    template = ChatTemplate("{% for a in range(90000) %}{% endfor %}{{ 'x' * 4000000 }}")
    for _ in range(40):
        assert len(template.render(MESSAGES)) == 4_000_000


def test_a_date_is_written_as_asked() -> None:
    assert ChatTemplate("{{ strftime_now('%d %b %Y, %-d 100%%') }}").render([]).endswith("100%")


ESCAPES = (
    "{{ ''.__class__ }}", "{{ ''|attr('__class__') }}", "{{ messages.__class__.__mro__ }}", "{{ range.__globals__ }}",
    "{{ [''] | map(attribute='__class__') | list }}", "{{ '{0.__class__}'.format('') }}",
    "{{ ['{0.__class__}'] | map('format', '') | first }}", "{{ namespace.__init__.__globals__ }}",
    "{{ ''['__class__'] }}", "{{ joiner.__init__ }}", "{{ self.__init__ }}", "{{ dict.__call__.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}", "{{ raise_exception.__globals__ }}",
    "{{ messages.append(1) }}", "{{ messages[0].update(a=1) }}", "{{ messages.clear() }}",
    "{% for m in messages %}{{ loop.__init__ }}{% endfor %}", "{{ '{0.f_back}'.format(messages|map('upper')) }}",
    "{{ (messages|map('upper')).gi_frame }}", "{{ cycler.__init__.__globals__.os }}", "{{ environment.filters }}",
    "{{ (1).from_bytes('a', 'big') }}", "{{ '%s' % messages.__class__ }}", "{{ strftime_now.__code__ }}",
)  # fmt: skip


@pytest.mark.parametrize("source", ESCAPES)
def test_the_sandbox_holds(source: str) -> None:
    """What is written in other words than jinja2 writes it must not open what jinja2 closes."""
    messages = [dict(message) for message in MESSAGES]
    try:
        said = ChatTemplate(source).render(messages)
    except TemplateError as error:
        said = str(error)
    assert messages == MESSAGES
    assert not any(word in said for word in ("<class", "<function", "<module", "<slot", "<code", "<frame", "method"))


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.data.tokens.template_budget.MAX_SECONDS", -1.0)
    budget = Budget()
    with pytest.raises(LimitError, match="takes longer"):
        budget.make(1 << 17)


def test_whatever_goes_on_is_ended_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence, against what no budget counts; and nothing arrives behind it."""
    monkeypatch.setattr(template_timer, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(template_timer, "POLL_SECONDS", 0.01)
    limit = HardLimit()
    time.sleep(1.1)  # the watch may be at its last long sleep
    for _ in range(3):
        with pytest.raises(TimeoutError, match="takes longer"), limit:
            try:
                while True:
                    pass
            except Exception:
                pytest.fail("it must not be caught on the way")
        for _ in range(1000):
            with limit:
                pass


def test_an_end_that_comes_late_is_waited_for() -> None:
    limit = HardLimit()
    with pytest.raises(TimeoutError), limit:
        limit._is_ended = True
        threading.Timer(0.05, limit.end).start()
    with limit:  # and it is gone
        pass
