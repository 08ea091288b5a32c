// Runs the benchmark's page (/bench/, the quick form) in Chromium on a real GPU and writes its result to OUT/bench.json.
//
//   node bench/page_bench.mjs URL OUT [CHROMIUM [FLAG...]]      needs the npm package playwright-core

import { createRequire } from "node:module";
import path from "node:path";

const [url, out, executablePath = "/usr/bin/chromium", ...flags] = process.argv.slice(2);
const { chromium } = createRequire(path.resolve(process.env.LORA_LAB_NODE_MODULES ?? "node_modules", "_"))("playwright-core");
const PATIENCE_MS = Number(process.env.LORA_LAB_PATIENCE_MS ?? 600_000);

const browser = await chromium.launch({ executablePath, args: flags, ignoreDefaultArgs: ["--disable-gpu"] });
const page = await browser.newPage();
page.on("console", (message) => { if (message.type() === "error") console.error(message.text()); });
let failed = false;
try {
  await page.goto(`${url}bench/`);
  await page.getByTestId("bench-start").click();
  const status = page.locator("[data-testid=bench-status]:is([data-state=done], [data-state=failed])");
  await status.waitFor({ timeout: PATIENCE_MS });
  console.log(await status.innerText());
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId("bench-download").click()]);
  await download.saveAs(path.join(out, "bench.json"));
} catch (error) {
  failed = true;
  console.error(String(error?.stack ?? error));
} finally {
  // What was measured by then is worth having too.
  console.log(await page.getByTestId("bench-table").innerText().catch(() => "no rows"));
  await browser.close();
}
process.exit(failed ? 1 : 0);
