"""An Ollama folder: the merged GGUF and a Modelfile with template, stops and system prompt.

Ollama fills a Go template, not the model's Jinja one. So the Jinja template is rendered with marks in place of the
words, cut apart at them, and put together anew in Go; it is then held against the Jinja template on conversations of
several shapes, and refused where the two do not give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..data.tokens.template import ChatTemplate
from ..errors import LoraLabError
from .base import Base
from .sink import NewFile

MODELFILE, README = "Modelfile", "README.md"
Messages = Sequence[Mapping[str, str]]
_ROLES = ("system", "user", "assistant")
_TRIED = (
    ("user",), ("system", "user"), ("user", "assistant", "user"), ("system", "user", "assistant", "user"),
    ("user", "assistant", "user", "assistant", "user"),
)  # fmt: skip


@dataclass(frozen=True)
class TemplateParts:
    """What stands around the words of a conversation. `head` stands first where there is no system message.

    `opens_turn`: the system message stands inside the first question's turn, before which nothing is written then.
    """

    head: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str  # begins the answer
    opens_turn: bool = False

    def render(self, messages: Messages) -> str:
        """Return the text of a conversation whose answer is to follow, as the Go template gives it."""
        text = "" if messages[0]["role"] == "system" else self.head
        is_open = False
        for message in messages:
            before, after = getattr(self, message["role"])
            text += ("" if is_open else before) + message["content"] + after
            is_open = message["role"] == "system" and self.opens_turn
        return text + self.answer

    def as_go(self) -> str:
        """Return Ollama's TEMPLATE."""
        head = f"{{{{ if not .System }}}}{_go(self.head)}{{{{ end }}}}" if self.head else ""
        cases, word = "", "if"
        for role in _ROLES:
            around = getattr(self, role)
            if around is not None:
                before, after = map(_go, around)
                if self.opens_turn and role == "user":
                    before = f"{{{{ if not $open }}}}{before}{{{{ end }}}}{{{{ $open = false }}}}"
                if self.opens_turn and role == "system":
                    after += "{{ $open = true }}"
                cases += f'{{{{ {word} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
                word = "else if"
        if self.opens_turn:
            head = "{{ $open := false }}" + head
        return f"{head}{{{{ range .Messages }}}}{cases}{{{{ end }}}}{{{{ end }}}}{_go(self.answer)}"


def _go(text: str) -> str:
    """Return text as it stands in a Go template inside a Modelfile's three quotes."""
    return text.replace("{{", '{{ "{{" }}').replace('"""', '"{{ "\\"\\"" }}')


def find_parts(template: ChatTemplate, bos: str | None) -> TemplateParts:
    """Cut a template apart. LoraLabError where it writes conversations that Ollama's templates cannot.

    `bos`: the text of the token that llama.cpp puts first by itself; the template need not.
    """
    parts = _cut(template, bos)
    for roles in _TRIED:
        if "system" in roles and parts.system is None:
            continue
        messages = [{"role": role, "content": f"{role} {number} said this."} for number, role in enumerate(roles)]
        wanted = _without(template.render(messages, add_generation_prompt=True), bos)
        if parts.render(messages) != wanted:
            raise _refusal(f"of {', '.join(roles)} it makes {wanted[:200]!r}")
    return parts


def _refusal(why: str) -> LoraLabError:
    return LoraLabError(
        f"this model's chat template cannot be said as Ollama's: {why}. Export the merged GGUF (--to gguf), which "
        "holds the template itself, and use it with llama.cpp"
    )


