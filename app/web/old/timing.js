// How long the run will take, measured by a few of its steps: asked for once a plan has settled, or by the button.

import { byId, formatCount, formatTime, setText } from "./dom.js";
import { whyNot } from "./settings.js";
import { state, subscribe, update } from "./store.js";

const SETTLED_MS = 700;
let timer = null;
let waitsFor = null; // the plan that the timer runs for
let askedFor = null; // the plan that was asked about by itself: once is enough

/** `measure()` sends the question for the settings as they stand. */
export function setUpTiming(train, { measure, isNewest }) {
  const ask = () => {
    update({ timing: { measuring: true } });
    measure();
  };
  train.on("training_timed", (event) => {
    if (isNewest(event.request)) update({ timing: event.problem === "" ? null : event }); // "": overtaken
  });
  byId("plan-measure").addEventListener("click", () => {
    askedFor = state.plan;
    ask();
  });
  subscribe(() => {
    draw();
    const plan = mayAskByItself() ? state.plan : null;
    if (plan === waitsFor) return;
    clearTimeout(timer);
    waitsFor = plan;
    if (plan) timer = setTimeout(() => {
      askedFor = plan;
      ask();
    }, SETTLED_MS);
  });
}

const canMeasure = () => Boolean(state.plan?.memory_bytes) && whyNot() === "" && !state.timing?.measuring;

// A software device has no time to spare, so there only a person may ask; a GPU must not be busy with something else.
function mayAskByItself() {
  const { gpu, plan, timing, replying, comparing, chatModel } = state;
  return canMeasure() && !gpu.is_software && !timing && askedFor !== plan && replying == null && !comparing && chatModel !== "loading";
}

function draw() {
  const { timing, plan } = state;
  const shown = plan?.memory_bytes ? timing : null;
  setText(byId("plan-time"), describe(shown));
  const button = byId("plan-measure");
  const hide = !plan?.memory_bytes || Boolean(shown?.step_ms);
  if (hide && document.activeElement === button) byId("train-start").focus(); // or keyboards would lose their place
  button.hidden = hide;
  button.disabled = !canMeasure();
}

function describe(timing) {
  if (!timing) return "";
  if (timing.measuring) return "Measuring how long it takes …";
  if (timing.problem) return `The time could not be measured: ${timing.problem}`;
  const ms = timing.step_ms;
  const step = ms >= 9950 ? formatTime(ms) : ms >= 995 ? `${(ms / 1000).toFixed(1)} s` : `${ms >= 9.5 ? Math.round(ms) : ms.toFixed(1)} ms`;
  const rate = formatCount(Number(timing.tokens_per_s.toPrecision(3)));
  return `About ${formatTime(timing.total_ms)} on this GPU (measured: ${step} a step, ${rate} tokens/s).`;
}
