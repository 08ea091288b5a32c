// A page without a document, whose workers only listen: put before the scripts of tests/web.py's run_page.

Object.defineProperty(globalThis, "navigator", { value: { gpu: {} }, configurable: true });
globalThis.location = { href: "http://x/" };
const { bus, data, chat, state, settings, problems, workers, run, result, curve, plan, panel,
  watch, watching, notice, far,
  opening, applied, engine, revive, about } = page;
const { site } = about;
const sent = [];
for (const link of [workers.train, workers.chat]) {
  link.ready = true;
  link.worker = { postMessage: (command) => sent.push(command), terminate() {} };
}
bus.join([page.page.pageArea, opening.openingArea, run.trainArea, watching.watchArea, result.resultArea, applied.appliedArea, engine.engineArea,
  revive.reviveArea]);
const hear = (type, event = {}, from = "train") => bus.receive({ type, ...event }, from);
const names = () => sent.map(({ type }) => type);
/** A page on which training can start: a GPU, a model, data. */
function begin() {
  opening.openFirst();
  hear("ready", { version: "1", python: "3" });
  hear("gpu", { state: "found", name: "some", is_software: true, losses: 0, message: "" });
  hear("model_opened", { name: "m", title: "M", layers: 2, facts: [], chat_formats: [], chat_format: "auto", targets: ["q_proj"], files: [] });
  for (const [name, field] of Object.entries(settings.fields)) field.text.value = name in CHOICES ? CHOICES[name] : "5";
  data.dataset.value = { can_train: true, problem_count: 0, report: { asks: [], groups: [], tokens: {}, good: 3, unknown: 0, mapping: null } };
  plan.planNow();
  answerPlan();
  sent.length = 0;
}
const CHOICES = { masking: "assistant", on_long: "truncate", schedule: "cosine", packing: "auto", keep: "best", chat_format: "auto" };
const lastPlan = () => sent.findLast(({ type }) => type === "plan_training");
const answerPlan = (more = {}) => hear("training_planned", { request: lastPlan().request, total_steps: 5, problems: [], notes: [], ...more });
