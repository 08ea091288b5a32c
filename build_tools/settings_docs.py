"""`build.py settings-docs`: docs/settings.md out of the table of settings, app/py/lora_lab/settings.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from build_tools.base import ROOT, program_settings, say, setting_schema, write_bytes

if TYPE_CHECKING:
    from lora_lab.setting_schema import Bounds, Caution, Setting

PAGE = ROOT / "docs" / "settings.md"
HEAD = """\
# Settings

Every setting, by its name here and the field's own. The columns "on the page" and "command line" say which values each
of them takes: the command line takes whatever can be computed, the page what is of use. What can be used and is still
worth a second thought is told before a run, on the page and on the command line's standard error: see Warnings.

`python3 build.py settings-docs` writes this page from `app/py/lora_lab/settings.py`; a test compares them.
"""


def write_docs() -> None:
    """Write docs/settings.md."""
    write_bytes(PAGE, docs_page().encode())
    say(f"{PAGE.relative_to(ROOT).as_posix()} shows the settings as they are")


def docs_page() -> str:
    """Return docs/settings.md as the table gives it."""
    table = program_settings()
    sections = {
        "The adapter": table.ADAPTER,
        "The run": table.RUN,
        "The rows": table.ROWS,
        "What else changes": table.ELSE,
        "Replies": (*table.SAMPLING, table.STRENGTH),
    }
    lines = [HEAD]
    for title, settings in sections.items():
        lines += [f"## {title}", "", *_rows(settings), ""]
    lines += ["## Warnings", ""]
    lines += [_warning(setting, caution) for setting in table.TRAINING for caution in setting.cautions]
    return "\n".join(lines) + "\n"


def _rows(settings: Iterable[Setting]) -> Iterable[str]:
    yield "| setting | what it is | default | usual | on the page | command line |"
    yield "|---|---|---|---|---|---|"
    for setting in settings:
        name = f"{setting.label} · {setting.term}" if setting.term else setting.label
        cells = (name, _what(setting), setting.default_said, setting.usual_words, _on_page(setting), _option(setting))
        yield "| " + " | ".join(cells) + " |"


def _what(setting: Setting) -> str:
    small = setting_schema().small
    said = [f"Share {setting.help}" if setting.percent else setting.help.rstrip(".")]
    if setting.kind is not bool or setting.option is None:
        said.append(setting.more)
    said += [f"`{choice.value}`: {small(choice.help)}" for choice in setting.choices]
    return "; ".join(part for part in said if part)


def _on_page(setting: Setting) -> str:
    if not setting.on_page:
        return "–"
    parts = ["yes"]
    if setting.kind in (int, float):
        parts = [_words(setting.form_bounds, 100 if setting.percent else 1) + " %" * setting.percent]
    if setting.first != setting.default:
        parts.append(f"at first {setting.shown(setting.first) or setting.empty}")
    return "; ".join(parts)


def _option(setting: Setting) -> str:
    if setting.option is None:
        return "–"
    said = _words(setting.bounds) if setting.kind in (int, float) else setting.more if setting.kind is bool else ""
    return f"`{setting.option}`: {said}".removesuffix(": ")


def _words(bounds: Bounds, per: int = 1) -> str:
    """Return bounds in words, their numbers times `per`."""
    table = setting_schema()
    least, most = table.plain(bounds.least * per), table.plain(bounds.most * per)
    if bounds.most >= table.LARGEST:
        return f"above {least}" if bounds.above else f"{least} or more"
    upper = f"below {most}" if bounds.below else most
    return f"above {least}, up to {upper}" if bounds.above else f"{least} to {upper}"


def _warning(setting: Setting, caution: Caution) -> str:
    plain = setting_schema().plain
    what = "Alpha / rank" if caution.of == "scale" else setting.label
    limits = (
        f"above {plain(caution.above)}",
        f"{plain(caution.least)} or more",
        f"below {plain(caution.below)}",
    )
    limit = next(limit for limit in limits if "inf" not in limit)
    words = re.sub(r"\{value[^}]*\}", "…", caution.words).replace("{usual}", setting.usual_words)
    return f"- {what} {limit}: “{words}”"
