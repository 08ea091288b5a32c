"""What the page does besides the main job: bad files, stops, other models, other browsers, keys only."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from bench.synthetic import TINY
from bench.write_model import write_model
from tests.browser.devices import before_workers, keep_devices
from tests.browser.lab import REPLY_MS, START_MS, Lab
from tests.tiny_model import write_peft_adapter

OpenLab = Callable[..., Lab]


def test_bad_rows_are_named_and_left_out_only_with_consent(open_lab: OpenLab, ships: Path, tmp_path: Path) -> None:
    lines = ships.read_text().splitlines()
    lines[3] = '{"messages": [{"role": "user", "content": "x"},]}'
    lines[10] = '{"prompt": "and no completion"}'
    lines[20] = '{"messages": [{"role": "user", "content": "nobody answers"}]}'
    path = tmp_path / "some-bad.jsonl"
    path.write_text("\n".join(lines))
    lab = open_lab()
    lab.drop_data(path)
    errors = lab.text("dataset-errors")
    assert "3 of 60 rows" in errors
    assert [int(line) for line in re.findall(r"Line (\d+)", errors)] == [4, 11, 21]
    assert "57 of 60" in lab.text("dataset-summary")
    assert lab.part("train-start").is_disabled()
    lab.part("dataset-consent").check()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)


def test_a_file_of_another_kind_is_refused_and_the_page_goes_on(open_lab: OpenLab, ships: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("question,answer\nWho?,Me\n")
    lab = open_lab()
    lab.drop(path)
    expect(lab.part("mapping")).to_be_visible(timeout=START_MS)
    expect(lab.part("map-prompt")).to_contain_text("question")
    assert lab.part("train-start").is_disabled()
    assert lab.part("dataset-consent").is_hidden()
    lab.page.get_by_role("button", name="Replace").click()
    lab.drop_data(ships)
    assert lab.part("dataset-errors").is_hidden()


def test_stop_in_the_middle_keeps_what_was_learned(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.drop_data(ships)
    lab.set(steps=500, lr="1e-2", batch=2)
    lab.start()
    lab.wait_for_text("train-step", r"^([3-9]|\d\d+) / 500")
    lab.part("train-stop").click()
    lab.wait_for_phase("done", 30_000)
    done = int(lab.text("train-step").split(" / ")[0])
    assert 3 <= done < 400
    adapter = lab.stored_adapters()[0]
    assert adapter["steps"] == done == len(adapter["loss_curve"])
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)


def test_saving_memory_recomputes_the_layers_and_says_so(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.drop_data(ships)
    memory = lab.page.locator("#plan-memory > summary")
    lab.set(steps=2, batch=2)
    expect(memory).to_have_text(re.compile(r"^GPU memory needed: [\d.]+ \w+$"), timeout=START_MS)
    lab.page.locator("#more-settings > summary").click()
    lab.part("set-save-memory").check()
    expect(memory).to_have_text(
        re.compile(r"^GPU memory needed: [\d.]+ \w+, recomputes 2 of 2 layers$"), timeout=START_MS
    )
    lab.start()
    lab.wait_for_phase("done", REPLY_MS)
    assert lab.stored_adapters()[0]["recomputed_layers"] == 2


def test_settings_that_cannot_be_used_say_so(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.drop_data(ships)
    lab.set(rank=0, max_length=4)
    for field in ("rank", "max_length"):
        expect(lab.page.locator(f"[data-field={field}] .field-error")).not_to_be_empty()
    expect(lab.part("train-start")).to_be_disabled()
    lab.set(rank=4, max_length=64)
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    assert "cut" in lab.text("dataset-summary").lower()
    assert "60 at 64" in lab.text("dataset-summary")  # cut anew, without reading the file again


def test_settings_that_are_hardly_meant_are_warned_of_and_can_be_used(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.drop_data(ships)
    lab.set(lr="1", alpha="1e6", rank=256)
    notes = lab.page.locator("#plan-notes li")
    expect(notes).to_have_count(3, timeout=START_MS)
    expect(notes).to_contain_text(["A rank of 256", "An alpha of 1e+06", "A learning rate of 1 "])
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.set(lr="2e-4", alpha="16", rank=8)  # the control
    expect(notes).to_have_count(0, timeout=START_MS)


def test_an_adapter_from_peft_is_checked_and_used(open_lab: OpenLab, tmp_path: Path, tiny_model_folder: Path) -> None:
    right = write_peft_adapter(tiny_model_folder, tmp_path / "right", rank=4)
    lab = open_lab()
    lab.wait_for_model()
    lab.drop(right / "adapter_config.json", right / "adapter_model.safetensors", on="adapter-input")
    expect(lab.part("adapter-item")).to_have_count(1)
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(12)
    tuned = lab.ask("Hello")
    lab.clear_chat()
    lab.switch_adapter(False)
    assert lab.ask("Hello") != tuned

    config = json.loads((right / "adapter_config.json").read_text())
    (right / "adapter_config.json").write_text(json.dumps({**config, "r": 8, "use_dora": True}))
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
        for file in right.iterdir():
            archive.write(file, file.name)
    lab.drop(tmp_path / "wrong.zip", on="adapter-input")
    problem = lab.page.locator("#adapter-problem")
    expect(problem).to_contain_text("dora")
    expect(lab.part("adapter-item")).to_have_count(1)


def test_an_own_model_takes_the_place_of_the_built_in_one(
    open_lab: OpenLab, ships: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    from tests.tiny_gguf import write_tiny_gguf
    from tests.tiny_model import write_tiny_model

    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    own = write_tiny_model(tmp_path / "mine", seed=5, layers=3)
    lab.choose_model(*sorted(path for path in own.iterdir() if path.is_file()))
    expect(lab.part("model-status")).not_to_contain_text("tiny", timeout=START_MS)
    lab.wait_for_model()
    expect(lab.part("dataset-summary")).to_be_visible(timeout=START_MS)  # read anew, with the new tokenizer
    lab.greedy(12)
    reply = lab.ask("Hello")
    lab.clear_chat()

    with ThreadPoolExecutor() as threads:  # it runs an event loop of its own; Playwright has one here
        gguf = threads.submit(write_tiny_gguf, own, tmp_path / "mine.gguf").result()
    lab.choose_model(gguf)
    expect(lab.part("model-status")).to_contain_text("Tiny test model", timeout=START_MS)
    lab.wait_for_model()
    assert lab.ask("Hello") == reply  # the same weights, by the other way

    lab.page.get_by_role("button", name="Use another model").click()
    lab.drop(own / "config.json", on="model-input")
    expect(lab.part("candidate-words")).to_contain_text("tokenizer.json is missing", timeout=START_MS)
    expect(lab.part("candidate-open")).to_be_hidden()
    lab.page.keyboard.press("Escape")
    expect(lab.part("model-status")).to_contain_text("Tiny test model")  # in use as before


def test_the_dialog_says_whether_a_run_fits(open_lab: OpenLab, ships: Path, tmp_path: Path) -> None:
    """Of parts of a GGUF: one alone is refused by the other's name, both are one model; what it takes is the plan's."""
    path = tmp_path / "mine.gguf"
    first, second = write_model(path, TINY, "q8_0", "f16", parts=2)
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.page.get_by_role("button", name="Use another model").click()
    lab.drop(first, on="model-input")
    words, use = lab.part("candidate-words"), lab.part("candidate-open")
    expect(words).to_contain_text(f"{second.name} is missing: {first.name} is one of 2 parts", timeout=START_MS)
    expect(lab.part("candidate")).to_have_attribute("data-verdict", "refused")
    expect(use).to_be_hidden()
    lab.drop(second, first, on="model-input")
    expect(words).to_have_text(
        re.compile(r"^Fits this GPU: a run .* your data takes \S+ MB of its memory\.$"), timeout=START_MS
    )
    expect(lab.page.locator("#candidate-about")).to_contain_text("2 layers")
    expect(use).to_be_focused()
    lab.page.keyboard.press("Enter")
    expect(lab.part("model-status")).to_contain_text("tiny, random weights", timeout=START_MS)
    expect(lab.page.locator("#model-dialog")).to_be_hidden()
    lab.wait_for_model()


def test_a_stopped_reply_stays_and_the_chat_goes_on(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.greedy(400)
    lab.part("chat-input").fill("Tell me everything.")
    lab.part("chat-send").click()
    expect(lab.part("chat-message").last).not_to_be_empty(timeout=REPLY_MS)
    lab.part("chat-stop").click()
    expect(lab.part("chat-message").last).to_have_attribute("data-state", "done", timeout=REPLY_MS)
    expect(lab.part("chat-message").last).to_have_attribute("data-stats", re.compile("stopped"))
    lab.ask_anything("And now?")


def test_the_chat_can_stay_awake_while_training(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.greedy(4)
    lab.drop_data(ships)
    lab.start_beside_the_chat()
    lab.ask("Are you awake?")
    assert lab.part("train-status").get_attribute("data-state") == "training"
    lab.part("train-stop").click()
    lab.wait_for_phase("done", 60_000)


def test_packing_is_a_choice_and_the_plan_says_what_it_saves(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.part("sample-dataset").click()
    plan = lab.page.locator("#plan-summary")
    expect(plan).to_contain_text("steps are", timeout=START_MS)
    lab.page.locator("#more-settings summary").click()
    choice = lab.part("set-packing")
    expect(choice).to_have_value("auto")
    choice.select_option("off")
    expect(plan).not_to_contain_text("packing", timeout=START_MS)
    memory = lab.page.locator("#plan-memory-total").inner_text()
    choice.select_option("on")
    expect(plan).to_contain_text(re.compile(r"packing saves \d+ % of the computing"), timeout=START_MS)
    assert lab.page.locator("#plan-memory-total").inner_text() != memory


def test_keys_alone_are_enough(open_lab: OpenLab) -> None:
    lab = open_lab()
    keys = lab.page.keyboard
    lab.tab_to("sample-dataset")
    keys.press("Enter")
    expect(lab.part("dataset-summary")).to_be_visible(timeout=START_MS)
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.tab_to("set-steps")
    keys.press("Control+a")
    keys.type("2")
    lab.tab_to("set-batch")
    keys.press("Control+a")
    keys.type("1")
    expect(lab.page.locator("#plan-summary")).to_contain_text("2 steps", timeout=START_MS)
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.tab_to("train-start")
    keys.press("Enter")
    lab.wait_for_phase("done")
    expect(lab.part("chat-send")).to_be_enabled(timeout=START_MS)  # the chat is awake again
    expect(lab.part("chat-adapter")).to_be_enabled()
    lab.tab_to("chat-adapter")
    keys.press("Space")
    assert not lab.part("chat-adapter").is_checked()
    lab.tab_to("chat-input")
    keys.type("Hello")
    keys.press("Enter")
    expect(lab.part("chat-message").last).to_have_attribute("data-state", "done", timeout=REPLY_MS)


@pytest.mark.parametrize("has_webgpu", [True, False])
def test_without_a_gpu_the_page_says_what_to_do_and_still_reads_data(
    browser_without_gpu: Browser, site_url: str, has_webgpu: bool
) -> None:
    context = browser_without_gpu.new_context(service_workers="block")
    if not has_webgpu:
        context.add_init_script("delete Navigator.prototype.gpu")
        before_workers(context, "delete WorkerNavigator.prototype.gpu;\n")
    lab = Lab(context, site_url + "?model=tiny")
    expect(lab.part("gpu-status")).to_have_attribute("data-state", "none", timeout=START_MS)
    steps = lab.page.locator("#no-gpu-steps")
    expect(steps).to_be_visible()
    assert "chrome://" in steps.inner_text()
    lab.part("sample-dataset").click()
    expect(lab.part("dataset-summary")).to_be_visible(timeout=START_MS)
    assert lab.part("train-start").is_disabled()
    assert "GPU" in lab.text("train-status")
    assert lab.errors == []
    context.close()


def test_a_gpu_that_is_lost_while_nothing_goes_on_comes_back(browser: Browser, site_url: str) -> None:
    context = browser.new_context(service_workers="block")
    keep_devices(context)
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    for kind in ("train", "chat"):
        worker = next(worker for worker in lab.page.workers if f"kind={kind}" in worker.url)
        worker.evaluate("() => self.openedDevices.forEach((device) => device.destroy())")
    lab.wait_for_text("gpu-status", "lost once and back", 20_000)
    lab.wait_for_model()
    lab.greedy(4)
    lab.ask_anything("Hello")
    context.close()


def test_where_nothing_can_be_stored_the_page_says_so_and_works(browser: Browser, site_url: str) -> None:
    context = browser.new_context(service_workers="block")
    refusal = "Promise.reject(new DOMException('switched off', 'SecurityError'))"
    before_workers(context, f"navigator.storage.getDirectory = () => {refusal};\n")
    lab = Lab(context, site_url + "?model=tiny")
    lab.wait_for_model()
    expect(lab.page.locator("#storage-note")).to_contain_text("store nothing")
    lab.part("sample-dataset").click()
    expect(lab.part("dataset-summary")).to_be_visible(timeout=START_MS)
    context.close()


def test_leaving_in_the_middle_of_a_run_is_asked_about(open_lab: OpenLab, ships: Path) -> None:
    lab = open_lab()
    lab.drop_data(ships)
    lab.set(steps=300, batch=1)
    lab.start()
    lab.wait_for_text("train-step", r"^\d+ / ")
    asked: list[str] = []
    lab.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    lab.page.close(run_before_unload=True)
    lab.part("train-stop").click()
    lab.wait_for_phase("done", 60_000)
    assert asked == ["beforeunload"]


@pytest.mark.parametrize("query", ["?model=not-there"])
def test_a_model_that_the_site_does_not_have_is_named(open_lab: OpenLab, query: str) -> None:
    lab = open_lab(query)
    expect(lab.page.locator("#setup-problem")).to_contain_text("not-there", timeout=START_MS)
    assert lab.part("model-status").get_attribute("data-state") == "error"
    lab.page.locator(".sample-button").first.click()
    expect(lab.part("train-status")).to_contain_text("Training needs a model")
    expect(lab.page.locator("#data-body")).to_have_attribute("aria-busy", "false", timeout=START_MS)


def test_every_handle_for_automation_is_there_once(open_lab: OpenLab) -> None:
    lab = open_lab()
    handles = """gpu-status model-status dataset-input dataset-summary dataset-errors sample-dataset set-steps set-lr
        set-rank set-alpha set-batch set-max-length set-seed train-start train-stop train-status train-step train-loss
        chat-input chat-send chat-adapter chat-log validation-base validation-tuned export-adapter adapter-input
        adapter-list model-input"""
    for testid in handles.split():
        assert lab.part(testid).count() == 1, testid
    assert lab.part("train-status").get_attribute("data-state") == "idle"
