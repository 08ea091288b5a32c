"""The chat as the page's store knows it, where workers, models and runs cross a reply. What is shown: tests/browser."""

from __future__ import annotations

from typing import Any

from tests.web import run_module

MODULES = {
    "bus": "store/bus.ts", "chats": "store/chat.ts", "pages": "store/page.ts", "problems": "store/problems.ts",
    "workers": "link/workers.ts", "opening": "shell/opening.ts", "applied": "chat/applied.ts",
    "engine": "chat/engine.ts", "talk": "chat/conversation.ts", "shelf": "chat/adapters/shelf.ts",
    "train": "train/run.ts", "hub": "chat/models/hub.ts",
}  # fmt: skip
BEFORE = """
Object.defineProperty(globalThis, "navigator", { value: { gpu: {} }, configurable: true });
globalThis.location = { href: "http://x/" };
globalThis.document = { activeElement: null, getElementById: () => null };
"""
READY = """
const { bus, chats, pages, problems, workers, opening, applied, engine, talk, shelf, train, hub } = page;
const sent = [];
for (const link of [workers.train, workers.chat]) {
  link.ready = true;
  link.worker = { postMessage: (command) => sent.push(command), terminate() {} };
}
bus.join([pages.pageArea, opening.openingArea, train.trainArea, shelf.shelfArea, applied.appliedArea,
  talk.conversationArea, engine.engineArea, hub.hubArea]);
const hear = (type, event = {}, from = "chat") => bus.receive({ type, ...event }, from);
const names = () => sent.map(({ type }) => type);
const last = (type) => sent.findLast((command) => command.type === type);
const opens = (name) => hear("model_opened", { name, title: name, size_bytes: 1, layers: 2, facts: [], targets: [],
  chat_formats: [], chat_format: "auto", files: [], base_model: "" }, "train");
const ready = () => hear("model_ready", { weights_bytes: 1, memory_bytes: 2 });
const done = (turn, text, more = {}) => hear("reply_done", { turn, text, new_tokens: 2, tokens_per_s: 5,
  finish_reason: "stop", dropped_messages: 0, ...more });
const fail = (where, message, from, subject = null) =>
  hear("failed", { where, message, subject, details: null, kind: "" }, from);
const said = () => chats.turns.value.map((turn) => chats.shownWording(turn).content);
opening.openFirst();
hear("ready", { version: "1", python: "3" }, "train");
hear("gpu", { state: "found", name: "some", is_software: true, losses: 0, message: "" }, "train");
opens("good");
hear("ready");
ready();
for (const name of chats.SAMPLING) chats.replyFields[name].first = "1";
sent.length = 0;
"""


def run_chat(script: str) -> Any:
    """Return what `script` gives to `answer(value)`, with a model in the chat."""
    return run_module(MODULES, READY + script, before=BEFORE)


def test_pieces_and_ends_of_other_replies_are_not_heard() -> None:
    told = run_chat("""
      talk.ask("One");
      const { turn } = last("reply");
      hear("reply_piece", { turn: turn + 1, text: "wrong" });
      done(turn + 1, "wrong");
      const between = chats.replying.value === turn;
      done(turn, "right");
      done(turn, "again");
      answer({ between, said: said(), replying: chats.replying.value });
    """)
    assert told == {"between": True, "said": ["One", "right"], "replying": None}


def test_nothing_is_asked_while_a_reply_is_written() -> None:
    told = run_chat("""
      talk.ask("One");
      talk.ask("Two");
      talk.askAgain();
      talk.clear();
      answer({ sent: names(), turns: chats.turns.value.length });
    """)
    assert told == {"sent": ["reply"], "turns": 2}


def test_a_run_ends_the_reply_and_what_is_written_stays() -> None:
    told = run_chat("""
      talk.ask("One");
      const { turn } = last("reply");
      hear("reply_piece", { turn, text: "half of" });
      bus.tell("replies_end", {});
      const after = { sent: names(), said: said(), replying: chats.replying.value };
      done(turn, "half of it", { finish_reason: "stopped" }); // comes late
      answer({ ...after, late: said() });
    """)
    assert told == {
        "sent": ["reply", "stop_reply"], "said": ["One", "half of"], "replying": None, "late": ["One", "half of"]
    }  # fmt: skip


def test_a_worker_that_is_gone_leaves_what_it_wrote_and_is_asked_for_no_stop() -> None:
    told = run_chat("""
      talk.ask("One");
      hear("reply_piece", { turn: last("reply").turn, text: "half" });
      bus.tell("chat_gone", {});
      answer({ sent: names(), said: said(), replying: chats.replying.value });
    """)
    assert told == {"sent": ["reply"], "said": ["One", "half"], "replying": None}


def test_why_nothing_can_be_sent_is_always_told() -> None:
    told = run_chat("""
      const seen = [];
      const note = () => seen.push([chats.canSend.value, chats.whyNoChat.value]);
      const trains = (state) => hear("training_state", { state, detail: "", done: 0, total: 0 }, "train");
      const gpu = (state, from) => hear("gpu", { state, name: "", is_software: false, losses: 1, message: "" }, from);
      note();
      trains("training");
      note(); // the chat is kept awake
      hear("model_released");
      note();
      trains("done");
      note();
      ready();
      note();
      gpu("again", "train");
      note();
      gpu("found", "train");
      gpu("lost", "chat");
      note();
      gpu("lost", "train");
      note();
      answer(seen);
    """)
    assert told == [
        [True, ""],
        [True, ""],
        [False, "The chat rests while the adapter trains. (More settings can keep it awake.)"],
        [False, "The model is going to the GPU…"],
        [True, ""],
        [True, "The GPU was lost and is asked for anew."],
        [False, "The chat could not start; see above."],
        [False, "There is no GPU any more."],
    ]


