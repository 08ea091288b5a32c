// Drives the real page in Chromium on a real GPU, as a person would: sample data, 60 steps, questions with the adapter
// off and on. Writes OUT/page.json and screenshots.
//
//   node bench/page_run.mjs URL OUT [CHROMIUM [FLAG...]]        needs the npm package playwright-core
//
// Numbers are the page's own messages; nothing is computed here that the page does not show.

import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import path from "node:path";

const [url, out, executablePath = "/usr/bin/chromium", ...flags] = process.argv.slice(2);
const { chromium } = createRequire(path.resolve(process.env.LORA_LAB_NODE_MODULES ?? "node_modules", "_"))("playwright-core");
const QUESTIONS = [
  "What is the capital of France?", "How many steps are there in your lighthouse?", "What are you afraid of?",
  "What is your cat's name?", "Who are you?",
];
const PATIENCE_MS = Number(process.env.LORA_LAB_PATIENCE_MS ?? 240_000);

const browser = await chromium.launch({ executablePath, args: flags, ignoreDefaultArgs: ["--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, deviceScaleFactor: 1 });
const errors = [];
page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
page.on("pageerror", (error) => errors.push(String(error)));
await page.addInitScript(() => {
  window.heard = [];
  const Original = window.Worker;
  window.Worker = class extends Original {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data }) => {
        if (data && data.elapsed_ms !== undefined) window.heard.push({ at: performance.now(), ...data });
      });
    }
  };
});
const part = (testid) => page.getByTestId(testid);
const state = (testid, wanted) => page.waitForFunction(
  ([id, value]) => document.querySelector(`[data-testid="${id}"]`)?.dataset.state === value, [testid, wanted],
  { timeout: PATIENCE_MS });
const shot = (name) => page.screenshot({ path: path.join(out, `${name}.png`) });

const begun = Date.now();
const result = { adapter: null, ms: {}, replies: [], errors };
try {
  await page.goto(url);
  await state("model-status", "ready");
  result.ms.ready = Date.now() - begun;
  result.adapter = (await part("gpu-status").innerText()).replace(/^GPU\s*/, "");
  await part("sample-dataset").click();
  await part("dataset-summary").waitFor({ timeout: PATIENCE_MS });
  await page.waitForFunction(() => !document.querySelector('[data-testid="train-start"]').disabled, null, { timeout: PATIENCE_MS });
  await part("set-steps").fill("60");
  result.settings = {};
  for (const name of ["steps", "lr", "rank", "alpha", "batch", "max-length", "seed"]) {
    result.settings[name] = await part(`set-${name}`).inputValue();
  }
  // The page times the run by itself a moment after the plan has settled.
  await page.waitForFunction(() => /\d/.test(document.querySelector('[data-testid="plan-time"]').textContent), null, { timeout: 20_000 })
    .catch(() => errors.push("the page did not time the run"));
  result.plan_time = await part("plan-time").innerText();
  await shot("planned");
  const pressed = await page.evaluate(() => performance.now());
  await part("train-start").click();
  await page.waitForFunction(() => window.heard.length >= 20, null, { timeout: PATIENCE_MS });
  await shot("training");
  await state("train-status", "done");
  const heard = await page.evaluate(() => window.heard);
  result.ms.train_pressed_to_first_step = heard[0].at - pressed;
  result.steps = heard.map(({ step, loss, elapsed_ms, tokens_per_s, trained_tokens }) =>
    ({ step, loss, elapsed_ms, tokens_per_s, trained_tokens }));
  const middle = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
  result.median_step_ms = middle(heard.map((one) => one.elapsed_ms));
  result.median_tokens_per_s = middle(heard.map((one) => one.tokens_per_s));
  await part("validation-tuned").waitFor({ timeout: PATIENCE_MS });
  await page.waitForTimeout(8000);
  result.validation = { base: await part("validation-base").innerText(), tuned: await part("validation-tuned").innerText() };
  for (const on of [false, true]) {
    await page.waitForFunction(() => !document.querySelector('[data-testid="chat-adapter"]').disabled, null, { timeout: PATIENCE_MS });
    await part("chat-adapter").setChecked(on);
    for (const question of QUESTIONS) {
      const clear = page.getByRole("button", { name: "Clear" });
      // The last two make one conversation.
      if (question !== QUESTIONS.at(-1) && await clear.isEnabled()) await clear.click();
      const before = await part("chat-message").count();
      await part("chat-input").fill(question);
      await page.waitForFunction(() => !document.querySelector('[data-testid="chat-send"]').disabled, null, { timeout: PATIENCE_MS });
      await part("chat-send").click();
      const reply = part("chat-message").nth(before + 1);
      await reply.waitFor({ timeout: PATIENCE_MS });
      await page.waitForFunction(([n]) => document.querySelectorAll('[data-testid="chat-message"]')[n]?.dataset.state === "done",
        [before + 1], { timeout: PATIENCE_MS });
      result.replies.push({ adapter: on ? "on" : "off", question, answer: await reply.innerText() });
    }
  }
  await shot("desktop");
  await page.screenshot({ path: path.join(out, "whole.png"), fullPage: true });
  await page.emulateMedia({ colorScheme: "dark" });
  await shot("dark");
} catch (error) {
  errors.push(String(error?.stack ?? error));
  await shot("failed").catch(() => {});
} finally {
  writeFileSync(path.join(out, "page.json"), JSON.stringify(result, null, 1));
  console.log(JSON.stringify({ ...result, steps: result.steps?.length }, null, 1));
  await browser.close();
}
process.exit(errors.length ? 1 : 0);
