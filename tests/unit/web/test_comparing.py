"""Comparisons, changes, adapters together and kept conversations as the page's store knows them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.web import run_module

MODULES = {
    "bus": "store/bus.ts", "chats": "store/chat.ts", "pages": "store/page.ts", "problems": "store/problems.ts",
    "workers": "link/workers.ts", "opening": "shell/opening.ts", "applied": "chat/applied.ts",
    "engine": "chat/engine.ts", "talk": "chat/conversation.ts", "shelf": "chat/adapters/shelf.ts",
    "compared": "store/comparing.ts", "comparison": "chat/compare/comparison.ts", "changes": "chat/changes/changes.ts",
    "files": "chat/mix/files.ts", "mix": "chat/mix/mix.ts", "kept": "chat/kept/kept.ts",
    "list": "store/conversations.ts",
}  # fmt: skip
BEFORE = """
Object.defineProperty(globalThis, "navigator", { value: { gpu: {} }, configurable: true });
globalThis.location = { href: "http://x/" };
globalThis.document = { activeElement: null, getElementById: () => null };
const stored = {};
globalThis.localStorage = { getItem: (key) => stored[key] ?? null, setItem: (key, value) => { stored[key] = value; } };
"""
READY = """
const { bus, chats, pages, problems, workers, opening, applied, engine, talk, shelf, compared, comparison, changes,
  files, mix, kept, list } = page;
const sent = [];
for (const link of [workers.train, workers.chat]) {
  link.ready = true;
  link.worker = { postMessage: (command) => sent.push(command), terminate() {} };
}
bus.join([pages.pageArea, opening.openingArea, shelf.shelfArea, applied.appliedArea, files.filesArea, mix.mixArea,
  talk.conversationArea, comparison.comparisonArea, changes.changesArea, engine.engineArea, kept.keptArea]);
const hear = (type, event = {}, from = "chat") => bus.receive({ type, ...event }, from);
const names = () => sent.map(({ type }) => type);
const last = (type) => sent.findLast((command) => command.type === type);
const all = (type) => sent.filter((command) => command.type === type);
const tick = (ms = 0) => new Promise((next) => setTimeout(next, ms));
const bytes = (id) => ({ "adapter_model.safetensors": new Uint8Array([id.charCodeAt(0)]) });
const comes = (id) => hear("adapter_files", { id, name: names_[id], files: bytes(id) }, "train");
const names_ = { a: "A", b: "B", c: "C" };
const shelved = () => hear("adapter_list",
  { adapters: Object.entries(names_).map(([id, name]) => ({ id, name, fits: true, sample_answers: [] })) }, "train");
const uses = (parts) => parts.map(({ id, strength, files }) => [id, strength, files ? "files" : ""].join(" ").trim());
const done = (text, more = {}) => hear("reply_done", { turn: last("reply").turn, text, token_ids: [4, 5], adapters: [],
  new_tokens: 2, tokens_per_s: 5, finish_reason: "stop", dropped_messages: 0, ...more });
const fail = (where, message, from = "chat", subject = null) =>
  hear("failed", { where, message, subject, details: null, kind: "" }, from);
const said = () => chats.turns.value.map((turn) => chats.shownWording(turn).content);
for (const name of chats.SAMPLING) chats.replyFields[name].first = name === "seed" ? "" : "1";
for (const name of chats.SAMPLING) chats.replyFields[name].text.value = chats.replyFields[name].first;
kept.setUpConversations();
opening.openFirst();
hear("ready", { version: "1", python: "3" }, "train");
hear("gpu", { state: "found", name: "some", is_software: true, losses: 0, message: "" }, "train");
hear("model_opened", { name: "m", title: "M", size_bytes: 1, layers: 2, facts: [], targets: [], chat_formats: [],
  chat_format: "auto", files: [], base_model: "" }, "train");
