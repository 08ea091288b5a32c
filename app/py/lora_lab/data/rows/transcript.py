"""Texts that are conversations already, in a template of their own (`### Human:`, `<|im_start|>`) -> turns.

Every word of such a text that is no mark is a word of a turn: what stands before the first mark is the system turn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ROLES = {
    "human": "user", "user": "user", "instruction": "user", "question": "user", "prompter": "user", "usr": "user",
    "assistant": "assistant", "gpt": "assistant", "response": "assistant", "answer": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "chatbot": "assistant", "system": "system",
    "input": "input",
}  # fmt: skip


@dataclass(frozen=True)
class _Style:
    """One way to mark turns. `turn` finds a mark, its group `role` the word for who speaks; `noise` is nobody's."""

    turn: re.Pattern[str]
    noise: re.Pattern[str] | None = None


def _style(turn: str, noise: str = "", flags: int = 0) -> _Style:
    return _Style(re.compile(turn, flags), re.compile(noise) if noise else None)


_WHO = r"(?P<role>human|user|assistant|gpt|bot|ai|chatbot|system|prompter|model)"
_TITLED = r"(?P<role>human|user|assistant|gpt|bot|system|instruction|input|response|question|answer)"
_STYLES = (
    _style(r"<\|im_start\|>\s*(?P<role>user|assistant|system)[ \t]*\n?", r"<\|im_end\|>|<\|endoftext\|>"),
    _style(r"<\|start_header_id\|>\s*(?P<role>user|assistant|system)\s*<\|end_header_id\|>",
           r"<\|eot_id\|>|<\|begin_of_text\|>|<\|end_of_text\|>"),
    _style(r"<start_of_turn>\s*(?P<role>user|model|system)[ \t]*\n?", r"<end_of_turn>|<bos>|<eos>"),
    _style(r"<\|(?P<role>user|assistant|system|prompter)\|>", r"<\|end\|>|<\|endoftext\|>|</s>|<s>"),
    _style(r"(?P<system><<SYS>>)|(?P<endsystem><</SYS>>)|(?P<user>\[INST\])|(?P<assistant>\[/INST\])", r"</?s>"),
    _style(rf"#{{2,3}} ?{_TITLED} ?:", r"</s>|<s>|<\|endoftext\|>", re.IGNORECASE),
    _style(rf"(?:(?<=\n)|^)[ \t]*{_WHO} ?:", r"</s>|<s>", re.IGNORECASE),
    # Vicuna's, all on one line: capitals tell it from prose.
    _style(r"(?:(?<=\s)|(?<=>)|^)(?P<role>USER|ASSISTANT|SYSTEM|HUMAN|GPT) ?:", r"</s>|<s>"),
)  # fmt: skip


def read_transcript(text: str, is_prompt: bool = False) -> tuple[tuple[str, str], ...] | None:
    """Return the turns (role, words) of a text that marks them itself, None for one that does not.

    It must mark a user's turn and an assistant's behind it; of the latter a prompt needs the mark only.
    """
    for style in _STYLES:
        marks = list(style.turn.finditer(text))
        turns = _turns(text, style, marks)
        roles = [role for role, _ in turns]
        if "user" in roles and ("assistant" in roles[roles.index("user") :] or (
            is_prompt and "assistant" in map(_role_of, marks)
        )):  # fmt: skip
            return tuple(turns)
    return None


def _turns(text: str, style: _Style, marks: list[re.Match[str]]) -> list[tuple[str, str]]:
    if not marks:
        return []
    found: list[tuple[str, str]] = []

    def say(role: str, words: str) -> None:
        words = (style.noise.sub("", words) if style.noise else words).strip()
        if not words:
            return
        # An `### Input:` belongs to the instruction above it, and so do the words behind a system part of [INST].
        if role == "input" and found and found[-1][0] == "user":
            found[-1] = ("user", f"{found[-1][1]}\n\n{words}")
        else:
            found.append(("user" if role == "input" else role, words))

    say("system", text[: marks[0].start()])
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        words = text[mark.end() : following.start() if following else len(text)]
        say(_role_of(mark), words)
    return found


def _role_of(mark: re.Match[str]) -> str:
    named = mark.groupdict()
    if named.get("role"):
        return _ROLES[named["role"].lower()]
    if named.get("endsystem"):
        return "user"
    return next(role for role in ("system", "user", "assistant") if named.get(role))
