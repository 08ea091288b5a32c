"""Files as people drop them, hostile and real-looking, each with the report that it must get.

A case is (name, bytes, what is expected): format, rows, good rows, and the number of problems of each kind; the kinds
`few-rows`, `crlf` and `container` are left out except where a case is about them. `at` are (kind, line, column).
`unused` are the columns that the report must name, with their rows; `turns` the first kept row as it is read, a turn
`u: …`, `a: …`, `s: …`, in brackets
where it is not trained; `readings` what is offered for --map, `asks` whether one of them has to be chosen; `map` a
choice that was made.
"""

# ruff: noqa: E501 (a case is a line)
from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    format: str
    rows: int
    good: int
    kinds: dict[str, int] = field(default_factory=dict)
    at: tuple[tuple[str, int, int | None], ...] = ()
    mendable: int = 0
    unused: dict[str, int] = field(default_factory=dict)
    turns: tuple[str, ...] = ()
    readings: tuple[str, ...] = ()
    asks: bool = False
    map: str = ""
    improvable: int = 0


def chat(*turns: str, **more: Any) -> dict[str, Any]:
    """Turns written as `u: …`, `a: …`, `s: …`."""
    roles = {"u": "user", "a": "assistant", "s": "system"}
    return {"messages": [{"role": roles[t[0]], "content": t[3:]} for t in turns], **more}


CHATS = [chat(f"u: question number {i}?", f"a: the answer is {i * 7}.") for i in range(3)]
PAIRS = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(3)]
LINES = "\n".join(map(json.dumps, CHATS))
T1, T2, T3 = ('{"text": "one"}', '{"text": "two"}', '{"text": "three"}')