hear("ready");
hear("model_ready", { weights_bytes: 1, memory_bytes: 2 });
shelved();
const use = (id) => { applied.useAdapter(id); comes(id); };
"""


def run(script: str, *, stored: str = "") -> Any:
    """Return what `script` gives to `answer(value)`, with a model in the chat and adapters a, b, c on the shelf."""
    return run_module(MODULES, READY + script, before=BEFORE + stored)


def test_a_comparison_brings_each_adapters_files_once() -> None:
    told = run("""
      comparison.chooseSide("left", { who: "b", strength: 0.5 });
      comparison.chooseSide("right", { who: "b", strength: 1.5 });
      comparison.askTwice("Who?");
      const early = all("compare_replies").length;
      comes("b");
      const first = last("compare_replies");
      hear("comparison_ended", { turn: first.turn, is_whole: true });
      comparison.askTwice("Again?");
      const second = last("compare_replies");
      answer({ early, sides: [first.left, first.right, second.left, second.right].map(uses), seed: first.sampling.seed,
        shown: compared.comparisons.value[0].seed, said: first.messages, asked: all("get_adapter").length });
    """)
    assert told["early"] == 0 and told["asked"] == 1
    assert told["sides"] == [["b 0.5 files"], ["b 1.5"], ["b 0.5"], ["b 1.5"]]
    assert told["seed"] == told["shown"] and told["said"] == [{"role": "user", "content": "Who?"}]


def test_pieces_of_both_sides_come_in_turn_and_one_stop_ends_both() -> None:
    told = run("""
      comparison.chooseSide("right", { who: "", strength: 1 });
      comparison.askTwice("Who?");
      const { turn } = last("compare_replies");
      const piece = (side, text, of = turn) => hear("compared_piece", { turn: of, side, adapters: [], text });
      piece("left", "One"); piece("right", "Two"); piece("left", " more"); piece("left", "another's", turn - 1);
      await tick(5);
      const between = { ...compared.comparisons.value[0] };
      const blocked = chats.canSend.value;
      talk.stop();
      hear("compared_reply", { turn, side: "left", adapters: [], text: "One more ", token_ids: [1, 2], tokens_per_s: 3,
        finish_reason: "stopped" });
      piece("right", " last");
      hear("comparison_ended", { turn, is_whole: false });
      answer({ between: [between.left.text, between.right.text], blocked, stopped: all("stop_reply").length,
        after: compared.comparisons.value[0], free: chats.canSend.value, talk: said() });
    """)
    assert told["between"] == ["One more", "Two"] and told["blocked"] is False and told["stopped"] == 1
    after = told["after"]
    assert after["left"]["text"] == "One more" and after["left"]["end"]["finish_reason"] == "stopped"
    assert after["right"]["text"] == "Two last" and after["isWriting"] is False
    assert told["free"] is True and told["talk"] == []


def test_a_stop_ends_a_comparison_that_waits_for_an_adapter() -> None:
    told = run("""
      comparison.chooseSide("right", { who: "b", strength: 1 });
      comparison.askTwice("Who?");
      comparison.stopAny();
      comes("b");
      const stopped = [chats.canSend.value, all("compare_replies").length, all("stop_reply").length];
      comparison.askTwice("Again?");
      comparison.stopAny();
      answer({ stopped, then: [chats.canSend.value, all("compare_replies").length, all("stop_reply").length] });
    """)
    assert told == {"stopped": [True, 0, 0], "then": [False, 1, 1]}


def test_a_comparison_that_cannot_be_written_says_why_and_leaves_the_chat_free() -> None:
    told = run("""
      comparison.chooseSide("right", { who: "c", strength: 1 });
      comparison.askTwice("Who?");
      fail("adapter", "gone", "train", "c");
      const gone = [problems.problems.value["chat-problem"].message, chats.canSend.value];
      comparison.chooseSide("right", { who: "", strength: 1 });
      comparison.askTwice("Who?");
      bus.tell("chat_gone", {});
      answer({ gone, free: chats.replying.value, sent: all("compare_replies").length });
    """)
    assert told == {"gone": ["An adapter that was to answer is not kept any more.", True], "free": None, "sent": 1}


def test_adapters_answer_together_and_a_strength_is_told_before_the_reply() -> None:
    told = run("""
      use("a");
      mix.addToMix("b");
      const early = chats.writer.value.map(({ id }) => id);
      comes("b");
      const first = uses(last("apply_adapters").adapters);
      hear("adapters_applied", { adapters: [{ id: "a" }, { id: "b" }] });
      mix.setStrength("b", 0.25);
      sent.length = 0;
      talk.ask("Both?");
      const order = names();
      const reply = last("reply");
      done("Yes");
      talk.ask("Again?");
      const again = all("apply_adapters").length;
      done("Yes");
      mix.addToMix("c");
      comes("c");
      fail("adapter", "C is for another model");
      const left = chats.others.value.map(({ id }) => id);
      mix.leaveMix("b");
      comes("a");
      talk.ask("Alone?");
      answer({ early, first, order, strength: reply.strength, use: reply.use_adapter, again, left,
        last: uses(last("apply_adapters").adapters).map((one) => one.split(" files")[0]),
        alone: last("reply").strength });
    """)
    assert told["early"] == ["a"]  # the other's files are on their way
    assert told["first"] == ["a 1", "b 1 files"]
    assert told["order"] == ["apply_adapters", "reply"] and told["strength"] == 1 and told["use"] is True
    assert told["again"] == 1  # nothing was another since
    assert told["left"] == ["b"] and told["last"] == ["a 1"]


def test_another_adapter_in_use_is_alone() -> None:
    told = run("""
      use("a");
      mix.addToMix("b");
      comes("b");
      use("c");
      talk.ask("Who?");
      answer({ by: chats.writer.value.map(({ id }) => id), order: names().slice(-2) });
    """)
    assert told == {"by": ["c"], "order": ["apply_adapter", "reply"]}


@pytest.mark.parametrize(("base", "tuned", "degree"), [
    (0.5, 0.5, 0), (0.5, 0.6, 0), (0.5, 0.625, 1), (0.4, 0.8, 2), (0.05, 0.5, 3), (0.8, 0.4, -2), (0.5, 0.05, -3),
    (0.5, 0.41, 0), (0.5, 0.4, -1),
])  # fmt: skip
def test_a_tokens_degree(base: float, tuned: float, degree: int) -> None:
    found = run_module(
        "chat/changes/panel.tsx",
        f"answer(page.degreeOf({{ base: {math.log(base)}, tuned: {math.log(tuned)} }}));",
        before=BEFORE,
    )
    assert found == degree


def test_changes_are_asked_for_with_what_the_reply_was_asked_with() -> None:
    told = run("""
      use("a");
      chats.system.value = "Be brief.";
      chats.strength.value = 0.5;
      talk.ask("Who?");
      done("I am");
      chats.system.value = "Be long.";
      chats.strength.value = 2;
      const turn = chats.turns.value[1];
      changes.look(turn);
      const asked = last("show_changes");
      const part = (request, tokens) => hear("changes_part", { request, tokens, done: 1, total: 2 });
      part(asked.request, ["x"]); part(asked.request - 1, ["stray"]); part(asked.request, ["y"]);
      const seen = compared.looked.value.tokens;
      hear("changes_ended", { request: asked.request, is_whole: true, adapters: [] });
      const state = compared.looked.value.state;
      changes.look(turn);
      answer({ asked, by: uses(asked.adapters), seen, state, closed: compared.looked.value });
    """)
    asked = told["asked"]
    assert [one["content"] for one in asked["messages"]] == ["Be brief.", "Who?"]
    assert asked["token_ids"] == [4, 5] and asked["text"] == "I am" and asked["max_new_tokens"] == 1
    assert told["by"] == ["a 0.5"] and told["seen"] == ["x", "y"] and told["state"] == "whole"
    assert told["closed"] is None


KEEP = """
  const keeps = () => all("keep_conversation").map(({ conversation }) => conversation);
  const isKept = (id, revision, more = {}) => hear("conversation_kept",
    { request: last("keep_conversation").request, id, title: "T", revision, as_copy: false, ...more });