def test_words_of_a_question_that_failed_are_not_lost() -> None:
    told = run_chat("""
      const tries = [];
      const attempt = (act) => {
        chats.draft.value = "";
        act();
        fail("chat", "too long", "chat");
        tries.push([chats.draft.value, said().length]);
      };
      attempt(() => talk.ask("A suggestion"));
      talk.ask("One");
      done(last("reply").turn, "an answer");
      attempt(() => talk.edit(chats.turns.value[0].key, "One and a half"));
      attempt(() => talk.askAgain());
      talk.ask("Two");
      chats.draft.value = "what is being written meanwhile";
      fail("chat", "too long", "chat");
      tries.push([chats.draft.value, said().length]);
      answer(tries);
    """)
    assert told == [["A suggestion", 0], ["One and a half", 2], ["", 2], ["what is being written meanwhile", 2]]


def test_turns_without_room_are_not_sent_again_until_an_edit_above() -> None:
    told = run_chat("""
      const read = () => last("reply").messages.map(({ content }) => content);
      for (const number of [1, 2, 3]) {
        talk.ask(`q${number}`);
        done(last("reply").turn, `a${number}`, { dropped_messages: number === 2 ? 2 : 0 });
      }
      const third = read();
      talk.ask("q4");
      done(last("reply").turn, "a4", { dropped_messages: 1 });
      const cut = chats.cut.value;
      talk.edit(chats.turns.value[2].key, "q2 again");
      answer({ third, cut, edited: read(), after: chats.cut.value });
    """)
    assert told == {"third": ["q2", "a2", "q3"], "cut": 3, "edited": ["q1", "a1", "q2 again"], "after": 0}


def test_a_model_that_the_gpu_does_not_take_takes_no_adapter_away() -> None:
    """The one before is opened again, and the adapter that was in use with it is in use again."""
    told = run_chat("""
      applied.useAdapter("mine");
      hear("adapter_files", { id: "mine", name: "Mine", files: {} }, "train");
      const before = chats.applied.value;
      opening.openModel({ kept: "bad" });
      opens("bad");
      const meanwhile = [chats.wantedAdapter.value, chats.applied.value];
      fail("model", "no room", "chat");
      const back = last("open_model");
      opens("good");
      ready();
      sent.length = 0;
      hear("adapter_files", { id: "mine", name: "Mine", files: {} }, "train");
      answer({ before, meanwhile, kept: back.kept, wanted: chats.wantedAdapter.value, after: chats.applied.value,
        sent: names(), problem: problems.problems.value["setup-problem"].message });
    """)
    mine = {"id": "mine", "name": "Mine"}
    assert told.pop("problem").startswith("bad cannot be used on this GPU; the model before it is opened again.")
    assert told == {
        "before": mine, "meanwhile": [None, None], "kept": None, "wanted": "mine", "after": mine,
        "sent": ["apply_adapter"],
    }  # fmt: skip


def test_another_model_that_is_good_comes_without_the_last_one_s_adapter() -> None:
    told = run_chat("""
      applied.useAdapter("mine");
      hear("adapter_files", { id: "mine", name: "Mine", files: {} }, "train");
      opening.openModel({ kept: "other" });
      opens("other");
      ready();
      opening.openModel({ kept: "third" });
      opens("third");
      ready();
      answer([chats.wantedAdapter.value, chats.applied.value]);
    """)
    assert told == [None, None]


def test_a_model_file_that_cannot_be_opened_leaves_model_adapter_and_reply() -> None:
    told = run_chat("""
      applied.useAdapter("mine");
      hear("adapter_files", { id: "mine", name: "Mine", files: {} }, "train");
      talk.ask("One");
      opening.openModel({ files: [] });
      fail("model", "it is cut off", "train");
      done(last("reply").turn, "right");
      answer({ model: pages.model.value.name, applied: chats.applied.value.id, said: said(),
        chat: chats.chatModel.value, sent: names(), problem: problems.problems.value["setup-problem"].message });
    """)
    assert told == {
        "model": "good", "applied": "mine", "said": ["One", "right"], "chat": "ready",
        "sent": ["get_adapter", "apply_adapter", "reply", "open_model"],
        "problem": "That model cannot be used; good stays open.\nit is cut off",
    }  # fmt: skip


def test_a_failure_at_the_hub_is_told_beside_what_it_is_about() -> None:
    told = run_chat("""
      pages.modelDialog.value = true;
      hub.look("a/b");
      const looking = hub.isLooking.value;
      const offer = { id: "x", title: "X", kind: "gguf", form: "Q8", size_bytes: 1, refused: "", kept: false };
      const listed = { repository: "a/b", revision: "0", licence: "", models: [offer], note: "", chosen: "x" };
      hear("hub_listed", listed, "train");
      hub.fetchModel("x");
      fail("hub", "sha256 differs", "train", "x");
      const beside = [hub.modelProblem.value, chats.fetching.value];
      hear("kept_models", { models: [{ id: "y", title: "Y", whole: false }] }, "train");
      fail("hub", "no room", "train", "y");
      answer({ looking, checked: last("check_hub_model").id, beside, kept: hub.keptProblem.value,
        field: hub.hubProblem.value });
    """)
    assert told == {
        "looking": True, "checked": "x", "beside": [{"id": "x", "message": "sha256 differs"}, None],
        "kept": "no room", "field": "",
    }  # fmt: skip