def text(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def one(value: Any) -> bytes:
    return json.dumps(value).encode()


FRENCH = "Près du quai, à côté de l’église 😀"
# Each holds a letter and a sign that would be one character of UTF-8, were the text damaged.
RIGHT = ["CAFÉ\xa0: ouvert", "„Spaß…“", "Spaß…", "ÚŽAS", "NESTLÉ®", "IRMÃ…", "É…É…", "un café…”", "MENÚ£5", "2×½×¾", "« à\xa0« »"]


def garbled(right: str) -> str:
    """UTF-8 as Windows-1252 reads it."""
    return "".join(bytes([b]).decode("cp1252") if b not in b"\x81\x8d\x8f\x90\x9d" else chr(b) for b in right.encode())


def deep(depth: int) -> str:
    return '{"text": ' + "[" * depth + "]" * depth + "}"


def shared(turn: dict[str, Any]) -> bytes:
    return one({"conversations": [turn, {"from": "gpt", "value": "Yes."}]})


# fmt: off
CASES: list[Case] = [
    # --- what each format looks like ---
    Case("chat.jsonl", LINES.encode(), "conversational", 3, 3),
    Case("pairs.jsonl", text(*map(json.dumps, PAIRS)), "prompt-completion", 3, 3),
    Case("texts.jsonl", text(T1, T2, T3), "text", 3, 3),
    Case("alpaca.json", one([{"instruction": "Add", "input": "1 2", "output": "3"}, {"instruction": "Go", "output": "ok"}]), "alpaca", 2, 2),
    Case("alpaca-history.jsonl", one({"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]]}), "alpaca", 1, 1),
    Case("alpaca-bad-history.jsonl", one({"instruction": "c", "output": "d", "history": "a"}), "alpaca", 1, 0, {"wrong-type": 1}),
    Case("sharegpt.json", shared({"from": "human", "value": "Hi"}), "sharegpt", 1, 1),
    Case("sharegpt-roles.json", one({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}), "sharegpt", 1, 1),
    Case("sharegpt-tool.json", shared({"from": "observation", "value": "{}"}), "sharegpt", 1, 0, {"tools": 1}),
    Case("sharegpt-role.json", shared({"from": "narrator", "value": "x"}), "sharegpt", 1, 0, {"unknown-role": 1}),
    Case("preference.jsonl", text(*[json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"})] * 2), "preference", 2, 0, {"preference": 2}, readings=("prompt=prompt, reply=chosen",)),
    Case("mixed.jsonl", text(T1, json.dumps(PAIRS[0]), json.dumps(CHATS[0])), "mixed", 3, 3, {"mixed-formats": 1}),
    Case("weights.jsonl", one({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "weight": 1}]}), "conversational", 1, 1),
    Case("all-weights-zero.jsonl", one({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}), "conversational", 1, 0, {"no-assistant": 1}),
    Case("other-names.jsonl", text('{"question": "a", "answer": "b"}', '{"question": "c", "answer": "d"}'), "unknown", 2, 0, {"unknown-columns": 2}, readings=("prompt=question, reply=answer",)),
    # --- how files are written ---
    Case("array.json", one(CHATS), "conversational", 3, 3),
    Case("array-lines.json", ("[\n" + ",\n".join(map(json.dumps, CHATS)) + "\n]").encode(), "conversational", 3, 3),
    Case("array-pretty.json", json.dumps(CHATS, indent=2).encode(), "conversational", 3, 3),
    Case("objects-pretty.json", "\n".join(json.dumps(c, indent=4) for c in CHATS).encode(), "conversational", 3, 3),
    Case("one-object-pretty.json", json.dumps(CHATS[0], indent=2).encode(), "conversational", 1, 1),
    Case("empty-array.json", b"[]", "unknown", 0, 0, {"empty-file": 1}),
    Case("wrapped.json", json.dumps({"data": PAIRS}).encode(), "prompt-completion", 1, 0, {"wrapped-rows": 1}, mendable=3),
    Case("pairs.csv", b"prompt,completion\nhello,world\n\"a, b\",\"say \"\"hi\"\"\nagain\"\n", "prompt-completion", 2, 2),
    Case("pairs.tsv", b"prompt\tcompletion\nhello\tworld\n", "prompt-completion", 1, 1),
    Case("semicolons.csv", b"prompt;completion\nhello;world\n", "prompt-completion", 1, 1),
    Case("quoted-header.csv", b'"prompt","completion"\n"a","b"\n', "prompt-completion", 1, 1),
    Case("no-suffix-table", b"instruction,input,output\nAdd,1 2,3\nGo,,ok\n", "alpaca", 2, 2),
    Case("texts.csv", b"text\none\ntwo\n", "text", 2, 2),
    Case("chat-cells.csv", b'messages\n"[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""b""}]"\n', "conversational", 1, 1),
    Case("short-row.csv", b"prompt,completion\nonly one\na,b\n", "prompt-completion", 2, 1, {"csv-columns": 1}, (("csv-columns", 2, 1),)),
    Case("long-row.csv", b"prompt,completion\na,b,c\na,b\n", "prompt-completion", 2, 1, {"csv-columns": 1}, (("csv-columns", 2, 1),)),
    Case("open-quote.csv", b'prompt,completion\na,"never closed\nc,d\n', "prompt-completion", 2, 1, {"csv-quote": 1}, (("csv-quote", 2, 3),)),
    Case("inches.csv", b'prompt,completion\na 5" pipe,x\nb,y\nan 8" pipe,z\n', "prompt-completion", 3, 3),
    Case("one-inch.csv", b'prompt,completion\na 5" pipe,x\nb,y\n', "prompt-completion", 2, 2),
    Case("two-columns-alike.csv", b"prompt,prompt\na,b\n", "unknown", 0, 0, {"csv-header": 1}),
    Case("unnamed-column.csv", b"prompt,\na,b\n", "unknown", 1, 0, {"nameless-column": 1, "missing-key": 1}),
    Case("empty-cell.csv", b"prompt,completion\na,\nb,c\n", "prompt-completion", 2, 1, {"empty-content": 1}),
    Case("story.txt", b"Once upon a time, there was a lamp.\nIt shone.\n\n\nThen it went out, alas.\n", "text", 2, 2),
    Case("notes.md", b"# A title\n\n- one\n- two\n", "text", 2, 2),
    Case("prose.jsonl", b"This is prose.\nIt is no JSON at all.\n", "unknown", 0, 0, {"not-json": 1}),
    Case("chat.jsonl.gz", gzip.compress(LINES.encode()), "conversational", 3, 3),
    Case("two-members.jsonl.gz", gzip.compress(T1.encode() + b"\n") + gzip.compress(T2.encode()), "text", 2, 2),
    Case("cut-off.jsonl.gz", gzip.compress(LINES.encode())[:-6], "conversational", 3, 3, {"gzip": 1}),
    Case("damaged.jsonl.gz", gzip.compress(LINES.encode())[:12] + b"\xff" * 40, "unknown", 1, 0, {"encoding": 1, "gzip": 1}),
    Case("pairs.csv.gz", gzip.compress(b"prompt,completion\na,b\n"), "prompt-completion", 1, 1),
    Case("bom.jsonl", b"\xef\xbb\xbf" + LINES.encode(), "conversational", 3, 3, {"bom": 1}),
    Case("utf16.jsonl", LINES.encode("utf-16"), "conversational", 3, 3, {"encoding": 1}),
    Case("utf16-be-no-bom.jsonl", LINES.encode("utf-16-be"), "conversational", 3, 3, {"encoding": 1}),
    Case("utf16-le-no-bom.csv", "prompt,completion\nä,ö\n".encode("utf-16-le"), "prompt-completion", 1, 1, {"encoding": 1}),
    Case("utf32.jsonl", T1.encode("utf-32"), "text", 1, 1, {"encoding": 1}),
    Case("utf16-odd.jsonl", T1.encode("utf-16") + b"\n", "text", 1, 1, {"encoding": 2}),
    Case("windows.jsonl", LINES.replace("\n", "\r\n").encode(), "conversational", 3, 3, {"crlf": 1}),
    Case("macintosh.jsonl", LINES.replace("\n", "\r").encode(), "conversational", 3, 3),
    Case("blank-lines.jsonl", text("", T1, "", "  ", T2, ""), "text", 2, 2, {"blank-lines": 1}, (("blank-lines", 1, None),)),
    Case("latin1.jsonl", text(T1) + b'\n{"text": "caf\xe9"}\n' + text(T2), "text", 3, 2, {"encoding": 1}, (("encoding", 2, 14),)),
    Case("latin1.csv", b"prompt,completion\ncaf\xe9,x\na,b\n", "prompt-completion", 2, 1, {"encoding": 1}, (("encoding", 2, 4),)),
    Case("latin1-array.json", b'[\n{"text": "ok"},\n{"text": "caf\xe9"}]', "text", 2, 1, {"encoding": 1}, (("encoding", 3, 14),)),
    # --- text that begins like JSON, JSON that is damaged where it begins ---
    Case("lyrics.txt", text("[Verse 1]", "The lamp is lit at four,", "the tide is at the door.", "", "[Chorus]", "Row home, row home,"), "text", 2, 2, {"container": 1}),
    Case("whatsapp.txt", text("[12/03/2024, 09:15] Ann: When does the ferry sail?", "[12/03/2024, 09:16] Bob: At nine.", "", "[13/03/2024, 10:00] Ann: And today?"), "text", 2, 2),
    Case("badges.md", text("[![build](https://example.org/b.svg)](https://example.org)", "", "# Harbour", "", "A small guide to the harbour."), "text", 3, 3),
    Case("infobox.txt", text("{{Infobox harbour", "| name = North", "}}", "", "It lies north."), "text", 2, 2),
    Case("spoken.txt", b'"Come in," said Ann.\n\n"Question, answer and so on," said Bob.\n', "text", 2, 2),
    Case("prose-of-names.txt", text("Question, answer and silence", "make a talk.", "And more of it, perhaps."), "text", 1, 1),
    Case("tasks.md", text("[ ] buy rope", "[x] mend the net"), "text", 1, 1),
    Case("footnote.txt", text("[1] See the chart.", "", "[2] And the log."), "text", 2, 2),
    Case("empty-set.txt", text("{} is an empty set.", "{ and } are braces: {a, b}."), "text", 1, 1),
    Case("code-in-prose.md", text("# How rows are written", "", "A row is", '{"text": "one"}', "and nothing else.", "", "That is all."), "text", 3, 3),
    Case("pasted lyrics", text("[Verse 1]", "The lamp is lit at four."), "text", 1, 1),
    Case("rows.txt", text(T1, T2, T3), "text", 3, 3, {"container": 1}),
    Case("heading-and-rows.txt", text("# my rows", T1, T2, T3), "text", 4, 3, {"comment": 1}),
    Case("array.txt", one(CHATS), "conversational", 3, 3, {"container": 1}),
    Case("damaged-begin.json", text('[{"text": one},', T2 + "]"), "text", 2, 1, {"json": 1}),
    Case("damaged-begin.jsonl", text("[Verse 1", T1, T2), "text", 3, 2, {"json": 1}),
    Case("damaged-begin.txt", text('{"text" "one"}', T2), "text", 2, 1, {"missing-colon": 1}),
    Case("damaged-begin-pasted", text("{text: 'one'}", T2), "text", 2, 1, {"unquoted-key": 1}, mendable=1),
    Case("lyrics.json", text("[Verse 1]", "The lamp is lit."), "unknown", 1, 0, {"not-an-object": 1, "extra-data": 1}),
    # --- JSON in strings ---
    Case("json-in-strings.jsonl", text(*[json.dumps(json.dumps(pair)) for pair in PAIRS]), "prompt-completion", 3, 0, {"json-string": 3}, mendable=3),
    Case("json-in-a-string.json", one(json.dumps(PAIRS)), "prompt-completion", 1, 0, {"json-string": 1}, mendable=3),
    Case("lines-in-a-string.json", one(LINES), "conversational", 1, 0, {"json-string": 1}, mendable=3),
    Case("strings-in-array.json", one([json.dumps(PAIRS[0]), "hello", PAIRS[1]]), "prompt-completion", 3, 1, {"json-string": 1, "not-an-object": 1}, mendable=1),
    Case("messages-string.jsonl", one({"messages": json.dumps(CHATS[0]["messages"]), "id": 7}), "conversational", 1, 0, {"json-string": 1}, mendable=1),
    Case("messages-python.jsonl", one({"messages": repr(chat("u: a\xa0b", "a: it's \"so\"")["messages"])}), "conversational", 1, 0, {"json-string": 1}, mendable=1),
    Case("messages-python.csv", b"id,messages\n1,\"[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]\"\n", "conversational", 1, 0, {"json-string": 1}, mendable=1),
    Case("prompt-string.jsonl", one({"prompt": json.dumps(CHATS[0]["messages"][:1]), "completion": "b"}), "prompt-completion", 1, 1, {"json-string": 1}, improvable=1),
    Case("answers-are-json.jsonl", text(*[one({"prompt": "as JSON", "completion": answer}).decode() for answer in ('{"a": 1}', '[{"a": 1}]', "[1, 2]")]), "prompt-completion", 3, 3),
    Case("answers-are-json.csv", b'prompt,completion\nas JSON,"{""a"": 1}"\nagain,"[1, 2]"\n', "prompt-completion", 2, 2),
    Case("python-calls.jsonl", one({"messages": "[__import__('os').getcwd(), {'role': 'user', 'content': 'a'}]"}), "conversational", 1, 0, {"wrong-type": 1}),
    Case("messages-words.jsonl", one({"messages": "[see above]"}), "conversational", 1, 0, {"wrong-type": 1}),
    # --- arrays one behind the other ---
    Case("concatenated-arrays.json", one(PAIRS[:2]) + one(PAIRS[2:]), "prompt-completion", 3, 3, {"joined-arrays": 1}),
    Case("array-a-line.jsonl", text(json.dumps(PAIRS[:2]), json.dumps(PAIRS[2:]), "[]"), "prompt-completion", 3, 3, {"joined-arrays": 2}),
    Case("array-on-some-lines.jsonl", text(json.dumps(PAIRS[2]), json.dumps(PAIRS[:2]), "[]"), "prompt-completion", 4, 3, {"row-list": 1, "not-an-object": 1}),
    Case("arrays-pretty.json", text(json.dumps(PAIRS[:2], indent=1), json.dumps(PAIRS[2:], indent=1)), "prompt-completion", 3, 3, {"joined-arrays": 1}),
    Case("arrays-commas.json", one(PAIRS[:2]) + b",\n" + one(PAIRS[2:]), "prompt-completion", 3, 3, {"joined-arrays": 1, "extra-comma": 1}),
    Case("array-of-arrays.json", one([PAIRS[:2], PAIRS[2:]]), "prompt-completion", 3, 3, {"row-list": 2}),
    Case("array-then-objects.json", one(PAIRS[:2]) + b"\n" + one(PAIRS[2]), "prompt-completion", 3, 3),
    Case("object-then-array.json", json.dumps(PAIRS[2], indent=1).encode() + b"\n" + one(PAIRS[:2]), "prompt-completion", 3, 3, {"joined-arrays": 1}),
    Case("side-by-side.jsonl", "".join(map(json.dumps, PAIRS)).encode(), "prompt-completion", 3, 3),
    Case("side-by-side-lines.jsonl", text(T1 + T2, T3), "text", 3, 3, {"extra-data": 1}),
    Case("side-by-side-broken.jsonl", text(T1 + '{"text": ', T3), "text", 2, 1, {"extra-data": 1}),
    Case("bare-turns.jsonl", text(*[json.dumps(row["messages"]) for row in CHATS]), "conversational", 3, 0, {"bare-turns": 3}, mendable=3),
    Case("bare-turns.json", json.dumps(CHATS[0]["messages"], indent=1).encode(), "conversational", 1, 0, {"bare-turns": 1}, mendable=1),
    Case("bare-turns-array.json", one([[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], CHATS[0]["messages"]]), "mixed", 2, 0, {"bare-turns": 2, "mixed-formats": 1}, mendable=2),
    # --- rows in other shapes ---
    Case("curly-quotes.jsonl", text("{“text”: “she said \"no\"”}", "{‘text’: ‘a’}", '{"text": "she said “no”"}'), "text", 3, 1, {"curly-quotes": 2}, mendable=2),
    Case("curly-ambiguous.jsonl", text("{“text”: “say “no” loud”}"), "unknown", 1, 0, {"curly-quotes": 1}),
    Case("to-json.json", one({"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}}), "prompt-completion", 1, 0, {"columns": 1}, mendable=2),
    Case("to-json-split.json", one({"columns": ["prompt", "completion"], "index": [0, 1], "data": [["a", "c"], ["b", "d"]]}), "prompt-completion", 1, 0, {"columns": 1}, mendable=2),
    Case("to-json-index.json", one({str(number): pair for number, pair in enumerate(PAIRS)}), "prompt-completion", 1, 0, {"columns": 1}, mendable=3),
    Case("to-dict.json", one({"prompt": ["a", "b"], "completion": ["c", "d"]}), "prompt-completion", 1, 0, {"columns": 1}, mendable=2),
    Case("to-dict-messages.json", one({"messages": [row["messages"] for row in CHATS]}), "conversational", 1, 0, {"columns": 1}, mendable=3),
    Case("text-list.jsonl", one({"text": ["a"]}), "text", 1, 0, {"wrong-type": 1}),
    Case("hub-rows.json", one({"features": [{"name": "prompt"}], "rows": [{"row_idx": i, "row": pair, "truncated_cells": []} for i, pair in enumerate(PAIRS)]}), "prompt-completion", 1, 0, {"wrapped-rows": 1}, mendable=3),
    Case("splits.json", one({"train": PAIRS[:2], "test": PAIRS[2:]}), "prompt-completion", 1, 0, {"wrapped-rows": 1}, mendable=2),
    Case("wrapped-other-names.json", one({"data": [{"q": "a", "a": "b"}]}), "unknown", 1, 0, {"wrapped-rows": 1}, readings=("prompt=q, reply=a",)),
    Case("wrapped-some-bad.json", one({"data": [*PAIRS, {"prompt": "a", "completion": ""}]}), "prompt-completion", 1, 0, {"wrapped-rows": 1}, mendable=3),
    Case("spoken-turns.jsonl", one({"dialog": [{"speaker": "A", "text": "a"}, {"speaker": "B", "text": "b"}]}), "unknown", 1, 0, {"unknown-columns": 1}),
    Case("batch-request.jsonl", one({"custom_id": "1", "method": "POST", "body": {"model": "m", "messages": CHATS[0]["messages"][:1]}}), "unknown", 1, 0, {"batch-line": 1}),
    Case("batch-answered.jsonl", one({"custom_id": "1", "body": {"messages": CHATS[0]["messages"]}}), "conversational", 1, 0, {"batch-line": 1}, mendable=1),
    Case("batch-answer.jsonl", one({"custom_id": "1", "response": {"status_code": 200, "body": {"choices": [{"message": {"role": "assistant", "content": "b"}}]}}}), "unknown", 1, 0, {"batch-line": 1}),
    Case("batch-log.jsonl", one({"request": {"messages": CHATS[0]["messages"][:1]}, "response": {"choices": [{"message": {"content": "b"}}]}}), "conversational", 1, 0, {"batch-line": 1}, mendable=1),
    Case("batch-params.jsonl", one({"custom_id": "1", "params": {"system": "s", "messages": CHATS[0]["messages"][:1]}, "result": {"message": {"content": [{"type": "text", "text": "b"}]}}}), "conversational", 1, 0, {"batch-line": 1}, mendable=1),
    Case("listed-answers.jsonl", one({"question": "a", "context": "c", "answers": {"text": ["b", "b"], "answer_start": [0, 5]}}), "unknown", 1, 0, {"listed-answers": 1}, readings=("prompt=question, context=context, reply=answer",)),
    Case("no-listed-answer.jsonl", one({"question": "a", "answers": {"text": [], "answer_start": []}}), "unknown", 1, 0, {"listed-answers": 1}),
    # --- UTF-8 read as Latin-1 once ---
    Case("latin1-read-utf8.jsonl", text(*[json.dumps({"text": FRENCH.encode().decode("latin-1")})] * 1, T2), "text", 2, 2, {"mojibake": 1}, (("mojibake", 1, None),), improvable=1),
    Case("cp1252-read-utf8.jsonl", json.dumps({"text": garbled(FRENCH)}, ensure_ascii=False).encode(), "text", 1, 1, {"mojibake": 1}, improvable=1),
    Case("garbled.csv", ("prompt,completion\n" + garbled("Où ?,Près du quai") + "\na,b\n").encode(), "prompt-completion", 2, 2, {"mojibake": 1}, improvable=1),
    Case("garbled.txt", garbled(FRENCH).encode(), "text", 1, 1, {"mojibake": 1}, improvable=1),
    Case("garbled-and-broken.jsonl", ('{"text": "' + garbled(FRENCH) + '",}').encode(), "text", 1, 0, {"trailing-comma": 1}, mendable=1),
    Case("garbled-other-names.jsonl", one({"q": garbled(FRENCH), "r": "b"}), "unknown", 1, 0, {"mojibake": 1, "unknown-columns": 1}),
    Case("about-garbling.jsonl", one({"text": "Why is é written as Ã©, and è as Ã¨?"}), "text", 1, 1),
    Case("right-letters.jsonl", text(*[json.dumps({"text": right}, ensure_ascii=False) for right in RIGHT]), "text", len(RIGHT), len(RIGHT)),
    # --- tables as programs write them ---
    Case("excel-sep.csv", b"sep=;\nprompt;completion\na;b\n", "prompt-completion", 1, 1, {"csv-separator": 1}),
    Case("excel-sep-pasted", b'"sep=|"\r\nprompt|completion\r\na|b\r\n', "prompt-completion", 1, 1, {"csv-separator": 1}),
    Case("nameless-index.csv", b",prompt,completion\n0,a,b\n1,c,d\n", "prompt-completion", 2, 2, {"nameless-column": 1}, unused={"Unnamed: 0": 2}),
    Case("empty-columns.csv", b"prompt,completion,,\na,b,,\nc,d\ne,f,,,,\n", "prompt-completion", 3, 3, {"nameless-column": 1}),
    Case("spaced-header.csv", b'prompt, completion\na, "b, c"\n"d, e", f\n', "prompt-completion", 2, 2, {"csv-space": 1}),
    Case("spaced-quoted-header.csv", b'"prompt", "completion"\n"a", "b, c"\n', "prompt-completion", 1, 1, {"csv-space": 1}),
    Case("capital-names.csv", b"Prompt,COMPLETION,Note\na,b,c\n", "prompt-completion", 1, 1, {"column-case": 1}, unused={"Note": 1}),
    Case("capital-names.jsonl", text(*[one({"Prompt": "a", "Completion": "b"}).decode()] * 2), "prompt-completion", 2, 2, {"column-case": 1, "duplicate": 1}),
    Case("capital-other-names.csv", b"Question,Answer\na,b\n", "unknown", 1, 0, {"unknown-columns": 1}, readings=("prompt=Question, reply=Answer",)),
    Case("no-header.csv", b"Which way does it run?,It runs north.\nWhen?,At nine.\n", "prompt-completion", 2, 2, {"no-header": 1}),
    Case("no-header-index.csv", b"0,Which way does it run?,It runs north.\n1,When?,At nine.\n", "prompt-completion", 2, 2, {"no-header": 1}, unused={"Unnamed: 0": 2}),
    Case("no-header.tsv", b"Go.\tVa !\nRun!\tCours !\n", "prompt-completion", 2, 2, {"no-header": 1}),
    Case("no-header-three.csv", b"Which way?,It runs north.,Yes.\na,b,c\n", "unknown", 2, 0, {"no-header": 1, "unknown-columns": 2}),
    Case("asking-header.csv", b"Question?,Answer.\na,b\n", "unknown", 1, 0, {"unknown-columns": 1}, readings=("prompt=Question?, reply=Answer.",)),
    Case("a-form.csv", b"Timestamp,What is asked?,What is answered?\n1,a,b\n", "unknown", 1, 0, {"unknown-columns": 1}),
    # --- other files ---
    Case("table.parquet", b"PAR1" + bytes(range(256)) + b"PAR1", "unknown", 0, 0, {"parquet": 1}),
    Case("data.zip", b"PK\x03\x04" + bytes(64), "unknown", 0, 0, {"binary": 1}),
    Case("model.gguf", b"GGUF" + bytes(64), "unknown", 0, 0, {"binary": 1}),
    Case("noise.bin", bytes(range(256)) * 8, "unknown", 0, 0, {"binary": 1}),
    Case("empty.jsonl", b"", "unknown", 0, 0, {"empty-file": 1}),
    Case("blank.jsonl", b" \n\n\r\n", "unknown", 0, 0, {"empty-file": 1}),
    # --- slips of the pen ---
    Case("trailing-comma.jsonl", text(T1, '{"text": "b",}', T2), "text", 3, 2, {"trailing-comma": 1}, mendable=1),
    Case("inner-trailing-comma.jsonl", text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},]}'), "conversational", 1, 0, {"trailing-comma": 1}, mendable=1),
    Case("array-trailing-comma.json", text("[", T1 + ",", T2 + ",", "]"), "text", 2, 2, {"trailing-comma": 1}, (("trailing-comma", 3, 16),)),
    Case("array-row-trailing-comma.json", text("[", '{"text": "a",},', T2, "]"), "text", 2, 1, {"trailing-comma": 1}, mendable=1),
    Case("array-missing-comma.json", text("[", T1, T2, "]"), "text", 2, 1, {"missing-comma": 1}, (("missing-comma", 3, 1),), mendable=1),
    Case("array-not-closed.json", text("[", T1 + ",", T2), "text", 2, 2, {"unclosed": 1}),
    Case("array-cut-off.json", text("[", T1 + ",", '{"text": "tw'), "text", 2, 1, {"unclosed": 2}),
    Case("array-and-more.json", text("[" + T1 + "]", "the end"), "text", 1, 1, {"extra-data": 1}),
    Case("row-commas.jsonl", text(T1 + ",", T2 + ",", T3), "text", 3, 1, {"row-comma": 2}, (("row-comma", 1, 16), ("row-comma", 2, 16)), mendable=2),
    Case("single-quotes.jsonl", text("{'text': 'it\\'s me'}", T2), "text", 2, 1, {"single-quotes": 1}, (("single-quotes", 1, 2),), mendable=1),
    Case("python-dicts.jsonl", text("{'text': 'a', 'ok': True, 'n': None}", T2), "text", 2, 1, {"single-quotes": 1}, mendable=1),
    Case("python-true.jsonl", text('{"text": "a", "ok": True}'), "text", 1, 0, {"python-literal": 1}, (("python-literal", 1, 21),), mendable=1),
    Case("nan.jsonl", text('{"text": "a", "score": NaN}', '{"text": "b", "score": -Infinity}'), "text", 2, 0, {"not-a-number": 2}, mendable=2),
    Case("comments.jsonl", text('{"text": "a"} // a remark', '{"text": "b", /* why */ "n": 1}', "# a line"), "text", 3, 0, {"comment": 3}, mendable=2),
    Case("missing-comma.jsonl", text('{"prompt": "a" "completion": "b"}'), "prompt-completion", 1, 0, {"missing-comma": 1}, (("missing-comma", 1, 16),), mendable=1),
    Case("inner-quotes.jsonl", text('{"text": "she said "no" loudly"}', T2), "text", 2, 1, {"missing-comma": 1}),
    Case("bare-keys.jsonl", text('{text: "a"}'), "text", 1, 0, {"unquoted-key": 1}, mendable=1),
    Case("raw-tab.jsonl", text('{"text": "a\tb"}'), "text", 1, 0, {"control-character": 1}, (("control-character", 1, 12),), mendable=1),
    Case("raw-line-break.jsonl", text('{"text": "a', 'b"}', T2), "text", 3, 1, {"unclosed": 1, "not-an-object": 1}),
    Case("windows-path.jsonl", text('{"text": "C:\\dir"}'), "text", 1, 0, {"bad-escape": 1}, mendable=1),
    Case("two-on-a-line.jsonl", text(T1 + " " + T2, T3), "text", 3, 3, {"extra-data": 1}, (("extra-data", 1, 1),)),
    Case("cut-off.jsonl", text(T1, '{"text": "tw'), "text", 2, 1, {"unclosed": 1}, (("unclosed", 2, 10),)),
    Case("joined-with-bom.jsonl", (T1 + "\n\ufeff" + T2).encode(), "text", 2, 1, {"bom": 1}, (("bom", 2, 1),), mendable=1),
    Case("duplicate-key.jsonl", text('{"text": "a", "text": "b"}', T2), "text", 2, 1, {"duplicate-key": 1}, (("duplicate-key", 1, 15),)),
    Case("not-objects.jsonl", text(T1, "[1, 2]", '"hello"', "17", "null", "true"), "text", 6, 1, {"not-an-object": 5}),
    # --- what nobody should survive, but must ---
    Case("deep.jsonl", text(T1, deep(100_000), T2), "text", 3, 2, {"too-deep": 1}),
    Case("deep-open.json", b"[" * 100_000, "unknown", 1, 0, {"too-deep": 1, "unclosed": 1}),
    Case("deep-array.json", ("[" + deep(100_000) + "," + T1 + "]").encode(), "text", 2, 1, {"too-deep": 1}),
    Case("huge-number.jsonl", text('{"text": "a", "n": ' + "9" * 100_000 + "}", '{"text": "b", "n": 1e999999}'), "text", 2, 1, {"huge-number": 1}, unused={"n": 1}),
    Case("infinite.json", b'[{"text": "a",\n"n": [1e999, {"m": -1e999}]}]', "text", 1, 1, unused={"n": 1}),
    Case("lone-surrogate.jsonl", text('{"text": "half \\ud83d"}', T2), "text", 2, 1, {"half-character": 1}),
    Case("surrogate-elsewhere.jsonl", text('{"text": "a", "id": "\\udc00"}'), "text", 1, 1, unused={"id": 1}),
    Case("nul.jsonl", text('{"text": "a\\u0000b"}'), "text", 1, 1, {"control-character": 1}),
    Case("raw-nul.jsonl", text(*[T1.replace("one", f"row {i}") for i in range(9)]) + b'\n{"text": "a\x00b"}', "text", 10, 9, {"control-character": 1, "near-duplicate": 0}, mendable=1),
    Case("html.jsonl", text('{"text": "<script>alert(1)</script><img src=x onerror=alert(1)>"}'), "text", 1, 1),
    Case("digits.jsonl", text(T1, '{"text": ' + "1" * 300_000 + "a}", '{"text": 1.' + "1" * 300_000 + "_}"), "text", 3, 1, {"huge-number": 1, "missing-comma": 1}),
    Case("brackets-in-text.jsonl", text(json.dumps({"text": "[{(" * 1_000_000}), '{"text": "' + "[{" * 1_000_000), "text", 2, 1, {"unclosed": 1}),
    Case("long-line.jsonl", text(T1, json.dumps({"text": "word " * 2_000_000}), T2), "text", 3, 3),
    Case("long-broken-line.jsonl", text(T1, '{"text": "' + "word " * 400_000, T2), "text", 3, 2, {"unclosed": 1}),
    # --- rows that say too little or too much ---
    Case("no-answer.jsonl", one(chat("u: nobody answers")), "conversational", 1, 0, {"no-assistant": 1}),
    Case("empty-answer.jsonl", one(chat("u: a", "a: ")), "conversational", 1, 0, {"empty-content": 1}),
    Case("two-users.jsonl", one(chat("u: a", "u: b", "a: c")), "conversational", 1, 1, {"repeated-role": 1}),
    Case("user-last.jsonl", one(chat("u: a", "a: b", "u: c")), "conversational", 1, 1, {"no-last-answer": 1}),
    Case("late-system.jsonl", one(chat("u: a", "s: b", "a: c")), "conversational", 1, 1, {"late-system": 1}),
    Case("tools.jsonl", one(chat("u: a", "a: b", tools=[{"type": "function"}])), "conversational", 1, 0, {"tools": 1}),
    Case("pictures.jsonl", one({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}), "conversational", 1, 0, {"media": 1}),
    Case("parts.jsonl", one({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}), "conversational", 1, 0, {"no-assistant": 1}),
    Case("unknown-key.jsonl", one({"messages": [{"role": "user", "content": "a", "mood": "calm"}, {"role": "assistant", "content": "b"}]}), "conversational", 1, 1, unused={"messages[].mood": 1}),
    Case("templated.jsonl", one({"text": "<|im_start|>user\nHi<|im_end|>\n"}), "text", 1, 1, {"template-applied": 1}),
    Case("inst.jsonl", one({"prompt": "[INST] Hi [/INST]", "completion": "x"}), "prompt-completion", 1, 1, {"template-applied": 1}, readings=("conversation=prompt, reply=completion", "as=known")),
    Case("repeated.jsonl", text(T1, T2, T1, T1), "text", 4, 4, {"duplicate": 1}, (("duplicate", 3, None),)),
    Case("nearly-repeated.jsonl", text(*[json.dumps({"text": " ".join(f"word{i}" for i in range(80)) + f" end{k}"}) for k in range(2)]), "text", 2, 2, {"near-duplicate": 1}),
    Case("null-columns.jsonl", one({"text": "a", "prompt": None, "completion": None, "messages": None}), "text", 1, 1),
    Case("single-message.jsonl", one({"role": "user", "content": "a"}), "unknown", 1, 0, {"unknown-columns": 1}),
    Case("half-pair.jsonl", one({"prompt": "a"}), "unknown", 1, 0, {"missing-key": 1}),
]
# fmt: on
