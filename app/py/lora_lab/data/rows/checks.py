"""Remarks about rows that can be trained on, but deserve a look."""

from __future__ import annotations

import itertools
import re

from lora_lab.data.problems import Problem, excerpt
from lora_lab.data.rows.schema import Conversation, Row

# What chat templates write; in a row it means that one was applied already.
_TEMPLATE_MARKS = re.compile(
    r"<\|im_start\|>|<\|im_end\|>|<\|start_header_id\|>|<\|eot_id\|>|<start_of_turn>|<end_of_turn>|\[/?INST\]"
    r"|<<SYS>>|<\|(?:user|assistant|system|end|endoftext|begin_of_text)\|>|^### (?:Instruction|Response):$",
    re.MULTILINE,
)


def row_warnings(row: Row) -> list[Problem]:
    """Return the remarks about a good row."""
    found: list[Problem] = []

    def say(kind: str, message: str, hint: str = "", severity: str = "warning", near: str = "") -> None:
        found.append(Problem(row.line, message, None, near, kind, severity, hint))  # type: ignore[arg-type]

    for text in row.texts:
        if "<" in text or "[" in text or "###" in text:
            mark = _TEMPLATE_MARKS.search(text)
            if mark:
                hint = "was a template applied to it already? Give the plain words"
                around = excerpt(text, mark.start())
                say(
                    "template-applied",
                    f"the text holds {mark.group()}, which a chat template writes",
                    hint,
                    near=around,
                )
                break
    for text in row.texts:
        if "\0" in text:
            say("control-character", "the text holds a NUL character", "remove it", near=excerpt(text, text.find("\0")))
            break
    if isinstance(row, Conversation):
        roles = [message.role for message in row.messages]
        for index, (role, following) in enumerate(itertools.pairwise(roles)):
            if role == following:
                say("repeated-role", f"messages[{index}] and messages[{index + 1}] are both {role} turns",
                    "join them, or put the answer between them")  # fmt: skip
                break
        if roles[-1] != "assistant":
            say("no-last-answer", f"the conversation ends with a {roles[-1]} turn, from which nothing is learned")
        if "system" in roles[1:]:
            say("late-system", "a system turn stands inside the conversation", "most templates want it first")
    return found
