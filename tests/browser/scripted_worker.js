// Stands in for both of the page's workers, for tests of what the page shows: a model whose replies a test writes.
//
// self.answers are the replies to come, of any length and form, then one that repeats what was asked; while self.held is
// true they wait after their first piece. self.asked are the commands that have come.

const kind = new URL(import.meta.url).searchParams.get("kind");
const say = (type, event = {}) => self.postMessage({ type, ...event });
const PIECE = 7; // characters

self.asked = [];
self.answers = [];
self.held = false;
let stopped = false;

const made = (id, name, more = {}) => ({
  id, name, created_at: "2026-01-02T03:04:05Z", base_model: "some/model", dataset: "ships.jsonl", rows: 60, steps: 20, rank: 8, alpha: 16,
  targets: ["q_proj"], size_bytes: 1e6, model_shape: "", imported: false, learning_rate: 1e-3, recomputed_layers: 0, final_loss: 0.5,
  loss_curve: [[1, 3], [20, 0.5]], validation_curve: [], sample_answers: [{ prompt: "What is ship 7?", base: "", tuned: "", reference: "" }],
  chat_format: "", fits: true, ...more,
});
let adapters = [made("a", "ships"), made("b", "pirates"), made("c", "elsewhere", { fits: false, imported: true })];
const gone = new Map();
const list = () => say("adapter_list", { adapters });

const MODEL = {
  name: "m", title: "Some model", size_bytes: 1e8, parameters: 1e8, layers: 2, context_length: 2048, weight_form: "f32", built_in: true,
  has_template: true, targets: ["q_proj"], files: [], facts: [], chat_formats: [], chat_format: "auto", base_model: "",
};

async function reply({ turn, messages }) {
  stopped = false;
  const text = self.answers.shift() ?? `You said: ${messages.at(-1).content}`;
  let told = "";
  if (text instanceof Object) return say("failed", { where: "chat", message: text.failed, details: null, subject: null, kind: "" });
  while (told.length < text.length && !stopped) {
    const piece = text.slice(told.length, told.length + PIECE);
    told += piece;
    say("reply_piece", { turn, text: piece });
    do await new Promise((next) => setTimeout(next, 4)); while (self.held && !stopped);
  }
  say("reply_done", {
    turn, text: told, prompt_tokens: 1, new_tokens: told.length, tokens_per_s: 50, first_token_ms: 1, finish_reason: stopped ? "stopped" : "stop",
    dropped_messages: self.dropped ?? 0,
  });
}

self.opens = (title) => say("model_opened", { ...MODEL, name: title, title, built_in: false });

const TRAIN = {
  open_model: () => say("model_opened", MODEL),
  get_adapter: ({ id }) => say("adapter_files", { id, name: adapters.find((one) => one.id === id)?.name ?? id, files: {} }),
  rename_adapter({ id, name }) {
    adapters = adapters.map((one) => (one.id === id ? { ...one, name } : one));
    list();
  },
  delete_adapter({ id }) {
    const one = adapters.find((other) => other.id === id);
    gone.set(id, one);
    adapters = adapters.filter((other) => other !== one);
    list();
    say("adapter_deleted", { id, name: one.name });
  },
  restore_adapter({ id }) {
    adapters = [...adapters, gone.get(id)];
    list();
  },
};
const CHAT = {
  open_model: () => say("model_ready", { weights_bytes: 1e8, memory_bytes: 2e8 }),
  reply: (command) => void reply(command),
  stop_reply: () => (stopped = true),
};

Object.assign(self, { say, trainAnswers: TRAIN }); // for tests that have more to say
// --- two replies at once, what an adapter changed, conversations ---

self.kept ??= {}; // {id: conversation}
const dropped = {};
const named = (parts) => parts.map(({ id, name, strength }) => ({ id, name, strength }));
const pause = () => new Promise((next) => setTimeout(next, 4));