def _cut(template: ChatTemplate, bos: str | None) -> TemplateParts:
    marks = {"s": "system-mark-1", "u": "user-mark-2", "a": "assistant-mark-3", "v": "user-mark-4"}

    def said(roles: str, answer: bool = False) -> list[str]:
        """Return what stands around the marks of a conversation."""
        names = {"s": "system", "u": "user", "v": "user", "a": "assistant"}
        messages = [{"role": names[one], "content": marks[one]} for one in roles]
        text = _without(template.render(messages, add_generation_prompt=answer), bos)
        around = re.split("|".join(re.escape(marks[one]) for one in roles), text)
        if len(around) != len(roles) + 1:
            raise _refusal("it does not write what is said as it is said, once and in order")
        return around

    plain, asked, turns = said("u"), said("u", answer=True), said("uav")
    answered = said("ua")
    # What only stands at a text's very end, as an end-of-text token, is no part of a turn.
    user_after = _common([plain[1], asked[1], turns[1]])
    assistant_after = _common([answered[2], turns[2]])
    answer = _after(asked[1], user_after)
    assistant_before = _after(turns[1], user_after)
    user_before = _after(turns[2], assistant_after)
    if not plain[0].endswith(user_before):
        raise _refusal("a first question is written unlike the others")
    head = plain[0].removesuffix(user_before)
    system: tuple[str, str] | None
    opens_turn = False
    try:
        first = said("su")
    except LoraLabError:
        system = None  # a template that refuses or moves a system message
    else:
        opens_turn = not first[1].endswith(user_before)
        system = first[0], first[1] if opens_turn else first[1].removesuffix(user_before)
    around = (user_before, user_after), (assistant_before, assistant_after)
    return TemplateParts(head, system, *around, answer, opens_turn)


def _common(texts: Sequence[str]) -> str:
    """Return what all of them begin with."""
    shortest = min(texts, key=len)
    differing = (at for at, sign in enumerate(shortest) if any(text[at] != sign for text in texts))
    return shortest[: next(differing, len(shortest))]


def _after(text: str, start: str) -> str:
    if not text.startswith(start):
        raise _refusal(f"{text!r} was to begin with {start!r}")
    return text.removeprefix(start)


def _without(text: str, bos: str | None) -> str:
    return text.removeprefix(bos) if bos else text


def ollama_files(
    base: Base, template: str | None, gguf_name: str, system: str | None
) -> tuple[list[NewFile], tuple[str, ...]]:
    """Return the Modelfile and how to use it, and remarks. LoraLabError for a template that Ollama cannot have."""
    tokenizer = base.files.tokenizer
    source = template if template is not None else tokenizer.chat_template
    lines = [f"FROM ./{gguf_name}"]
    remarks: tuple[str, ...] = ()
    if source is None:
        remarks = ("this model has no chat template: Ollama will send what is typed as it is, to be continued",)
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    else:
        bos = tokenizer.special_tokens.get("bos_token") if _adds_bos(base) else None
        parts = find_parts(ChatTemplate(source, tokenizer.special_tokens), bos)
        lines.append(f'TEMPLATE """{parts.as_go()}"""')
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops(base)]
    if system:
        lines.append(f'SYSTEM """{system}"""' if '"""' not in system else f"SYSTEM {_quoted(system)}")
    readme = (
        "Two commands, in this folder:\n\n    ollama create my-model -f Modelfile\n    ollama run my-model\n\n"
        "my-model is the name that you give it.\n"
    )
    modelfile = "\n".join(lines) + "\n"
    return [NewFile.of(MODELFILE, modelfile.encode()), NewFile.of(README, readme.encode())], remarks


def stops(base: Base) -> list[str]:
    """Return the texts at which an answer ends: those of the model's end tokens."""
    found = base.files.tokenizer.tokenizer_json
    by_id = {number: token for token, number in (found.get("model", {}).get("vocab") or {}).items()}
    by_id |= {entry["id"]: entry["content"] for entry in found.get("added_tokens") or []}
    return [by_id[number] for number in base.config.eos_token_ids if number in by_id]


def _adds_bos(base: Base) -> bool:
    if base.gguf is not None:
        said = base.gguf.scalars.get("tokenizer.ggml.add_bos_token")
        if isinstance(said, bool):
            return said
    post = str(base.files.tokenizer.tokenizer_json.get("post_processor"))
    bos = base.files.tokenizer.special_tokens.get("bos_token")
    return bos is not None and bos in post


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
