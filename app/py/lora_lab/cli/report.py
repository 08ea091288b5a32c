"""`lora-lab report`: what came of the run that an adapter is of, as text, one HTML file, or JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from lora_lab.cli.adapter_path import adapter_files
from lora_lab.cli.files import replacing
from lora_lab.cli.terminal import say
from lora_lab.errors import LoraLabError
from lora_lab.evaluation.answers import answers_of
from lora_lab.evaluation.neutral import in_words
from lora_lab.evaluation.record import RunRecord, read_record
from lora_lab.evaluation.report import duration, headline, report_html, report_json_bytes
from lora_lab.formats.peft import RUN_FILE


def report(options: argparse.Namespace) -> int:
    """Write the report where --html and --json say; without them print its main lines."""
    for out in (options.html, options.json):
        if out is not None and not out.parent.is_dir():
            raise LoraLabError(f"{out}: the folder {out.parent} does not exist")
    record = record_at(options.adapter)
    for out, make in ((options.html, report_html), (options.json, report_json_bytes)):
        if out is not None:
            with replacing(out) as file:
                file.write(make(record))
            say(f"The report is in {out}")
    if options.html is None and options.json is None:
        print(as_text(record))
    return 0


def record_at(path: Path) -> RunRecord:
    """Return the record in an adapter's folder or zip, or in the file itself. LoraLabError where there is none."""
    if path.name == RUN_FILE:
        return read_record(path.read_bytes(), str(path))
    files, _ = adapter_files(path)
    if RUN_FILE not in files:
        raise LoraLabError(f"{path} holds no {RUN_FILE}: its adapter was made by another program, or an older version")
    return read_record(files[RUN_FILE], f"{path}, {RUN_FILE}")


def as_text(record: RunRecord) -> str:
    """Return the report's main lines."""
    lines = [record.name, headline(record)]
    if record.outcome.verdict is not None:
        lines.append(record.outcome.verdict.words)
    for one in answers_of(record):
        lines += ["", _one_line(one.prompt), f"  before: {_one_line(one.before)}", f"  after:  {_one_line(one.after)}"]
        if one.expected:
            lines.append(f"  data:   {_one_line(one.expected)}")
    if (neutral := record.neutral) is not None:
        lines += ["", f"Everyday questions and texts: loss {neutral.base:.3f} -> {neutral.tuned:.3f}; "
                      f"{in_words(neutral.rose)}", *(f"  {one}" for one in neutral.advice)]  # fmt: skip
    data = record.data
    lines += [
        "",
        f"model: {record.model.title}",
        f"data: {data.name}, {data.rows:,} rows, {data.held_rows:,} held back",
    ]
    lines += [f"sha256: {one.sha256}  {one.name}" for one in data.files]
    lines.append(f"time: {duration(record.time.training_s)} of training")
    return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    """Return a line without what would tell a terminal to do something: the record may be anybody's."""
    return "".join(letter if letter.isprintable() else "�" for letter in line)


def _one_line(text: str) -> str:
    said = " ".join(text.split())
    return said if len(said) <= 200 else said[:199] + "…"