"""


def test_one_writing_at_a_time_each_on_the_revision_before() -> None:
    told = run(
        KEEP
        + """
      talk.ask("One");
      kept.keepNow();
      done("First");
      kept.keepNow();
      const early = keeps().length;
      isKept("x", 1);
      const second = keeps().at(-1);
      isKept("y", 1, { as_copy: true });
      kept.keepNow();
      const same = keeps().length;
      chats.system.value = "Other words";
      kept.keepNow();
      answer({ early, firsts: keeps().map(({ id, revision, turns }) => [id, revision, turns.length]), same, second,
        open: list.openId.value });
    """
    )
    assert told["early"] == 1
    assert told["firsts"] == [["", 0, 1], ["x", 1, 2], ["y", 1, 2]]  # what is being written is no part of it yet
    assert told["same"] == 2  # nothing has changed
    assert told["open"] == "y"  # another tab wrote x: this one is a copy
    answer = told["second"]["turns"][1]["wordings"][0]
    assert answer["content"] == "First" and answer["token_ids"] == [4, 5] and answer["finish_reason"] == "stop"


def test_another_conversation_and_back_again() -> None:
    told = run(
        KEEP
        + """
      use("a");
      talk.ask("One");
      done("First");
      kept.keepNow();
      isKept("x", 1);
      const written = { ...keeps()[0], id: "x", title: "T", revision: 1 };
      chats.system.value = "Changed at once";
      kept.newConversation();
      const flushed = keeps().at(-1);
      isKept("x", 2);
      talk.ask("Two");
      done("Second");
      kept.keepNow();
      const other = keeps().at(-1);
      isKept("z", 1);
      kept.openConversation("x");
      hear("conversation_opened", { conversation: { ...written, id: "stray" } });
      const stray = said();
      hear("conversation_opened", { conversation: { ...written, system: "S", revision: 2,
        sampling: { ...written.sampling, temperature: 0.5, seed: 7 }, fixed_seed: true } });
      kept.keepNow();
      answer({ flushed: [flushed.id, flushed.system], other: [other.id, other.turns.length], stray, now: said(),
        open: list.openId.value, keeps: keeps().length, system: chats.system.value,
        fields: ["temperature", "seed", "top_k"].map((name) => chats.replyFields[name].text.value),
        ids: chats.turns.value[1].wordings[0].tokenIds, on: chats.writer.value.map(({ id }) => id) });
    """
    )
    assert told["flushed"] == ["x", "Changed at once"] and told["other"] == ["", 2]
    assert told["stray"] == ["Two", "Second"]
    assert told["now"] == ["One", "First"] and told["open"] == "x" and told["system"] == "S"
    assert told["keeps"] == 3  # opening it is no change
    assert told["fields"] == ["0.5", "7", "1"] and told["ids"] == [4, 5] and told["on"] == ["a"]


def test_cleared_it_stays_kept_and_brought_back_it_is_the_same_one() -> None:
    told = run(
        KEEP
        + """
      talk.ask("One");
      done("First");
      kept.keepNow();
      isKept("x", 1);
      talk.clear();
      const between = list.openId.value;
      await talk.bringBack();
      talk.ask("Two");
      done("Second");
      kept.keepNow();
      const back = keeps().at(-1);
      isKept("x", 2);
      talk.clear();
      talk.ask("Three");
      done("Third");
      kept.keepNow();
      answer({ between, back: [back.id, back.turns.length], other: [keeps().at(-1).id, keeps().at(-1).turns.length] });
    """
    )
    assert told == {"between": "", "back": ["x", 4], "other": ["", 2]}


def test_a_deleted_one_is_not_written_again_and_undo_opens_it() -> None:
    told = run(
        KEEP
        + """
      talk.ask("One");
      done("First");
      kept.keepNow();
      isKept("x", 1);
      chats.system.value = "Not written yet";
      kept.deleteConversation("x");
      hear("conversation_deleted", { id: "x", title: "T" });
      kept.keepNow();
      const gone = [said().length, keeps().length, list.openId.value];
      problems.toasts.value.at(-1).action.run();
      answer({ gone, sent: names().slice(-2) });
    """
    )
    assert told == {"gone": [0, 1, ""], "sent": ["restore_conversation", "open_conversation"]}


def test_what_was_open_comes_back_once() -> None:
    stored = """stored["lora-lab workspace"] = JSON.stringify({ conversation: "x", system: "S", isOn: "off",
      adapters: [{ id: "b", name: "", strength: 0.5 }, { id: "gone", name: "", strength: 1 }] });\n"""
    told = run("""
      const wanted = [chats.wantedAdapter.value, chats.strength.value, chats.isAdapterOn.value, chats.system.value];
      const listed = () => hear("conversation_list", { conversations: [{ id: "x", title: "T" }], reason: "" });
      listed();
      hear("conversation_opened", { conversation: { id: "x", title: "T", revision: 4, system: "S", sampling: {
        ...Object.fromEntries(chats.SAMPLING.map((name) => [name, 1])) }, fixed_seed: false, adapters: [], model: "M",
        chat_format: "auto", turns: [{ role: "user", chosen: 0, wordings: [{ content: "One" }] }] } });
      const now = said();
      const { text, action } = problems.toasts.value.at(-1);
      action.run();
      listed();
      answer({ wanted, now, text, fresh: said(), opened: all("open_conversation").length,
        remembered: JSON.parse(stored["lora-lab workspace"]).conversation ?? "" });
    """, stored=stored)  # fmt: skip
    assert told["wanted"] == ["b", 0.5, False, "S"]
    assert told["now"] == ["One"] and told["text"] == "Picked up where you left off."
    assert told["fresh"] == [] and told["opened"] == 1 and told["remembered"] == ""
