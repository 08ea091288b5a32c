"""The page as a person drives it: short words for what the tests do, waiting for what a person would wait for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, Request, expect

# Chromium's software GPU on two busy cores: patient, but not for ever.
START_MS = 120_000
TRAIN_MS = 240_000
REPLY_MS = 90_000
ABORTED = ("net::ERR_ABORTED", "NS_BINDING_ABORTED", "NS_ERROR_ABORT")  # the page was left or reloaded meanwhile


class Lab:
    """One tab with the page in it. Everything that goes to the console as an error is kept in `errors`."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", self._note_failure)
        # As somebody who wants to see all settings; what a new visitor sees is test_first_sight.py's.
        look = "localStorage['lora-lab look'] ??= JSON.stringify({ settings: 'open' })"
        self.page.add_init_script(f"try {{ {look} }} catch {{}}")
        self.page.goto(url)

    def _note_failure(self, request: Request) -> None:
        if request.failure not in ABORTED:
            self.errors.append(f"{request.url}: {request.failure}")

    def part(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    def text(self, testid: str) -> str:
        return self.part(testid).inner_text()

    # --- waiting ---

    def wait_for_model(self) -> None:
        """Wait until the model can be chatted with, so everything else is up too."""
        expect(self.part("model-status")).to_have_attribute("data-state", "ready", timeout=START_MS)
        expect(self.part("gpu-status")).to_have_attribute("data-state", "found")

    def wait_for_phase(self, phase: str, timeout_ms: int = TRAIN_MS) -> None:
        expect(self.part("train-status")).to_have_attribute("data-state", phase, timeout=timeout_ms)

    def wait_for_text(self, testid: str, pattern: str, timeout_ms: int = TRAIN_MS) -> None:
        expect(self.part(testid)).to_have_text(re.compile(pattern), timeout=timeout_ms)

    # --- data and training ---

    def drop(self, *paths: Path, on: str = "dataset-input") -> None:
        """Give files to one of the page's file inputs."""
        self.part(on).set_input_files([str(path) for path in paths])

    def choose_model(self, *paths: Path) -> None:
        """Choose a model's files in the dialog, and use them once it says what a run of them takes."""
        self.page.get_by_role("button", name="Use another model").click()
        self.drop(*paths, on="model-input")
        expect(self.part("candidate-open")).to_be_visible(timeout=START_MS)
        self.part("candidate-open").click()

    def drop_data(self, path: Path) -> None:
        self.drop(path)
        expect(self.part("dataset-summary")).to_be_visible(timeout=START_MS)

    def give(self, name: str, raw: bytes, timeout_ms: int = START_MS) -> None:
        """Choose a file that stands on no disk, and wait until it is read."""
        files = [{"name": name, "mimeType": "", "buffer": raw}]
        self.part("dataset-input").set_input_files(files)  # type: ignore[arg-type]
        self.wait_for_data(timeout_ms)

    def drag(self, *files: tuple[str, bytes], on: str = "#dataset-drop") -> None:
        """Drop files from outside onto an element of the page."""
        self._drag("(files) => { const moved = new DataTransfer(); files.forEach((file) => moved.items.add(file)); "
                   "return moved; }", files, on)  # fmt: skip

    def drag_folder(self, folder: str, *files: tuple[str, bytes], on: str = "#dataset-drop") -> None:
        """Drop a folder of files. A script can make no real one, so this stands in for what the browser hands over."""
        self._drag(
            """(files) => {
              const entries = files.map((file) => ({ isFile: true, name: file.name, file: (take) => take(file) }));
              const parts = [entries, []]; // a reader gives all there is in several parts, the last of them empty
              const reader = { readEntries: (take) => take(parts.shift()) };
              const entry = { isFile: false, name: FOLDER, createReader: () => reader };
              return { types: ["Files"], files: [], items: [{ webkitGetAsEntry: () => entry }] };
            }""".replace("FOLDER", json.dumps(folder)),
            files,
            on,
        )

    def _drag(self, make: str, files: tuple[tuple[str, bytes], ...], on: str) -> None:
        self.page.evaluate(
            """([on, files]) => {
              const moved = (MAKE)(files.map(([name, bytes]) => new File([new Uint8Array(bytes)], name)));
              for (const type of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(type, { bubbles: true, cancelable: true });
                Object.defineProperty(event, "dataTransfer", { value: moved });
                document.querySelector(on).dispatchEvent(event);
              }
            }""".replace("MAKE", make),
            [on, [[name, list(raw)] for name, raw in files]],
        )

    def wait_for_data(self, timeout_ms: int = START_MS) -> None:
        """Wait until what was dropped is read and its tokens are counted."""
        body = self.page.locator("#data-body")
        expect(body).to_have_attribute("data-state", "ready", timeout=timeout_ms)
        expect(body).to_have_attribute("aria-busy", "false", timeout=timeout_ms)

    def replace_data(self) -> None:
        self.page.get_by_role("button", name="Replace").click()
        expect(self.page.locator("#data-body")).to_have_attribute("data-state", "empty")

    def set(self, **values: object) -> None:
        """Fill settings by the end of their testid: set(lr="1e-2", max_length=64)."""
        for name, value in values.items():
            fill(self.part(f"set-{name.replace('_', '-')}"), str(value))

    def start(self) -> None:
        """Press Start. Where an earlier run is over, wait until this one has begun: "done" would be the other's."""
        expect(self.part("train-start")).to_be_enabled(timeout=START_MS)
        again = self.part("train-status").get_attribute("data-state") == "done"
        self.page.evaluate(
            """() => {
              const status = document.querySelector("[data-testid=train-status]");
              self.runHasBegun = false; // a run may be over sooner than anybody looks
              new MutationObserver(() => { self.runHasBegun ||= status.dataset.state === "loading"; })
                .observe(status, { attributes: true });
            }"""
        )
        self.part("train-start").click()
        if again:
            self.page.wait_for_function("() => self.runHasBegun", timeout=START_MS)

    def start_beside_the_chat(self) -> None:
        """Begin a run of 400 steps that leaves the chat awake; wait for its first step."""
        self.page.locator("#more-settings > summary").click()
        self.part("set-free-chat").uncheck()
        self.set(steps=400, batch=1)
        self.start()
        self.wait_for_text("train-step", r"^\d+ / ")

    def losses(self) -> list[float]:
        """The loss of every step, as the kept adapter has it."""
        adapter = self.stored_adapters()[0]
        return [loss for _, loss in adapter["loss_curve"]]

    def stored_adapters(self) -> list[dict[str, Any]]:
        """What stands in the browser's private file system about the adapters."""
        found = self.page.evaluate(
            """async () => {
              const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
              const folder = await home.getDirectoryHandle("adapters");
              const texts = [];
              for await (const one of folder.values()) {
                const about = await one.getFileHandle("lora-lab.json");
                texts.push(await (await about.getFile()).text());
              }
              return texts;
            }"""
        )
        return [json.loads(text) for text in found]

    # --- chat ---

    def greedy(self, max_new_tokens: int = 24) -> None:
        """Make replies the same each time: no chance, no penalty."""
        if not self.part("chat-temperature").is_visible():
            self.page.locator(".reply-settings > summary").click()
        fill(self.part("chat-temperature"), "0")
        fill(self.part("chat-penalty"), "1")
        fill(self.part("chat-max-tokens"), str(max_new_tokens))

    def switch_adapter(self, on: bool) -> None:
        self.part("chat-adapter").set_checked(on)

    def ask(self, text: str) -> str:
        """Send a message and return the whole reply."""
        expect(self.part("chat-send")).to_be_enabled(timeout=REPLY_MS)
        before = self.part("chat-message").count()
        self.part("chat-input").fill(text)
        self.part("chat-send").click()
        reply = self.part("chat-message").nth(before + 1)
        expect(reply).to_have_attribute("data-state", "done", timeout=REPLY_MS)
        return reply.inner_text().strip()

    def talk(self, texts: list[str]) -> None:
        """Ask one after the other from within the page: what drives a browser leaves something there at each call."""
        self.page.evaluate(
            """async (texts) => {
              const [input, send] = ["chat-input", "chat-send"].map((id) => document.getElementById(id));
              const frame = () => new Promise((seen) => requestAnimationFrame(seen));
              for (const text of texts) {
                while (send.hidden || send.disabled) await frame();
                const before = document.querySelectorAll("[data-testid=chat-message]").length;
                input.value = text;
                input.dispatchEvent(new InputEvent("input", { bubbles: true }));
                send.click();
                const reply = () => document.querySelectorAll("[data-testid=chat-message]")[before + 1];
                while (reply()?.dataset.state !== "done") await frame();
              }
            }""",
            texts,
        )

    def hold(self, event: str) -> Callable[[], None]:
        """Have events of a type from the train worker wait until what is returned is called."""
        worker = next(worker for worker in self.page.workers if "kind=train" in worker.url)
        worker.evaluate(
            """(event) => {
              const post = self.postMessage;
              const held = [];
              self.postMessage = (message, moved) =>
                message.type === event ? held.push([message, moved]) : post.call(self, message, moved);
              self.letGo = () => {
                self.postMessage = post;
                for (const [message, moved] of held) post.call(self, message, moved);
              };
            }""",
            event,
        )
        return lambda: worker.evaluate("() => self.letGo()")

    def ask_anything(self, text: str) -> None:
        """Send a message and wait for a reply of a token or more; markdown may draw nothing of "****"."""
        self.ask(text)
        expect(self.part("chat-message").last).to_have_attribute("data-stats", re.compile(r"^[1-9]\d* tokens"))

    def clear_chat(self) -> None:
        self.page.get_by_role("button", name="Clear").click()

    def logits(self, text: str, use_adapter: bool) -> tuple[list[int], list[float]]:
        """Ask the page's own chat worker for the logits of a text: token ids, and values row by row."""
        worker = next(worker for worker in self.page.workers if "kind=chat" in worker.url)
        answer = worker.evaluate(
            """(command) => new Promise((resolve, reject) => {
              const post = self.postMessage;
              self.postMessage = (message, moved) => {
                if (message.type !== "logits" && message.type !== "failed") return post.call(self, message, moved);
                self.postMessage = post;
                if (message.type === "failed") return reject(new Error(message.message));
                const { buffer, byteOffset, byteLength } = message.data;
                const values = new Float32Array(buffer, byteOffset, byteLength / 4);
                resolve([Array.from(message.token_ids), Array.from(values)]);
              };
              self.onmessage({ data: command });
            })""",
            {"type": "read_logits", "text": text, "use_adapter": use_adapter},
        )
        return answer[0], answer[1]

    # --- files and keys ---

    def download(self, click: Callable[[], None], to: Path) -> Path:
        with self.page.expect_download() as started:
            click()
        path = to / started.value.suggested_filename
        started.value.save_as(path)
        return path

    def tab_to(self, testid: str, most: int = 80) -> None:
        """Press Tab until the focus is on a part of the page."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("() => document.activeElement?.dataset.testid") == testid:
                return
        raise AssertionError(f"Tab does not reach {testid}")


def fill(field: Locator, text: str) -> None:
    """Put a text in the place of what a field holds. In Firefox by BiDi Playwright's `fill` adds to a number."""
    field.fill(text)
    if field.input_value() != text:
        field.press("ControlOrMeta+a")
        field.press_sequentially(text)
    assert field.input_value() == text
