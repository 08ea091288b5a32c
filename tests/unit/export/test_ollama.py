"""The Ollama folder: its template gives the text of the model's own, by an interpreter of the Go parts it uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lora_lab.data.tokens.chat_formats import FORMATS
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.errors import LoraLabError
from lora_lab.export.ollama import find_parts
from tests.export_cases import adapter_for, export, open_path
from tests.tiny_model import CHAT_TEMPLATE, DEFAULT_SYSTEM_PROMPT
from tests.unit.export.conftest import Cases

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is {{ this }}?"},
    {"role": "assistant", "content": 'A "lighthouse".'},
    {"role": "user", "content": "And that?\nTell me."},
]
CONVERSATIONS = [TURNS, TURNS[1:], TURNS[:2], TURNS[1:2]]


def go(template: str, messages: list[dict[str, str]]) -> str:
    """Run a Go template of the few parts that ours have: if not .System, range .Messages, if and else if eq, text."""
    pieces = re.findall(r"\{\{ *(.*?) *\}\}|((?:(?!\{\{).)+)", template, re.DOTALL)
    system = any(message["role"] == "system" for message in messages)
    variables = {}

    def run(at: int, stop: int, message: dict[str, str] | None) -> str:
        text = ""
        while at < stop:
            action, words = pieces[at]
            at += 1
            if words:
                text += words
            elif action.startswith('"'):
                text += action[1:-1].replace('\\"', '"')
            elif action.startswith("$open"):
                variables["open"] = action.endswith("true")
            elif action == ".Content":
                assert message is not None
                text += message["content"]
            elif action.startswith("range"):
                end = closing(at)
                text += "".join(run(at, end, one) for one in messages)
                at = end + 1
            else:
                end, done = closing(at), False
                branches = [(action, at)]
                depth = 0
                for number in range(at, end):
                    word = pieces[number][0]
                    depth += word.startswith(("if", "range")) - (word == "end")
                    if depth == 0 and word.startswith("else"):
                        branches.append((word.removeprefix("else "), number + 1))
                for number, (condition, begin) in enumerate(branches):
                    last = branches[number + 1][1] - 1 if number + 1 < len(branches) else end
                    if not done and holds(condition, message):
                        text, done = text + run(begin, last, message), True
                at = end + 1
        return text

    def holds(condition: str, message: dict[str, str] | None) -> bool:
        if condition == "if not .System":
            return not system
        if condition == "if not $open":
            return not variables["open"]
        match = re.fullmatch(r'if eq \.Role "(\w+)"', condition)
        assert match and message, condition
        return message["role"] == match[1]

    def closing(at: int) -> int:
        depth = 1
        while depth:
            word = pieces[at][0]
            depth += word.startswith(("if", "range")) - (word == "end")
            at += 1
        return at - 1

    return run(0, len(pieces), None)


# Every format of the families, and two of models' own.
TEMPLATES = {name: one.source for name, one in FORMATS.items()} | {
    "tiny": CHAT_TEMPLATE, "tiny with bos": "{{ bos_token }}" + CHAT_TEMPLATE
}  # fmt: skip


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
def test_the_text_is_that_of_the_models_own_template(source: str) -> None:
    template = ChatTemplate(source, SPECIAL)
    parts = find_parts(template, "<s>")
    for messages in CONVERSATIONS:
        wanted = template.render(messages, add_generation_prompt=True).removeprefix("<s>")
        assert go(parts.as_go(), messages) == wanted
    assert (DEFAULT_SYSTEM_PROMPT in parts.head) == (CHAT_TEMPLATE in source)


def test_a_template_with_gos_own_signs_is_said() -> None:
    source = CHAT_TEMPLATE.replace("'<|im_end|>'", "('{' ~ '{x')")
    assert source != CHAT_TEMPLATE
    template = ChatTemplate(source, SPECIAL)
    messages = [{"role": "user", "content": "x"}]
    assert go(find_parts(template, None).as_go(), messages) == template.render(messages, add_generation_prompt=True)


@pytest.mark.parametrize(
    "source, why",
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "does not write what is said as it is said"),
        (
            "{% for m in messages %}{{ loop.index }} {{ m.role }}: {{ m.content }};{% endfor %}",
            "written unlike|it makes|begin",
        ),
        (
            "{% for m in messages %}{{ m.content.strip() }}{{ messages | length }}{% endfor %}",
            "cannot be said as Ollama's",
        ),
    ],
)
def test_a_template_that_ollama_cannot_have_is_refused(source: str, why: str) -> None:
    with pytest.raises(LoraLabError, match=why):
        find_parts(ChatTemplate(source, SPECIAL), None)


def test_the_folder_holds_stops_system_and_commands(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("gguf")
    planned = export(base, *adapter_for(base.config), "ollama", "f16", tmp_path, system='Say "yes".\nAlways.')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Modelfile", "README.md", "model.gguf"]
    modelfile = (tmp_path / "Modelfile").read_text()
    assert modelfile.startswith('FROM ./model.gguf\nTEMPLATE """')
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert 'SYSTEM """Say "yes".\nAlways."""' in modelfile
    assert "ollama create my-model -f Modelfile" in (tmp_path / "README.md").read_text()
    assert planned.remarks == ()
    assert open_path(tmp_path).config.num_layers == 3  # it comes back as a model


def test_a_model_without_a_template_is_said_to_be_continued(base_model_folder: Path, tmp_path: Path) -> None:
    base = open_path(base_model_folder)
    planned = export(base, *adapter_for(base.config), "ollama", None, tmp_path)
    assert "no chat template" in planned.remarks[0]
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "Modelfile").read_text()
