"""Things that cross each other: what is chosen, dropped or lost while something else is still under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Route, expect

from tests.browser.datasets import give_many
from tests.browser.devices import keep_devices
from tests.browser.lab import REPLY_MS, START_MS, Lab
from tests.tiny_model import write_peft_adapter

OpenLab = Callable[..., Lab]


class Held:
    """Requests that are kept waiting until `let_go`."""

    def __init__(self, context: BrowserContext, pattern: str) -> None:
        self.routes: list[Route] = []
        self.open = False
        context.route(pattern, self._take)

    def _take(self, route: Route) -> None:
        if self.open:
            route.continue_()
        else:
            self.routes.append(route)

    def let_go(self) -> None:
        self.open = True
        for route in self.routes:
            route.continue_()


def test_an_adapter_chosen_before_the_chat_is_there_is_in_use_when_it_is(
    open_lab: OpenLab, context: BrowserContext, tmp_path: Path, tiny_model_folder: Path
) -> None:
    peft = write_peft_adapter(tiny_model_folder, tmp_path / "peft", rank=4)
    lab = open_lab()
    lab.wait_for_model()
    lab.greedy(12)
    base = lab.ask("Hello")
    lab.clear_chat()
    lab.drop(peft / "adapter_config.json", peft / "adapter_model.safetensors", on="adapter-input")
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    tuned = lab.ask("Hello")
    assert tuned != base
    expect(lab.part("conversation").first).to_contain_text("2 messages")  # it is written down
    chat = Held(context, "**/assets/worker/worker.js?kind=chat")
    lab.page.reload()
    item = lab.part("adapter-item")
    expect(item).to_contain_text("waits for the chat", timeout=START_MS)  # it comes back into use
    expect(lab.part("model-status")).to_contain_text("going to the GPU", timeout=START_MS)
    assert lab.part("chat-adapter").is_disabled()
    chat.let_go()
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    expect(item).to_contain_text("in use")
    expect(lab.part("chat-message")).to_have_text(["Hello", tuned], timeout=START_MS)  # so does the conversation
    lab.clear_chat()
    lab.greedy(12)
    assert lab.ask("Hello") == tuned
    item.locator("[data-action=use]").click()  # off again
    expect(lab.part("chat-adapter")).to_be_disabled()
    lab.clear_chat()
    assert lab.ask("Hello") == base


def test_a_bad_model_chosen_while_the_first_one_opens_is_told_and_the_first_one_is_used(
    open_lab: OpenLab, context: BrowserContext
) -> None:
    weights = Held(context, "**/models/tiny/model.safetensors")
    lab = open_lab()
    expect(lab.part("gpu-status")).to_have_attribute("data-state", "found", timeout=START_MS)
    bad = {"name": "weights.gguf", "mimeType": "", "buffer": b"GGUF" + bytes(40)}
    lab.part("model-input").set_input_files([bad])  # type: ignore[list-item]
    expect(lab.part("candidate-words")).to_contain_text("weights.gguf", timeout=START_MS)
    expect(lab.part("candidate-open")).to_be_hidden()
    lab.page.keyboard.press("Escape")
    weights.let_go()
    lab.wait_for_model()  # the first one, as if nothing had been
    lab.page.locator(".sample-button").first.click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)


def test_replacing_a_dataset_whose_tokens_are_counted_leaves_the_panel_free(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    give_many(lab, 9_000)
    lab.replace_data()
    expect(lab.page.locator("#data-body")).to_have_attribute("aria-busy", "false")
    lab.page.wait_for_timeout(500)  # what the worker says of it meanwhile comes too late
    expect(lab.page.locator("#data-body")).to_have_attribute("data-state", "empty")
    lab.page.locator(".sample-button").first.click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)


def test_the_chat_s_gpu_is_lost_and_the_run_goes_on(browser: Browser, site_url: str, ships: Path) -> None:
    context = browser.new_context(service_workers="block")
    keep_devices(context)
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.start_beside_the_chat()
    worker = next(worker for worker in lab.page.workers if "kind=chat" in worker.url)
    worker.evaluate("() => self.openedDevices.forEach((device) => device.destroy())")
    expect(lab.page.locator("#toasts")).to_contain_text("The GPU was lost (once) and is back", timeout=20_000)
    assert lab.part("train-status").get_attribute("data-state") == "training"
    assert lab.part("gpu-status").get_attribute("data-state") == "found"
    lab.part("train-stop").click()
    lab.wait_for_phase("done", 60_000)
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(4)
    lab.ask("Hello")
    context.close()


def test_a_run_ends_the_reply_that_is_being_written(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.greedy(1900)
    lab.part("chat-input").fill("Tell me everything.")
    lab.part("chat-send").click()
    reply = lab.part("chat-message").last
    expect(reply).not_to_be_empty(timeout=REPLY_MS)
    lab.set(steps=4, batch=1)
    lab.start()
    expect(reply).to_have_attribute("aria-busy", "false")
    lab.wait_for_phase("done")
    lab.page.locator("#chat-max-tokens").fill("4")
    lab.ask_anything("And now?")  # at once: nothing goes on being written unseen
