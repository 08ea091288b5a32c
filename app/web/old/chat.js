// Step 3: the conversation. Python writes the replies; this draws them as they come.

import DOMPurify from "../vendor/dompurify/purify.es.mjs";
import MarkdownIt from "../vendor/markdown-it/markdown-it.esm.min.mjs";
import { chosenFormat } from "./chat_format.js";
import { byId, copyText, create, formatRate, icon, setText } from "./dom.js";
import { showProblem } from "./problems.js";
import { isRunning, state, subscribe, update, whyNoPython } from "./store.js";

const markdown = new MarkdownIt({ html: false, linkify: false, breaks: true });
const allowed = {
  FORBID_TAGS: ["style", "form", "input", "img", "video", "audio", "iframe"], FORBID_ATTR: ["style", "id", "class"],
  RETURN_TRUSTED_TYPE: true, // where the browser has Trusted Types, nothing else may become markup
};
const fields = {
  temperature: "chat-temperature", max_new_tokens: "chat-max-tokens", top_p: "chat-top-p", top_k: "chat-top-k",
  min_p: "chat-min-p", repetition_penalty: "chat-penalty",
};
let messages = []; // {role, content}, what the model is given
let turn = 0;
let streaming = null; // {turn, item, body, text, frame}
let chat; // the worker's link

/** Listen to the chat worker's replies. */
export function connectChat(worker) {
  chat = worker;
  worker.on("reply_piece", addPiece);
  worker.on("reply_done", finish);
  worker.on("failed", (event) => {
    if (event.where === "chat") fail(event);
  });
}

export function setUpChat() {
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send(byId("chat-input").value);
  });
  byId("chat-input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send(byId("chat-input").value);
  });
  byId("chat-input").addEventListener("input", grow);
  byId("chat-stop").addEventListener("click", () => chat.send("stop_reply"));
  byId("chat-clear").addEventListener("click", clear);
  byId("chat-strength").addEventListener("input", drawStrength);
  byId("chat-adapter").addEventListener("change", () => draw(state));
  subscribe(draw);
}

/** Offer some questions in the empty conversation. */
export function suggestQuestions(questions) {
  byId("suggestions").replaceChildren(...questions.slice(0, 3).map((question) => create("button", {
    type: "button", class: "suggestion", onclick: () => send(question) }, question)));
}

/** What an adapter changed is about to be written elsewhere, or the model is gone: end the reply that is being written. */
export function abandonReply() {
  if (!streaming) return;
  const { item, text } = streaming;
  item.dataset.state = "done";
  item.dataset.text = text;
  item.setAttribute("aria-busy", "false");
  messages.push({ role: "assistant", content: text });
  streaming = null;
  update({ replying: null });
}

function whyNoChat() {
  const { worker, gpu, model, chatModel, replying } = state;
  if (worker.phase === "fatal") return whyNoPython(state);
  if (!navigator.gpu || gpu.state === "none") return "Chatting needs a GPU.";
  if (gpu.state === "lost") return "There is no GPU any more.";
  if (gpu.state === "again") return "The GPU was lost and is asked for anew.";
  if (isRunning() && chatModel !== "ready") return "The chat rests while the adapter trains. (More settings can keep it awake.)";
  if (replying != null) return "";
  if (!model) return state.modelProblem ? "Chatting needs a model." : "The model is on its way.";
  if (chatModel === "failed") return "The chat could not start; see above.";
  if (chatModel === "none" || chatModel === "loading") return "The model is going to the GPU…";
  return "";
}

function draw({ applied, replying, chatModel }) {
  const box = byId("chat-adapter");
  if (box.disabled !== !applied) {
    box.disabled = !applied;
    box.checked = Boolean(applied);
  }
  byId("adapter-bar").dataset.on = String(box.checked);
  setText(byId("chat-adapter-name"), applied ? applied.name : "No adapter in use");
  byId("strength-row").hidden = !applied;
  byId("strength-row").classList.toggle("off", !box.checked);
  const reason = whyNoChat();
  const resting = isRunning() && chatModel !== "ready";
  byId("chat-send").disabled = replying != null || resting || !["ready", "released"].includes(chatModel);
  byId("chat-send").hidden = replying != null;
  byId("chat-stop").hidden = replying == null;
  byId("chat-clear").disabled = byId("chat-log").childElementCount === 0 || replying != null;
  byId("chat-empty").hidden = byId("chat-log").childElementCount > 0;
  for (const button of byId("suggestions").children) button.disabled = byId("chat-send").disabled;
  if (replying == null) setText(byId("chat-note"), reason);
}

function drawStrength() {
  setText(byId("chat-strength-value"), Number(byId("chat-strength").value).toFixed(2));
}

