"""Nothing is lost and nothing waits for ever: full storage, workers that die or hang, GPUs that are lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Download, Worker, expect

from lora_lab.formats.zipping import unpack_adapter
from tests.browser.devices import before_workers, keep_devices
from tests.browser.lab import REPLY_MS, START_MS, Lab

NOTICED_MS = 20_000  # 10 s are promised; this machine runs more than one test
OpenLab = Callable[..., Lab]


def worker_of(lab: Lab, kind: str) -> Worker:
    return [worker for worker in lab.page.workers if f"kind={kind}" in worker.url][-1]


def hang(lab: Lab, kind: str) -> None:
    """Have a worker do nothing any more but turn in a circle."""
    worker_of(lab, kind).evaluate("() => { setTimeout(() => { for (;;); }); }")


def close(lab: Lab, kind: str) -> None:
    """Have a worker end without a word."""
    worker_of(lab, kind).evaluate("() => self.close()")


def problem(lab: Lab, where: str = "setup") -> str:
    return lab.page.locator(f"#{where}-problem").inner_text()


def crash_gpu(browser: Browser) -> None:
    session = browser.new_browser_cdp_session()
    session.send("Browser.crashGpuProcess")
    session.detach()


def learn(lab: Lab, ships: Path, steps: int = 4) -> None:
    lab.drop_data(ships)
    lab.set(steps=steps, batch=1)
    lab.start()


# ---------------------------------------------------------------------------------------------------- storage


@pytest.mark.parametrize("room", ["none", "enough"])
def test_what_was_learned_is_there_also_where_the_store_is_full(
    open_lab: OpenLab, context: BrowserContext, ships: Path, room: str
) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.set(steps=2, batch=1)
    origin = re.sub(r"^(https?://[^/]+).*", r"\1", lab.page.url)
    session = context.new_cdp_session(lab.page)
    used = int(lab.page.evaluate("async () => (await navigator.storage.estimate()).usage"))
    session.send(
        "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": used + (2000 if room == "none" else 1 << 30)}
    )
    downloads: list[Download] = []
    lab.page.on("download", lambda download: downloads.append(download))
    lab.start()
    lab.wait_for_phase("error" if room == "none" else "done")
    if room == "enough":  # the control
        assert downloads == [] and len(lab.stored_adapters()) == 1
        return
    said = problem(lab, "train")
    assert "storage" in said and "are needed" in said and "as a download" in said, said
    expect(lab.part("train-start")).to_be_enabled()
    assert len(downloads) == 1 and downloads[0].suggested_filename == "ships-2-steps-lora.zip"
    files = unpack_adapter(downloads[0].path().read_bytes())
    assert {"adapter_model.safetensors", "adapter_config.json"} <= set(files)
    assert lab.stored_adapters() == []  # complete or absent


# ---------------------------------------------------------------------------------------------------- workers


@pytest.mark.parametrize("end", [hang, close])
def test_a_train_worker_that_is_gone_is_noticed_and_started_anew(
    open_lab: OpenLab, ships: Path, end: Callable[[Lab, str], None]
) -> None:
    lab = open_lab()
    lab.wait_for_model()
    learn(lab, ships, 400)
    lab.wait_for_text("train-step", r"^\d+ / ")
    end(lab, "train")
    expect(lab.page.locator("#setup-problem")).to_contain_text("did not answer for", timeout=NOTICED_MS)
    assert "The run that was going on is over. It was started anew." in problem(lab)
    lab.wait_for_data()  # read again
    assert lab.part("set-steps").input_value() == "400"
    lab.set(steps=2)
    lab.start()
    lab.wait_for_phase("done")


def test_a_chat_worker_that_hangs_is_noticed_and_started_anew(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    hang(lab, "chat")
    lab.part("chat-input").fill("Hello")
    lab.part("chat-send").click()
    lab.part("chat-stop").click()
    expect(lab.page.locator("#chat-problem")).to_contain_text("The chat was started anew", timeout=NOTICED_MS)
    expect(lab.part("chat-message").last).to_have_attribute("data-state", "done")
    lab.wait_for_model()
    lab.greedy(4)
    lab.ask_anything("Hello")


def test_a_stop_without_effect_can_be_pressed_again(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.wait_for_model()
    learn(lab, ships, 400)
    lab.wait_for_text("train-step", r"^\d+ / ")
    # A GPU that answers nothing any more, while Python waits for it as it should.
    worker_of(lab, "train").evaluate("() => { GPUBuffer.prototype.mapAsync = () => new Promise(() => {}); }")
    lab.part("train-stop").click()
    lab.wait_for_phase("stopping", NOTICED_MS)
    expect(lab.part("train-stop")).to_be_disabled()  # a double click shall end nothing by force
    expect(lab.part("train-stop")).to_have_text("End it at once", timeout=NOTICED_MS)
    lab.part("train-stop").click()
    lab.wait_for_data()
    lab.set(steps=2)
    lab.start()
    lab.wait_for_phase("done")


def test_python_s_own_death_is_told_as_what_it_is(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    worker_of(lab, "train").evaluate(
        "() => setTimeout(() => self.loraLabPython._api.fatal_error(new RangeError('the stack is full')))"
    )
    expect(lab.page.locator("#setup-problem")).to_contain_text("Python has died: ", timeout=NOTICED_MS)
    assert "could not start" not in problem(lab)
    lab.wait_for_model()
    assert [error for error in lab.errors if "fatal" in error]  # Pyodide tells of it in the console, too
    lab.errors.clear()


def test_a_server_that_is_gone_does_nothing_to_a_run(browser: Browser, site_url: str, ships: Path) -> None:
    context = browser.new_context(service_workers="block")
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    learn(lab, ships, 12)
    lab.wait_for_text("train-step", r"^\d+ / ")
    context.set_offline(True)
    lab.wait_for_phase("done")
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    assert len(lab.losses()) == 12
    # the control: the server is gone indeed
    assert (
        lab.page.evaluate("() => fetch('models/index.json', { cache: 'no-store' }).then(() => 'there', () => 'gone')")
        == "gone"
    )
    context.close()


# ---------------------------------------------------------------------------------------------------- GPUs


def test_a_gpu_process_that_crashes_interrupts_run_and_chat(browser: Browser, site_url: str, ships: Path) -> None:
    context = browser.new_context(service_workers="block")
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    learn(lab, ships, 60)
    lab.wait_for_text("train-step", r"^[5-9]\d* / |^[1-4]\d / ")
    told = """() => {
      const status = document.querySelector("[data-testid=gpu-status]");
      self.gpuStates = [];
      new MutationObserver(() => self.gpuStates.push(status.dataset.state)).observe(status, { attributes: true });
    }"""
    lab.page.evaluate(told)  # "again" may be over before anybody looks
    crash_gpu(browser)
    lab.page.wait_for_function("() => self.gpuStates.includes('again')", timeout=NOTICED_MS)
    expect(lab.part("gpu-status")).to_contain_text("lost once and back", timeout=START_MS)
    lab.wait_for_phase("done", 2 * START_MS)
    assert [step for step, _ in lab.stored_adapters()[0]["loss_curve"]] == list(range(1, 61))
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(4)
    lab.ask_anything("Hello")
    context.close()


def test_a_run_after_a_loss_has_the_losses_of_one_without(browser: Browser, site_url: str, ships: Path) -> None:
    """The control is the same run, undisturbed; every loss is the same number."""
    curves = []
    for loses in (True, False):
        context = browser.new_context(service_workers="block")
        keep_devices(context)
        lab = Lab(context, site_url + "?model=tiny")
        lab.wait_for_model()
        learn(lab, ships, 20)
        if loses:
            lab.wait_for_text("train-step", r"^([3-9]|1\d) / ")
            worker_of(lab, "train").evaluate("() => self.openedDevices.forEach((device) => device.destroy())")
            lab.wait_for_text("gpu-status", "lost once and back", START_MS)
        lab.wait_for_phase("done", 2 * START_MS)
        curves.append(lab.losses())
        context.close()
    assert curves[0] == curves[1] and len(curves[0]) == 20


def test_where_no_adapter_comes_any_more_the_page_says_how_to_go_on(
    browser: Browser, site_url: str, ships: Path
) -> None:
    context = browser.new_context(service_workers="block")
    keep_devices(context)
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    learn(lab, ships, 400)
    lab.wait_for_text("train-step", r"^\d+ / ")
    worker_of(lab, "train").evaluate(
        """() => {
          navigator.gpu.constructor.prototype.requestAdapter = async () => null;
          self.openedDevices.forEach((device) => device.destroy());
        }"""
    )
    expect(lab.part("gpu-status")).to_have_attribute("data-state", "again", timeout=NOTICED_MS)
    lab.part("train-stop").click()  # nobody has to wait for it
    expect(lab.part("train-status")).not_to_have_attribute(
        "data-state", re.compile("stopping|training|loading"), timeout=NOTICED_MS
    )
    expect(lab.part("gpu-status")).to_have_attribute("data-state", "lost", timeout=180_000)
    assert "Close the browser" in problem(lab)
    context.close()


def test_a_reply_goes_on_after_a_loss(browser: Browser, site_url: str) -> None:
    replies = []
    for loses in (True, False):
        context = browser.new_context(service_workers="block")
        keep_devices(context)
        lab = Lab(context, site_url + "?model=tiny")
        lab.wait_for_model()
        lab.greedy(60)
        lab.part("chat-input").fill("Hello")
        lab.part("chat-send").click()
        if loses:
            lab.page.wait_for_function(
                "() => document.querySelector('[data-state=streaming] .message-text')?.textContent"
            )
            worker_of(lab, "chat").evaluate("() => self.openedDevices.forEach((device) => device.destroy())")
        expect(lab.part("chat-message").last).to_have_attribute("data-state", "done", timeout=2 * REPLY_MS)
        replies.append(lab.part("chat-message").last.inner_text())
        context.close()
    assert replies[0] == replies[1]


# ---------------------------------------------------------------------------------------------------- the report

MARKED = ["Xylograph", "Quandary9", "zebrafish-secret", "Vermilion77"]


def test_the_report_holds_what_helps_and_no_word_of_the_data(context: BrowserContext, open_lab: OpenLab) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab = open_lab()
    lab.wait_for_model()
    rows = [{"prompt": f"What of {MARKED[0]}?", "completion": f"It is {MARKED[1]} {number}."} for number in range(20)]
    raw = "".join(json.dumps(row) + "\n" for row in rows) + f'{{"prompt": {MARKED[3]}\n'
    lab.give(f"{MARKED[2]}.jsonl", raw.encode())
    lab.part("copy-report").click()
    expect(lab.part("copy-report")).to_contain_text("Copied")
    text = lab.page.evaluate("() => navigator.clipboard.readText()")
    told = json.loads(text)
    assert not [word for word in MARKED if word in text]
    assert {event["type"] for event in told["events"]} >= {"ready", "gpu", "model_opened", "dataset_ready"}
    assert told["adapter"]["limits"]["maxBufferSize"] > 0 and told["settings"]["rank"] > 0
    assert told["lora_lab"] and told["python"] and "Chrome" in told["browser"]
    # the control: the words are in what the page was told
    assert MARKED[2] in lab.page.locator("#data-body").inner_text()


def test_the_report_names_an_error_s_kernel(browser: Browser, site_url: str, ships: Path) -> None:
    context = browser.new_context(service_workers="block", permissions=["clipboard-read", "clipboard-write"])
    before_workers(
        context,
        """
        const create = GPUDevice.prototype.createComputePipelineAsync;
        GPUDevice.prototype.createComputePipelineAsync = function (wanted) {
          if (wanted.label.includes("adamw")) return Promise.reject(new Error("the driver gave up"));
          return create.call(this, wanted);
        };
        """,
    )
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    learn(lab, ships)
    lab.wait_for_phase("error")
    assert "adamw" in problem(lab, "train") and "does not compile" in problem(lab, "train")
    lab.part("copy-report").click()
    expect(lab.part("copy-report")).to_contain_text("Copied")
    told = json.loads(lab.page.evaluate("() => navigator.clipboard.readText()"))
    assert told["error"]["kind"] == "KernelError" and "adamw" in told["error"]["message"]
    context.close()