/** Both say what comes next of self.answers, piece by piece in turn. */
async function compare({ turn, left, right, messages }) {
  stopped = false;
  const both = [["left", left], ["right", right]].map(([side, parts]) =>
    ({ side, adapters: named(parts), text: self.answers.shift() ?? `${side}: ${messages.at(-1).content}`, told: "" }));
  while (both.some(({ text, told }) => told.length < text.length) && !stopped) {
    for (const one of both.filter(({ text, told }) => told.length < text.length)) {
      const text = one.text.slice(one.told.length, one.told.length + PIECE);
      one.told += text;
      say("compared_piece", { turn, side: one.side, adapters: one.adapters, text });
    }
    do await pause(); while (self.held && !stopped);
  }
  for (const { side, adapters, told } of both) {
    say("compared_reply", {
      turn, side, adapters, text: told, token_ids: [...told].map((_, at) => at), prompt_tokens: 1, tokens_per_s: 50, first_token_ms: 1,
      finish_reason: stopped ? "stopped" : "stop", dropped_messages: 0,
    });
  }
  say("comparison_ended", { turn, is_whole: !stopped });
}

/** self.changed are the tokens to come, [text, probability by the base model, with the adapter]. */
function changes({ request, adapters }) {
  const likely = (token_id, text, base, tuned) => ({ token_id, text, base: Math.log(base), tuned: Math.log(tuned) });
  const tokens = self.changed.map(([text, base, tuned], at) => ({
    ...likely(at, text, base, tuned),
    base_top: [likely(900, " other", 0.6, 0.1), likely(at, text, base, tuned)], tuned_top: [likely(at, text, base, tuned), likely(900, " other", 0.6, 0.1)],
  }));
  say("changes_part", { request, tokens: tokens.slice(0, 2), done: Math.min(2, tokens.length), total: tokens.length });
  if (tokens.length > 2) say("changes_part", { request, tokens: tokens.slice(2), done: tokens.length, total: tokens.length });
  say("changes_ended", { request, is_whole: true, adapters: named(adapters) });
}

const listKept = () => say("conversation_list", {
  conversations: Object.values(self.kept).sort((a, b) => b.updated_at - a.updated_at).map(({ turns, ...one }) => ({
    id: one.id, title: one.title, turns: turns.length, created_at: "2026-01-02T03:04:05Z", updated_at: "2026-01-02T03:04:05Z",
    revision: one.revision, model: one.model, adapters: one.adapters,
  })),
  reason: "",
});
let writings = 0;

Object.assign(CHAT, {
  apply_adapters: ({ adapters: parts }) => say("adapters_applied", { adapters: named(parts) }),
  compare_replies: (command) => void compare(command),
  show_changes: changes,
  list_conversations: listKept,
  open_conversation: ({ id }) => say("conversation_opened", { conversation: self.kept[id] }),
  keep_conversation({ request, conversation }) {
    const id = conversation.id || `c${Object.keys(self.kept).length + 1}`;
    const title = conversation.title || conversation.turns[0].wordings[0].content;
    self.kept[id] = { ...conversation, id, title, revision: conversation.revision + 1, updated_at: (writings += 1) };
    say("conversation_kept", { request, id, title, revision: conversation.revision + 1, as_copy: false });
    listKept();
  },
  rename_conversation({ id, title }) {
    self.kept[id].title = title;
    listKept();
  },
  delete_conversation({ id }) {
    dropped[id] = self.kept[id];
    delete self.kept[id];
    say("conversation_deleted", { id, title: dropped[id].title });
    listKept();
  },
  restore_conversation({ id }) {
    self.kept[id] = dropped[id];
    listKept();
  },
});

self.onmessage = ({ data }) => {
  if (data.type === "ping") return say("pong");
  self.asked.push(data);
  (kind === "train" ? TRAIN : CHAT)[data.type]?.(data);
};
say("ready", { version: "0", python: "3" });
if (kind === "train") {
  say("gpu", { state: "found", name: "A scripted GPU", vendor: "", backend: "", is_software: false, message: "", losses: 0 });
  say("storage", { available: true, persistent: false, used_bytes: 1, quota_bytes: 2, reason: "" });
  list();
}