function grow() {
  const input = byId("chat-input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 180)}px`;
}

function readSampling() {
  const sampling = {};
  for (const [name, id] of Object.entries(fields)) {
    const input = byId(id);
    const value = input.value.trim() === "" ? Number(input.defaultValue) : Number(input.value);
    sampling[name] = Number.isFinite(value) ? value : Number(input.defaultValue);
  }
  const seed = byId("chat-seed").value.trim();
  sampling.seed = seed === "" ? Math.floor(Math.random() * 2 ** 31) : Math.trunc(Number(seed)) || 0;
  sampling.top_k = Math.trunc(sampling.top_k);
  sampling.max_new_tokens = Math.trunc(sampling.max_new_tokens);
  return sampling;
}

function send(raw) {
  const text = raw.trim();
  if (!text || byId("chat-send").disabled) return;
  byId("chat-input").value = "";
  grow();
  showProblem("chat-problem", null);
  const useAdapter = Boolean(state.applied) && byId("chat-adapter").checked;
  messages.push({ role: "user", content: text });
  addMessage("user", useAdapter, "done").body.textContent = text;
  const { item, body } = addMessage("assistant", useAdapter, "streaming");
  turn += 1;
  streaming = { turn, item, body, text: "", frame: 0 };
  if (state.comparing) chat.send("stop_reply"); // the card's question is asked again afterwards
  update({ replying: turn });
  const system = byId("system-prompt").value.trim();
  chat.send("reply", {
    turn, sampling: readSampling(), use_adapter: useAdapter, strength: Number(byId("chat-strength").value),
    chat_format: chosenFormat(),
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
  });
}

function addMessage(role, useAdapter, status) {
  const body = create("div", { class: "message-text" });
  const copy = create("button", { type: "button", class: "quiet icon-only copy", "aria-label": "Copy this message", title: "Copy" }, icon("copy"));
  const item = create("div", {
    class: "message", "data-testid": "chat-message", "data-role": role, "data-adapter": useAdapter ? "on" : "off", "data-state": status,
    "aria-busy": String(status === "streaming"), // read out when it is complete, not at every word
  }, body, copy);
  copy.addEventListener("click", async () => {
    const copied = await copyText(item.dataset.text ?? body.textContent);
    copy.replaceChildren(icon(copied ? "check" : "close"));
    setTimeout(() => copy.replaceChildren(icon("copy")), 1500);
  });
  byId("chat-log").append(item);
  const who = role === "user" ? "You" : useAdapter ? state.applied.name : "Base model";
  item.dataset.who = who;
  body.setAttribute("aria-label", who);
  toBottom(true);
  return { item, body };
}

const nearBottom = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 80;

function toBottom(always) {
  const box = byId("chat-scroll");
  if (always || nearBottom(box)) box.scrollTop = box.scrollHeight;
}

function addPiece({ turn: of, text }) {
  if (streaming?.turn !== of) return;
  streaming.text += text;
  streaming.frame ||= requestAnimationFrame(() => {
    if (streaming?.turn !== of) return;
    streaming.frame = 0;
    show(streaming.body, streaming.text);
  });
}

function show(body, text) {
  const follow = nearBottom(byId("chat-scroll"));
  body.innerHTML = DOMPurify.sanitize(markdown.render(text), allowed);
  if (follow) toBottom(true);
}

function finish(event) {
  if (streaming?.turn !== event.turn) return;
  const { item, body } = streaming;
  const text = event.text.trim();
  streaming = null;
  messages.push({ role: "assistant", content: text });
  leaveOut(event.dropped_messages);
  item.dataset.text = text;
  if (text) show(body, text);
  else body.textContent = "(nothing)";
  const why = event.finish_reason === "length" ? ", cut at the longest reply" : event.finish_reason === "stopped" ? ", stopped" : "";
  item.dataset.stats = `${event.new_tokens} tokens · ${formatRate(event.tokens_per_s)}/s${why}`;
  item.dataset.state = "done";
  item.setAttribute("aria-busy", "false");
  update({ replying: null });
  if (document.activeElement === document.body) byId("chat-input").focus({ preventScroll: true });
}

/** The oldest messages had no room in the context: the model is not given them any more, and a line says where it begins. */
function leaveOut(count) {
  if (!count) return;
  messages.splice(0, count);
  const log = byId("chat-log"), line = byId("chat-cut") ?? create("p", { id: "chat-cut", class: "chat-cut", role: "note", "data-testid": "chat-cut" },
    "The conversation outgrew the model's context: it no longer reads what stands above.");
  const shown = log.querySelectorAll(".message");
  shown[shown.length - messages.length]?.before(line);
}

function fail(event) {
  if (streaming) {
    streaming.item.remove();
    streaming = null;
    const asked = messages.pop();
    byId("chat-log").lastElementChild?.remove();
    if (!byId("chat-input").value) byId("chat-input").value = asked.content;
    update({ replying: null });
  }
  showProblem("chat-problem", event);
}

function clear() {
  messages = [];
  byId("chat-log").replaceChildren();
  showProblem("chat-problem", null);
  update({});
  byId("chat-input").focus();
}
