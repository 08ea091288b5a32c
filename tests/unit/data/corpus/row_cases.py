"""Rows as people write them, with columns that no format knows: what is made of each, and what is told of the rest."""

# ruff: noqa: E501 (a case is a line)
from __future__ import annotations

import json
from typing import Any

from tests.unit.data.corpus.cases import PAIRS, Case, chat, text


def lines(*rows: Any) -> bytes:
    return text(*map(json.dumps, rows))


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


SYSTEM = "Answer as a gruff harbour master."
ASK, SAY = "Which way does the Mill Lane run?", "It runs north."
WITH_SYSTEM = (f"s: {SYSTEM}", f"u: {ASK}", f"a: {SAY}")
ONLY = (f"u: {ASK}", f"a: {SAY}")
TURNS = [turn("user", ASK), turn("assistant", SAY)]
LONG = "The notice board says much. " * 20
HH = f"\n\nHuman: {ASK}\n\nAssistant: {SAY}"


def parts(*texts: str, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words, **more} for words in texts]


def flagged(**flag: Any) -> bytes:
    return lines({"messages": [turn("user", "a"), turn("assistant", "WRONG", **flag), turn("user", "Sure?"), turn("assistant", "b")]})


HIDDEN = ("u: a", "(a: WRONG)", "u: Sure?", "a: b")
TEXT_FORMS = {
    "human.jsonl": f"### Human: {ASK}### Assistant: {SAY}",
    "vicuna.jsonl": f"A chat with a keeper. USER: {ASK} ASSISTANT: {SAY}</s>",
    "chatml.jsonl": f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n{SAY}<|im_end|>\n",
    "llama3.jsonl": f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{ASK}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{SAY}<|eot_id|>",
    "gemma.jsonl": f"<bos><start_of_turn>user\n{ASK}<end_of_turn>\n<start_of_turn>model\n{SAY}<end_of_turn>\n",
    "inst.jsonl": f"<s>[INST] {ASK} [/INST] {SAY} </s>",
    "inst-system.jsonl": f"<s>[INST] <<SYS>>\n{SYSTEM}\n<</SYS>>\n\n{ASK} [/INST] {SAY} </s>",
    "instruction.jsonl": f"{SYSTEM}\n\n### Instruction:\n{ASK}\n\n### Response:\n{SAY}",
    "instruction-input.jsonl": f"### Instruction:\n{ASK}\n\n### Input:\nThe board.\n\n### Response:\n{SAY}",
    "hh.jsonl": HH,
    "names.jsonl": f"User: {ASK}\nBot: {SAY}",
}
TEXT_TURNS = {
    "vicuna.jsonl": ("s: A chat with a keeper.", *ONLY), "inst-system.jsonl": WITH_SYSTEM, "instruction.jsonl": WITH_SYSTEM,
    "instruction-input.jsonl": (f"u: {ASK}\n\nThe board.", f"a: {SAY}"),
}  # fmt: skip
WARNED = ("chatml.jsonl", "llama3.jsonl", "gemma.jsonl", "inst.jsonl", "inst-system.jsonl", "instruction.jsonl", "instruction-input.jsonl")

