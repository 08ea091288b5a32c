"""What the page says is wrong with data, how it is mended, columns of other names; no file breaks the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lora_lab.data import DataSource, read_table
from tests.browser.datasets import CSV, PAIRS, expect_rows, lines, messy, rows_of
from tests.browser.lab import START_MS, TRAIN_MS, Lab
from tests.unit.data.corpus.cases import CASES
from tests.unit.data.hostile_text import hostile_texts

OpenLab = Callable[..., Lab]


# ------------------------------------------------------------------------------------------------ problems, mending


def test_problems_stand_by_kind_with_line_column_text_and_cure(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.give("messy.jsonl", messy())
    errors = lab.part("dataset-errors")
    expect(errors.locator("h3")).to_have_text("5 of 20 rows cannot be used")
    kinds = {kind.get_attribute("data-kind"): kind for kind in errors.locator(".kind").all()}
    assert set(kinds) == {"trailing-comma", "single-quotes", "missing-key", "unclosed"}
    commas = kinds["trailing-comma"]
    assert commas.locator("summary").inner_text().split() == ["A", "comma", "too", "many", "2"]  # it is open
    found = commas.locator("li").all_inner_texts()
    width = len(lines(PAIRS)[3])
    assert found[0].startswith(f"Line 4, column {width}\n")
    assert 'barrels.",}' in found[0] and 'barrels."}' in found[0]
    assert "line 8" in kinds["single-quotes"].locator(".kind-lines").text_content()
    assert "Line 13" in kinds["missing-key"].inner_text()
    assert 'no "completion"' in kinds["missing-key"].inner_text()
    assert "Line 16, column" in kinds["unclosed"].inner_text()
    # A control: a file with nothing wrong shows none of this.
    lab.replace_data()
    lab.give("ships.jsonl", "\n".join(lines(PAIRS)).encode())
    assert errors.is_hidden() and lab.part("mend").is_hidden() and lab.part("dataset-consent").is_hidden()


def test_rows_are_mended_when_asked_and_left_again(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.give("messy.jsonl", messy())
    expect_rows(lab, "15 of 20")
    expect(lab.part("mend-use")).to_have_text("Mend these 3 rows")
    lab.part("mend-use").click()
    expect(lab.part("mend")).to_contain_text("3 rows are mended", timeout=START_MS)
    lab.wait_for_data()
    expect_rows(lab, "18 of 20")
    expect(lab.part("mend-undo")).to_be_focused()
    assert lab.part("train-start").is_disabled()  # two rows are still bad, and nobody has agreed to leave them out
    lab.part("dataset-consent").check()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.part("mend-undo").click()
    expect(lab.part("mend-use")).to_be_visible(timeout=START_MS)
    lab.wait_for_data()
    expect_rows(lab, "15 of 20")
    assert not lab.part("dataset-consent").is_checked()  # what was agreed to was about other rows
    assert lab.part("train-start").is_disabled()
    expect(lab.page.locator("#consent-text")).to_contain_text("15 good rows")


@pytest.mark.parametrize(("mended", "form"), [(True, "same"), (False, "conversations")])
def test_the_cleaned_file_is_what_python_makes_of_it(
    open_lab: OpenLab, tmp_path: Path, mended: bool, form: str
) -> None:
    async def cleaned() -> bytes:
        table = await read_table([DataSource.from_bytes(messy(), "messy.jsonl")])
        return b"".join([piece async for piece in table.cleaned(mended, form == "conversations")])

    lab = open_lab()
    lab.give("messy.jsonl", messy())
    lab.page.locator("#cleaned > summary").click()
    lab.part("cleaned-mended").set_checked(mended)
    lab.part("cleaned-form").select_option(form)
    path = lab.download(lambda: lab.part("cleaned-save").click(), tmp_path)
    assert path.name == "messy-cleaned.jsonl"
    expected = run_beside(cleaned)
    assert path.read_bytes() == expected
    assert len(expected.splitlines()) == (18 if mended else 15)
    assert (b'"messages"' in expected) == (form == "conversations")


def run_beside(make: Callable) -> bytes:
    """Run a coroutine in a thread of its own: Playwright has an event loop in this one."""
    with ThreadPoolExecutor() as threads:
        return threads.submit(lambda: asyncio.run(make())).result()


def test_an_encoding_is_chosen_by_what_it_reads_like(open_lab: OpenLab) -> None:
    lab = open_lab()
    rows = "\n".join(f"Où est le café {i} ?,Près du quai {i}" for i in range(12))
    lab.give("cafe.csv", f"prompt,completion\n{rows}\n".encode("mac_roman"))
    choices = lab.part("encodings").locator("[data-encoding]")
    expect(choices.first).to_be_visible(timeout=START_MS)
    shown = {choice.get_attribute("data-encoding"): choice.inner_text() for choice in choices.all()}
    assert "Où est le café 0 ?" in shown["mac-roman"]
    lab.part("encodings").locator("[data-encoding=mac-roman]").click()
    expect_rows(lab, "12")
    lab.wait_for_data()
    expect(lab.part("encodings")).to_contain_text("read as mac-roman")
    assert lab.part("dataset-errors").is_hidden() and choices.count() == 0
    lab.part("encoding-undo").click()
    expect(choices.first).to_be_visible(timeout=START_MS)
    # A control: where all is UTF-8 nothing is to be chosen.
    lab.replace_data()
    lab.give("cafe.csv", f"prompt,completion\n{rows}\n".encode())
    expect_rows(lab, "12")
    assert lab.part("encodings").is_hidden()


def test_garbled_letters_are_mended_when_asked(open_lab: OpenLab) -> None:
    lab = open_lab()
    right = "\n".join(f"Où est le quai {i} ?,Près de l’église {i}." for i in range(12))
    lab.give("garbled.csv", f"prompt,completion\n{right}\n".encode().decode("latin-1").encode())
    expect_rows(lab, "12")
    expect(lab.part("mend-use")).to_have_text("Mend these 12 rows")
    expect(lab.part("mend")).to_contain_text("would be better mended")
    assert lab.part("dataset-errors").is_hidden()
    lab.part("mend-use").click()
    expect(lab.part("mend")).to_contain_text("12 rows are mended", timeout=START_MS)
    expect(lab.part("preview")).to_contain_text("Où", timeout=START_MS)


def test_a_file_that_is_no_data_says_what_it_is(open_lab: OpenLab) -> None:
    lab = open_lab()
    errors = lab.part("dataset-errors")
    for name, raw, words in (
        ("table.parquet", b"PAR1" + bytes(range(256)) + b"PAR1", "Parquet is not read here"),
        ("noise.bin", bytes(range(256)) * 8, "binary"),
        ("empty.jsonl", b"", "empty"),
    ):
        lab.give(name, raw)
        expect(errors).to_contain_text(words, ignore_case=True)
        expect(errors.locator("h3")).to_have_text("This file cannot be used")
        assert "Line 1" not in errors.inner_text()
        assert lab.part("train-start").is_disabled() and lab.part("dataset-consent").is_hidden()
        lab.replace_data()


# --------------------------------------------------------------------------------------------------------- mapping


def test_columns_of_other_names_are_chosen_once(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.give("faq.csv", CSV.encode())
    expect(lab.part("mapping")).to_be_visible()
    assert lab.part("train-start").is_disabled()
    assert lab.part("mapping-use").is_disabled()  # nothing is chosen yet, and the names gave no idea
    lab.part("map-prompt").select_option(label="frage")
    assert lab.part("mapping-use").is_disabled()
    lab.part("map-reply").select_option(label="antwort")
    preview = lab.part("mapping-preview")
    expect(preview.locator(".turn.user").first).to_contain_text("Wie hoch ist Turm 0?")
    expect(preview.locator(".turn.assistant").first).to_contain_text("20 Meter")
    lab.part("map-reply").select_option(label="frage")  # a control: the preview follows the choice
    expect(preview.locator(".turn.assistant").first).to_contain_text("Wie hoch ist Turm 0?")
    lab.part("map-reply").select_option(label="antwort")
    expect(preview.locator(".turn.assistant").first).to_contain_text("20 Meter")
    lab.part("mapping-use").click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    expect_rows(lab, "20")

    lab.page.reload()
    lab.give("other.csv", CSV.replace("Turm", "Mast").encode())
    mapped = lab.page.locator("#mapped")
    expect(mapped).to_contain_text("Read as prompt = frage, reply = antwort, as last time.", timeout=START_MS)
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    mapped.get_by_role("button", name="Undo").click()
    expect(lab.part("mapping")).to_be_visible(timeout=START_MS)
    assert lab.part("train-start").is_disabled()

    lab.replace_data()
    lab.give("other.csv", CSV.encode())  # an undo was for that file
    expect(mapped).to_contain_text("as last time", timeout=START_MS)
    mapped.get_by_role("button", name="Change").click()
    lab.page.locator("[name=mapping-kind][value=text]").check()
    lab.part("map-text").select_option(label="antwort")
    expect(preview.locator(".turn.text").first).to_contain_text("20 Meter")
    lab.part("mapping-use").click()
    expect(mapped).to_contain_text("Read as text = antwort.", timeout=START_MS)
    lab.wait_for_data()
    mapped.get_by_role("button", name="Forget").click()
    expect(lab.part("mapping")).to_be_visible(timeout=START_MS)
    lab.replace_data()
    lab.give("other.csv", CSV.encode())
    expect(lab.part("mapping")).to_be_visible()
    expect(lab.part("map-prompt")).to_have_value("")


def test_a_guess_is_filled_in_and_works_where_nothing_can_be_remembered(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.page.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    )
    lab.page.reload()
    lab.give("faq.csv", b"id,question,answer\n1,Who?,Me\n2,Where?,Here\n")
    expect(lab.part("map-prompt").locator("option:checked")).to_have_text("question")
    expect(lab.part("map-reply").locator("option:checked")).to_have_text("answer")
    expect(lab.part("mapping-preview").locator(".turn.assistant").first).to_contain_text("Me")
    lab.part("mapping-use").click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)


# --------------------------------------------------------------------------------------------------------- hostility


def check_alive(lab: Lab) -> None:
    foreign = "script, img, iframe, object, embed, link, style, [onerror], [onload]"
    assert lab.page.evaluate("(foreign) => document.querySelectorAll(`#data :is(${foreign})`).length", foreign) == 0
    assert lab.page.evaluate("() => self.hacked === undefined")
    width = lab.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert width <= 0, "something a file holds makes the page wider than the window"


def test_the_hostile_corpus_leaves_the_page_as_it_should_be(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    wrong: list[str] = []
    for case in CASES:
        lab.give(case.name, case.raw)
        check_alive(lab)
        found = rows_told(lab)
        # What has no error without a model may have one with its tokens: a row of nothing but white space, say.
        if found[0] > case.good or found[1] != case.rows or (found[0] < case.good and not case_may_lose(lab)):
            wrong.append(f"{case.name}: {found}, expected {case.good, case.rows}")
        lab.replace_data()
    assert wrong == []
    # A control: the check that nothing foreign got in sees what did.
    lab.page.evaluate("() => document.getElementById('data').append(document.createElement('img'))")
    with pytest.raises(AssertionError):
        check_alive(lab)


def rows_told(lab: Lab) -> tuple[int, int]:
    """(good rows, rows) as the page says."""
    numbers = [int(number.replace(",", "")) for number in rows_of(lab).split(" of ")]
    return numbers[0], numbers[-1]


def case_may_lose(lab: Lab) -> bool:
    kinds = lab.part("dataset-errors").locator(".kind").all()
    late = {"nothing-to-train", "template", "no-prompt", "too-long", "template-prefix", "no-template"}
    return any(kind.get_attribute("data-kind") in late for kind in kinds)


def test_markup_long_words_and_strange_characters_stay_text(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    attack = '<img src=x onerror="self.hacked=1"><script>self.hacked=2</script>'
    turned = "\u202egnorw\u202c \u2066\u0000\ufeff"
    rows = [{"prompt": text + attack, "completion": text + turned + "W" * 3000} for text in hostile_texts(150, seed=8)]
    broken = [
        f'{{"prompt": "{attack}", {turned}',
        '{"messages": [{"role": "' + "r" * 5000 + '"}]}',
        '{"text": "\\ud800"}',
    ]
    lab.give(f"{attack[:40].replace('/', '')}.jsonl", ("\n".join([*lines(rows), *broken])).encode("utf-8"))
    check_alive(lab)
    lab.page.evaluate("() => document.querySelectorAll('#data details').forEach((fold) => (fold.open = true))")
    check_alive(lab)
    assert "\u202e" not in lab.part("dataset-errors").inner_text()
    lab.replace_data()
    # Column names are a file's words too.
    names = json.dumps({attack: "a", turned + "x" * 4000: "b", "\ud800": "c", "": "d"})
    lab.give("columns.jsonl", names.encode())
    expect(lab.part("mapping")).to_be_visible()
    options = lab.part("map-prompt").locator("option").all_inner_texts()
    assert len(options) == 5 and max(map(len, options)) <= 40
    assert "\u202e" not in "".join(options)
    lab.part("map-prompt").select_option(index=2)
    lab.part("map-reply").select_option(index=1)
    expect(lab.part("mapping-preview").locator(".turn.user").first).to_contain_text("b")
    expect(lab.part("mapping-preview").locator(".turn.assistant").first).to_contain_text("a")
    lab.part("map-reply").select_option(index=3)  # half a character cannot be said to Python: a word, not a crash
    expect(lab.part("mapping-preview").locator(".mapping-bad").first).to_contain_text("is not there")
    check_alive(lab)
    lab.replace_data()
    # One line of ten megabytes, good and bad.
    long = json.dumps({"text": "long " * 2_000_000}).encode() + b'\n{"text": "' + b"x" * 10_000_000
    lab.give("long.jsonl", long, timeout_ms=2 * TRAIN_MS)  # 25 s of two free cores, many times that of busy ones
    check_alive(lab)
    assert len(lab.part("dataset-errors").text_content() or "") < 3000


# ------------------------------------------------------------------------------------------------------------- keys


def test_the_keyboard_goes_on_at_the_other_button_however_long_the_mending_took(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.give("messy.jsonl", messy())
    lab.wait_for_data()
    let_go = lab.hold("dataset_ready")
    lab.tab_to("mend-use")
    lab.page.keyboard.press("Enter")
    expect(lab.part("reading-stop")).to_be_focused(timeout=START_MS)  # it takes long enough to be shown
    let_go()
    expect(lab.part("mend-undo")).to_be_focused(timeout=START_MS)


def test_keys_alone_paste_mend_map_and_consent(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    keys = lab.page.keyboard
    lab.tab_to("paste-open")
    keys.press("Enter")
    expect(lab.part("paste-text")).to_be_focused()
    keys.insert_text(messy().decode())
    lab.tab_to("paste-read")
    keys.press("Enter")
    expect(lab.page.locator("#dataset-title")).to_be_focused(timeout=START_MS)
    lab.wait_for_data()
    lab.tab_to("mend-use")
    keys.press("Enter")
    expect(lab.part("mend-undo")).to_be_focused(timeout=START_MS)
    lab.wait_for_data()
    lab.tab_to("dataset-consent")
    keys.press("Space")
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.page.locator("#dataset-remove").focus()
    keys.press("Enter")
    expect(lab.part("dataset-input")).to_be_focused()
    lab.tab_to("paste-open")
    keys.press("Enter")
    keys.insert_text("\n".join(lines([{"frage": "Wie hoch?", "antwort": f"{i} Meter"} for i in range(20, 40)])))
    keys.press("Control+Enter")
    expect(lab.part("mapping")).to_be_visible(timeout=START_MS)
    lab.tab_to("map-prompt")
    keys.type("f")
    lab.tab_to("map-reply")
    keys.type("a")
    expect(lab.part("mapping-preview").locator(".turn.assistant").first).to_contain_text("20 Meter")
    lab.tab_to("mapping-use")
    keys.press("Enter")
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
