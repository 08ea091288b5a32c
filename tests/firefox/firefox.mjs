#!/usr/bin/env node
// Firefox as Playwright wants it: stands between the two and answers a command that Firefox does not know yet.
//
//   firefox.mjs ARGUMENTS OF FIREFOX       FIREFOX: the program; LORA_LAB_NODE_MODULES: where the package `ws` is
//
// Playwright's own way to a Firefox that nobody has patched is WebDriver BiDi ("moz-firefox"). With each context it sets
// the colour scheme by `emulation.setMediaFeaturesOverride`, which came to Firefox later than Debian's. Everything
// else goes through as it is.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";

const UNKNOWN = "emulation.setMediaFeaturesOverride";
const LISTENING = /^(.*WebDriver BiDi listening on )(ws:\/\/\S+)$/;

const { WebSocket, WebSocketServer } = createRequire(`${process.env.LORA_LAB_NODE_MODULES}/`)("ws");
const firefox = spawn(process.env.FIREFOX, process.argv.slice(2), { stdio: ["ignore", "inherit", "pipe"] });
firefox.on("exit", (code) => process.exit(code ?? 1));
firefox.on("error", (error) => { console.error(error.message); process.exit(1); });
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => firefox.kill(signal));

let rest = "";
firefox.stderr.setEncoding("utf8").on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    const found = LISTENING.exec(line);
    if (found) stand(found[2], (address) => process.stderr.write(`${found[1]}${address}\n`));
    else process.stderr.write(`${line}\n`);
  }
});

function stand(address, ready) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 0 });
  server.on("listening", () => ready(`ws://127.0.0.1:${server.address().port}`));
  server.on("connection", (playwright, { url }) => {
    const there = new WebSocket(`${address}${url}`, { maxPayload: 0, perMessageDeflate: false });
    const waiting = [];
    there.on("open", () => { for (const text of waiting.splice(0)) there.send(text); });
    playwright.on("message", (data) => {
      const text = data.toString();
      const { id, method } = JSON.parse(text);
      if (method === UNKNOWN) playwright.send(JSON.stringify({ type: "success", id, result: {} }));
      else if (there.readyState === WebSocket.OPEN) there.send(text);
      else waiting.push(text);
    });
    there.on("message", (data) => playwright.send(data.toString()));
    there.on("close", () => playwright.close());
    playwright.on("close", () => there.close());
    there.on("error", (error) => console.error(error.message));
  });
}