# fmt: off
ROW_CASES: list[Case] = [
    # --- a system prompt beside the turns ---
    Case("system-beside-messages.jsonl", lines({"system": SYSTEM, "messages": TURNS}), "conversational", 1, 1, turns=WITH_SYSTEM),
    Case("system-beside-pair.jsonl", lines({"system": SYSTEM, "prompt": ASK, "completion": SAY}), "prompt-completion", 1, 1, turns=WITH_SYSTEM),
    Case("alpaca-system-prompt.jsonl", lines({"system_prompt": SYSTEM, "instruction": ASK, "output": SAY}), "alpaca", 1, 1, turns=WITH_SYSTEM),
    Case("sharegpt-system.jsonl", lines({"System Prompt": SYSTEM, "conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}]}), "sharegpt", 1, 1, turns=WITH_SYSTEM),
    Case("system-instruction.jsonl", lines({"systemInstruction": {"role": "system", "parts": [{"text": SYSTEM}]}, "messages": TURNS}), "conversational", 1, 1, turns=WITH_SYSTEM),
    Case("instructions.jsonl", lines({"instructions": SYSTEM, "messages": TURNS}), "conversational", 1, 1, turns=WITH_SYSTEM),
    Case("system-twice-the-same.jsonl", lines({"system": SYSTEM, "messages": [turn("system", SYSTEM), *TURNS]}), "conversational", 1, 1, turns=WITH_SYSTEM),
    Case("system-of-its-own.jsonl", lines({"system": "Be brief.", "messages": [turn("system", SYSTEM), *TURNS]}), "conversational", 1, 1, turns=WITH_SYSTEM, unused={"system": 1}),
    Case("two-systems.jsonl", lines({"system": "Be brief.", "system_prompt": "Be kind.", "messages": TURNS}), "conversational", 1, 1, turns=ONLY, unused={"system": 1, "system_prompt": 1}),
    Case("system-empty.jsonl", lines({"system": "", "messages": TURNS}), "conversational", 1, 1, turns=ONLY),
    Case("system-number.jsonl", lines({"system": 3, "messages": TURNS}), "conversational", 1, 1, turns=ONLY, unused={"system": 1}),
    Case("system-beside-text.jsonl", lines({"system": "x", "text": "words of a text"}), "text", 1, 1, unused={"system": 1}),
    # --- how good an answer is ---
    Case("kto-label.jsonl", lines(*[{"prompt": ASK + str(i), "completion": SAY, "label": i % 2 == 0} for i in range(4)]), "preference", 4, 2, {"preference": 2, "near-duplicate": 0, "duplicate": 0},
         turns=(f"u: {ASK}0", f"a: {SAY}"), readings=("as=known", "prompt=prompt, reply=completion")),
    Case("kto-all.jsonl", lines(*[{"prompt": ASK, "completion": f"{i}!", "label": i % 2 == 0} for i in range(2)]), "prompt-completion", 2, 2, {"near-duplicate": 0}, unused={"label": 2}, map="prompt=prompt,reply=completion",
         readings=("as=known", "prompt=prompt, reply=completion")),
    Case("kto-tag.jsonl", lines({"instruction": "a", "input": "", "output": "b", "kto_tag": "true"}, {"instruction": "c", "input": "", "output": "d", "kto_tag": "false"}), "preference", 2, 1, {"preference": 1},
         readings=("as=known", "prompt=instruction, context=input, reply=output")),
    Case("kto-messages.jsonl", lines({"messages": TURNS, "label": False}, {"messages": TURNS, "label": True}), "preference", 2, 1, {"preference": 1}, readings=("as=known", "conversation=messages")),
    Case("kto-number.jsonl", lines({"prompt": "a", "completion": "b", "label": 1}, {"prompt": "c", "completion": "d", "label": 0}), "preference", 2, 1, {"preference": 1}, readings=("as=known", "prompt=prompt, reply=completion")),
    Case("kto-other-names.jsonl", lines({"question": "a", "answer": "b", "label": True}, {"question": "c", "answer": "d", "label": False}), "unknown", 2, 0, {"unknown-columns": 2}, readings=("prompt=question, reply=answer, label=label", "prompt=question, reply=answer")),
    Case("class-label.jsonl", lines({"prompt": "a", "completion": "b", "label": 7}), "prompt-completion", 1, 1, unused={"label": 1}),
    Case("rating.jsonl", lines(*[{"prompt": f"a{i}", "completion": f"b{i}", "rating": i} for i in range(1, 6)]), "prompt-completion", 5, 5, unused={"rating": 5}, asks=True,
         readings=("prompt=prompt, reply=completion, label=rating>=3", "as=known")),
    Case("rating-chosen.jsonl", lines(*[{"prompt": f"a{i}", "completion": f"b{i}", "rating": i} for i in range(1, 6)]), "preference", 5, 3, {"preference": 2}, map="prompt=prompt,reply=completion,label=rating>=3",
         turns=("u: a3", "a: b3"), readings=("prompt=prompt, reply=completion, label=rating>=3", "as=known")),
    Case("score-messages.jsonl", lines(*[{"messages": TURNS, "score": score} for score in (0.1, 0.9)]), "conversational", 2, 2, {"duplicate": 1}, unused={"score": 2}, asks=True, readings=("conversation=messages, label=score>=0.5", "as=known")),
    Case("preferred-output.jsonl", lines({"input": {"messages": [turn("user", ASK)], "tools": []}, "preferred_output": [turn("assistant", SAY)], "non_preferred_output": [turn("assistant", "West.")]}), "preference", 1, 0, {"preference": 1},
         readings=("prompt=input, reply=preferred_output",)),
    Case("preferred-output-chosen.jsonl", lines({"input": {"messages": [turn("user", ASK)], "parallel_tool_calls": True}, "preferred_output": [turn("assistant", SAY)], "non_preferred_output": [turn("assistant", "West.")]}), "prompt-completion", 1, 1, turns=ONLY,
         map="prompt=input,reply=preferred_output", unused={"non_preferred_output": 1, "input.parallel_tool_calls": 1}, readings=("prompt=input, reply=preferred_output",)),
    Case("hh-chosen.jsonl", lines({"chosen": HH, "rejected": HH + " No."}), "preference", 1, 0, {"preference": 1}, readings=("conversation=chosen",)),
    Case("hh-chosen-read.jsonl", lines({"chosen": HH, "rejected": HH + " No."}), "conversational", 1, 1, turns=ONLY, map="conversation=chosen", unused={"rejected": 1}, readings=("conversation=chosen",)),
    Case("chosen-turns.jsonl", lines({"chosen": TURNS, "rejected": TURNS}), "preference", 1, 0, {"preference": 1}, readings=("conversation=chosen",)),
    # --- what the prompt is about, and what came before ---
    Case("context-column.jsonl", lines({"instruction": ASK, "context": "The notice board says: It runs north.", "response": SAY, "category": "closed_qa"}), "unknown", 1, 0, {"missing-key": 1},
         readings=("prompt=instruction, context=context, reply=response",)),
    Case("context-read.jsonl", lines({"instruction": ASK, "context": "The board.", "response": SAY, "category": "closed_qa"}), "prompt-completion", 1, 1, map="prompt=instruction,context=context,reply=response",
         turns=(f"u: {ASK}\n\nThe board.", f"a: {SAY}"), unused={"category": 1}, readings=("prompt=instruction, context=context, reply=response",)),
    Case("passage.jsonl", lines({"question": ASK, "passage": "The board.", "answer": SAY}), "unknown", 1, 0, {"unknown-columns": 1}, readings=("prompt=question, context=passage, reply=answer", "text=passage")),
    Case("article.jsonl", lines({"article": LONG, "highlights": SAY}), "unknown", 1, 0, {"unknown-columns": 1}, readings=("prompt=article, reply=highlights", "text=article")),
    Case("context-beside-pair.jsonl", lines({"prompt": ASK, "completion": SAY, "document": "Board."}), "prompt-completion", 1, 1, unused={"document": 1}, turns=ONLY, readings=("prompt=prompt, context=document, reply=completion", "as=known")),
    Case("long-context-beside-pair.jsonl", lines({"prompt": ASK, "completion": SAY, "document": LONG}), "prompt-completion", 1, 1, unused={"document": 1}, asks=True, readings=("prompt=prompt, context=document, reply=completion", "as=known")),
    Case("long-remark.jsonl", lines({"messages": TURNS, "rationale": LONG}), "conversational", 1, 1, unused={"rationale": 1}, asks=True, readings=("as=known",)),
    Case("long-remark-agreed.jsonl", lines({"messages": TURNS, "rationale": LONG}), "conversational", 1, 1, unused={"rationale": 1}, map="as=known"),
    Case("history.jsonl", lines({"query": "c", "response": "d", "history": [["a", "b"]]}), "unknown", 1, 0, {"unknown-columns": 1}, readings=("prompt=query, history=history, reply=response",)),
    Case("history-read.jsonl", lines({"query": "c", "response": "d", "history": [["a", "b"]]}), "prompt-completion", 1, 1, map="prompt=query,reply=response,history=history", turns=("u: a", "a: b", "u: c", "a: d"), readings=("prompt=query, history=history, reply=response",)),
    Case("history-texts.jsonl", lines({"query": "c", "response": "d", "history": ["x", "a", "b"]}), "prompt-completion", 1, 1, map="prompt=query,reply=response,history=history", turns=("a: x", "u: a", "a: b", "u: c", "a: d"), readings=("prompt=query, history=history, reply=response",)),
    Case("history-turns.jsonl", lines({"prompt": "c", "completion": "d", "history": [turn("user", "a"), turn("assistant", "b", name="Ann")]}), "prompt-completion", 1, 1, map="prompt=prompt,reply=completion,history=history", turns=("u: a", "a: b", "u: c", "a: d"), unused={"history[].name": 1},
         readings=("prompt=prompt, history=history, reply=completion", "as=known")),
    # --- one text, or a text and its answer ---
    Case("text-and-label.csv", b"text,label\nWhich way?,0\nWhen?,1\n", "text", 2, 2, unused={"label": 2}, asks=True, readings=("prompt=text, reply=label", "as=known")),
    Case("text-and-label-read.csv", b"text,label\nWhich way?,0\nWhen?,1\n", "prompt-completion", 2, 2, map="prompt=text,reply=label", turns=("u: Which way?", "a: 0"), readings=("prompt=text, reply=label", "as=known")),
    Case("text-and-number.jsonl", lines({"text": "Which way?", "label": 1}), "prompt-completion", 1, 1, map="prompt=text,reply=label", turns=("u: Which way?", "a: 1"), readings=("prompt=text, reply=label", "as=known")),
    Case("text-and-summary.jsonl", lines({"text": LONG, "summary": SAY}), "text", 1, 1, unused={"summary": 1}, asks=True, readings=("prompt=text, reply=summary", "as=known")),
    Case("text-agreed.jsonl", lines({"text": LONG, "summary": SAY}), "text", 1, 1, unused={"summary": 1}, map="as=known", readings=("prompt=text, reply=summary", "as=known")),
    Case("text-and-id.jsonl", lines({"text": LONG, "id": "a-1", "source": "web"}), "text", 1, 1, unused={"id": 1, "source": 1}),
    # --- wishes about training ---
    Case("train-false.jsonl", flagged(train=False), "conversational", 1, 1, turns=HIDDEN),
    Case("loss-false.jsonl", flagged(loss=False), "conversational", 1, 1, turns=HIDDEN),
    Case("loss-zero.jsonl", flagged(loss=0), "conversational", 1, 1, turns=HIDDEN),
    Case("weight-text.jsonl", flagged(weight="0"), "conversational", 1, 1, turns=HIDDEN),
    Case("masked.jsonl", flagged(masked=True), "conversational", 1, 1, turns=HIDDEN),
    Case("mask-true.jsonl", flagged(mask=True), "conversational", 1, 1, turns=HIDDEN),
    Case("mask-number.jsonl", flagged(mask=1), "conversational", 1, 0, {"weight": 1}),
    Case("weight-half.jsonl", flagged(weight=0.5), "conversational", 1, 0, {"weight": 1}),
    Case("weight-half-text.jsonl", flagged(weight="0.5"), "conversational", 1, 0, {"weight": 1}),
    Case("train-against-weight.jsonl", flagged(train=True, weight=0), "conversational", 1, 0, {"weight": 1}),
    Case("train-null.jsonl", flagged(train=None), "conversational", 1, 1, turns=("u: a", "a: WRONG", "u: Sure?", "a: b")),
    Case("train-user.jsonl", lines({"messages": [turn("user", ASK, train=True), turn("assistant", SAY, train=True)]}), "conversational", 1, 1, turns=ONLY, unused={"messages[].train": 1}),
    Case("sharegpt-weight.jsonl", lines({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}, {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]}), "sharegpt", 1, 1, turns=("u: a", "(a: b)", "u: c", "a: d")),
    Case("all-untrained.jsonl", lines({"messages": [turn("user", "a"), turn("assistant", "b", train=False)]}), "conversational", 1, 0, {"no-assistant": 1}),
    # --- words in other forms ---
    Case("text-parts.jsonl", lines({"messages": [turn("user", parts(ASK)), turn("assistant", parts("It runs", "north."))]}), "conversational", 1, 1, turns=(f"u: {ASK}", "a: It runs\nnorth.")),
    Case("part-keys.jsonl", lines({"messages": [turn("user", parts(ASK, cache_control={"type": "ephemeral"})), turn("assistant", parts(SAY, image=None))]}), "conversational", 1, 1, turns=ONLY, unused={"messages[].content[].cache_control": 1}),
    Case("part-thinking.jsonl", lines({"messages": [turn("user", ASK), turn("assistant", [{"type": "thinking", "thinking": "hm"}, *parts(SAY)])]}), "conversational", 1, 0, {"media": 1}),
    Case("part-tool.jsonl", lines({"messages": [turn("user", ASK), turn("assistant", [{"type": "tool_use", "id": "1"}])]}), "conversational", 1, 0, {"tools": 1}),
    Case("parts-in-pair.jsonl", lines({"prompt": parts(ASK), "completion": parts(SAY)}), "prompt-completion", 1, 1, turns=ONLY),
    Case("parts-in-sharegpt.jsonl", lines({"conversations": [{"from": "human", "value": parts(ASK)}, {"from": "gpt", "value": SAY}]}), "sharegpt", 1, 1, turns=ONLY),
    Case("role-spellings.jsonl", lines({"messages": [turn("User", ASK), turn("Chatbot", SAY)]}), "conversational", 1, 0, {"unknown-role": 1}, mendable=1, turns=ONLY),
    Case("role-spellings-pair.jsonl", lines({"prompt": [turn("developer", SYSTEM), turn("Human", ASK)], "completion": [turn("model", SAY)]}), "prompt-completion", 1, 0, {"unknown-role": 1}, mendable=1, turns=WITH_SYSTEM),
    Case("role-bot.jsonl", lines({"messages": [turn("user", ASK), turn("bot", SAY)]}), "conversational", 1, 0, {"unknown-role": 1}, mendable=1, turns=ONLY),
    Case("number-answer.jsonl", lines({"prompt": "2+2?", "completion": 4}), "prompt-completion", 1, 0, {"wrong-type": 1}, mendable=1, turns=("u: 2+2?", "a: 4")),
    Case("boolean-answer.jsonl", lines({"instruction": "So?", "output": True}), "alpaca", 1, 0, {"wrong-type": 1}, mendable=1, turns=("u: So?", "a: true")),
    Case("number-turn.jsonl", lines({"messages": [turn("user", "2+2?"), turn("assistant", 4.5)]}), "conversational", 1, 0, {"wrong-type": 1}, mendable=1, turns=("u: 2+2?", "a: 4.5")),
    Case("turns-by-themselves.jsonl", lines(TURNS, chat("u: a", "a: b")), "conversational", 2, 1, {"bare-turns": 1}, mendable=1, turns=ONLY),
    Case("bare-sharegpt.jsonl", lines([{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}], {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}), "sharegpt", 2, 1, {"bare-turns": 1}, mendable=1, turns=ONLY),
    Case("bare-turns-unanswered.jsonl", lines([turn("user", "a")], chat("u: a", "a: b")), "conversational", 2, 1, {"bare-turns": 1}),
    # --- what nothing is made of, at every depth ---
    Case("message-name.jsonl", lines({"id": 7, "messages": [turn("user", ASK, name="Ann"), turn("assistant", SAY, reasoning_content="hm")]}), "conversational", 1, 1, turns=ONLY, unused={"messages[].name": 1, "messages[].reasoning_content": 1, "id": 1}),
    Case("sharegpt-keys.jsonl", lines({"conversations": [{"from": "human", "value": ASK, "markdown": "x"}, {"from": "gpt", "value": SAY}], "url": "https://x"}), "sharegpt", 1, 1, turns=ONLY, unused={"conversations[].markdown": 1, "url": 1}),
    Case("prompt-keys.jsonl", lines({"prompt": [turn("user", ASK, lang="en")], "completion": SAY}), "prompt-completion", 1, 1, turns=ONLY, unused={"prompt[].lang": 1}),
    Case("alpaca-keys.jsonl", lines({"instruction": "a", "input": "", "output": "b", "text": "a b"}), "alpaca", 1, 1, unused={"text": 1}),
    Case("metadata.jsonl", lines({"prompt": "a", "completion": "b", "meta": {"note": "c"}, "tags": [], "n": 0, "gone": {"x": None}}), "prompt-completion", 1, 1, unused={"meta": 1, "n": 1}),
    Case("rendered-too.jsonl", lines({"messages": TURNS, "prompt": ASK, "text": f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n{SAY}<|im_end|>\n"}), "conversational", 1, 1, turns=ONLY, unused={"prompt": 1, "text": 1}),
    Case("empty-tools.jsonl", lines(chat("u: a", "a: b", tools=[], functions=None)), "conversational", 1, 1),
    Case("pairs-with-id.csv", b"id,prompt,completion\n1,a,b\n2,c,d\n", "prompt-completion", 2, 2, unused={"id": 2}),
    # --- texts that carry a template of their own ---
    *[Case(f"text-{name}", lines({"text": words}), "text", 1, 1, {"template-applied": 1} if name in WARNED else {}, readings=("conversation=text", "as=known")) for name, words in TEXT_FORMS.items()],
    *[Case(f"read-{name}", lines({"text": words}), "conversational", 1, 1, turns=TEXT_TURNS.get(name, ONLY), map="conversation=text", readings=("conversation=text", "as=known")) for name, words in TEXT_FORMS.items()],
    Case("text-no-turns.jsonl", lines({"text": "No one: says a thing"}), "unknown", 1, 0, {"no-turns": 1}, map="conversation=text"),
    Case("prompt-marked.jsonl", lines({"prompt": f"[INST] {ASK} [/INST]", "completion": SAY}), "prompt-completion", 1, 1, {"template-applied": 1}, readings=("conversation=prompt, reply=completion", "as=known")),
    Case("prompt-marked-read.jsonl", lines({"prompt": f"[INST] {ASK} [/INST]", "completion": SAY}), "conversational", 1, 1, turns=ONLY, map="conversation=prompt,reply=completion", readings=("conversation=prompt, reply=completion", "as=known")),
    # --- mappings ---
    Case("comma-in-a-name.jsonl", lines({"What, now?": "a", "say": "b"}), "prompt-completion", 1, 1, map='prompt="What, now?",reply=say', turns=("u: a", "a: b")),
    Case("system-mapped.jsonl", lines({"q": ASK, "a": SAY, "role_play": SYSTEM}), "prompt-completion", 1, 1, map="prompt=q,reply=a,system=role_play", turns=WITH_SYSTEM, readings=("prompt=q, reply=a",)),
    Case("known-as-it-stands.jsonl", lines(*PAIRS), "prompt-completion", 3, 3, map="as=known"),
    Case("dialog.jsonl", lines({"dialog": TURNS, "split": "a"}), "unknown", 1, 0, {"unknown-columns": 1}, readings=("conversation=dialog",)),
]
# fmt: on
