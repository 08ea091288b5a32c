"""The chat as a person uses it. A scripted worker stands in for the model, so that a test says what is replied."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.scripted import ScriptedLab

MARKDOWN = """# Title

### Much deeper

Some *slanted* words, `code`, [a link](https://elsewhere.test/page) and [one to here](/lora-lab/).

> A quote.

| a | b |
|---|--:|
| one | 2 |

```python
print("a long line", "that goes on", "and on", "and on", "and on", "beyond the edge")
```

1. A list
   ```
   with code
   ```

<b onclick="self.pressed = 1">No markup</b> ![a picture](https://elsewhere.test/picture.png)
"""
SHOWN_LINES = 200


def test_markdown_is_drawn_and_nothing_of_it_is_markup(chat: ScriptedLab) -> None:
    chat.says(MARKDOWN)
    chat.ask("Show me everything")
    text = chat.page.locator(".message-text").last
    for tag, words in (
        ("h3", "Title"),
        ("h4", "Much deeper"),
        ("blockquote", "A quote."),
        ("th", "b"),
        ("li", "A list"),
    ):
        expect(text.locator(tag).filter(has_text=words)).to_have_count(1)
    style = "(one) => [getComputedStyle(one).fontStyle, getComputedStyle(one).fontSynthesisStyle]"
    assert text.locator("em").evaluate(style) == ["italic", "auto"]  # slanted by the browser: the typeface has none
    expect(text.locator("td").nth(1)).to_have_css("text-align", "right")
    expect(text).to_contain_text('<b onclick="self.pressed = 1">No markup</b> a picture')
    assert text.locator("b, img, script, [onclick], [style], [id]").count() == 0

    code = text.locator("figure").first
    expect(code.locator("figcaption span")).to_have_text("python")
    code.locator("pre").focus()
    chat.page.keyboard.press("ArrowRight")
    chat.page.wait_for_function("() => document.activeElement.scrollLeft > 0")  # a keyboard sees all of it
    code.get_by_role("button", name="Copy").click()
    expect(code.get_by_role("button")).to_have_text("Copied")
    copied = chat.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith('print("a long line"') and copied.endswith('the edge")\n')
    expect(text.locator("li figure")).to_contain_text("with code")
    chat.part("chat-copy").last.click()
    expect(chat.part("chat-copy").last).to_have_accessible_name("Copied")
    assert chat.page.evaluate("() => navigator.clipboard.readText()") == MARKDOWN.strip()


def test_without_what_draws_markdown_a_reply_is_plain_text(context: BrowserContext, site_url: str) -> None:
    context.route("**/assets/markup-*.js", lambda route: route.abort())
    chat = ScriptedLab(context, site_url + "?model=tiny")
    chat.says("Some *slanted*\n\nwords <b>")
    assert chat.ask("How?") == "Some *slanted*\n\nwords <b>"
    assert [error for error in chat.errors if "markup-" not in error and "ERR_FAILED" not in error] == []


def test_a_link_in_a_reply_leaves_the_page_alone(chat: ScriptedLab, context: BrowserContext) -> None:
    context.route("https://elsewhere.test/**", lambda route: route.fulfill(body="Elsewhere"))
    chat.says(MARKDOWN)
    chat.ask("Where?")
    before = chat.page.url
    with context.expect_page() as opened:
        chat.page.get_by_role("link", name="a link").click()
    assert opened.value.url == "https://elsewhere.test/page"
    assert opened.value.evaluate("() => window.opener") is None
    opened.value.close()
    chat.page.get_by_text("one to here").click()
    assert chat.page.url == before and len(chat.messages()) == 2 and len(context.pages) == 1


def test_a_question_is_answered_again_and_each_answer_stays(chat: ScriptedLab) -> None:
    chat.says("The first answer", "The second answer")
    chat.ask("What?")
    chat.use("a")
    chat.part("chat-again").click()
    expect(chat.part("chat-message").last).to_have_text("The second answer")
    assert chat.read() == ["What?"]
    expect(chat.part("chat-wordings")).to_have_text("2 / 2")
    expect(chat.last.locator(".who")).to_have_text("ships · strength 1.00")
    chat.page.get_by_role("button", name="Answer before").click()
    expect(chat.part("chat-message").last).to_have_text("The first answer")
    expect(chat.last.locator(".who")).to_have_text("Base model")
    chat.ask("And then?")
    assert chat.read() == ["What?", "The first answer", "And then?"]  # the one that is shown is read


def test_a_message_is_edited_and_what_made_way_comes_back(chat: ScriptedLab) -> None:
    chat.ask("One")
    chat.ask("Two")
    before = chat.messages()
    first = chat.page.locator(".chat-turn").first
    first.hover()
    first.get_by_test_id("chat-edit").click()
    chat.page.keyboard.press("Escape")
    expect(chat.part("chat-edit-text")).to_have_count(0)
    assert chat.messages() == before  # nothing but looked at
    first.get_by_test_id("chat-edit").click()
    expect(chat.part("chat-edit-text")).to_be_focused()
    chat.part("chat-edit-text").fill("One and a half")
    chat.page.keyboard.press("Enter")
    expect(chat.part("chat-message").last).to_have_text("You said: One and a half")
    assert chat.read() == ["One and a half"]
    assert chat.messages() == ["One and a half", "You said: One and a half"]
    chat.ask("Three")
    meanwhile = chat.messages()
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.part("chat-message").first).to_have_text("One")
    assert chat.messages() == before
    chat.page.get_by_role("button", name="Undo").click()  # and what was said since is not lost for it
    expect(chat.part("chat-message").first).to_have_text("One and a half")
    assert chat.messages() == meanwhile


def test_keys_stop_a_reply_and_recall_what_was_asked(chat: ScriptedLab) -> None:
    keys, field = chat.page.keyboard, chat.part("chat-input")
    chat.ask("First question")
    chat.ask("Second question")
    chat.halt()
    field.fill("Tell me everything")
    keys.press("Enter")
    expect(chat.part("chat-message").last).not_to_be_empty()
    expect(chat.part("chat-stop")).to_be_visible()
    keys.press("Escape")
    expect(chat.part("chat-message").last).to_have_attribute("data-state", "done")
    expect(chat.part("chat-message").last).to_have_attribute("data-stats", "7 tokens · 50.0/s, stopped")
    for wanted in ("Tell me everything", "Second question", "First question", "First question"):
        keys.press("ArrowUp")
        expect(field).to_have_value(wanted)
    keys.press("ArrowDown")
    expect(field).to_have_value("Second question")
    field.fill("Half a")
    keys.press("ArrowUp")  # the control: what is being written is nobody's to take
    expect(field).to_have_value("Half a")


def test_the_keyboard_keeps_its_place(chat: ScriptedLab) -> None:
    chat.halt()
    chat.part("chat-input").fill("Hello")
    chat.part("chat-send").click()
    expect(chat.part("chat-stop")).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.part("chat-message").last).to_have_attribute("data-state", "done")
    expect(chat.part("chat-input")).to_be_focused()


def test_a_conversation_that_was_cleared_comes_back(chat: ScriptedLab) -> None:
    chat.says("An answer", dropped=1)
    chat.ask("One")
    chat.ask("Two")
    before = chat.messages()
    chat.clear_chat()
    expect(chat.part("chat-message")).to_have_count(0)
    expect(chat.part("chat-input")).to_be_focused()
    expect(chat.part("chat-cleared")).to_contain_text("4 messages taken away.")
    chat.part("chat-bring-back").click()
    expect(chat.part("chat-message")).to_have_count(4)
    assert chat.messages() == before
    expect(chat.part("chat-cut")).to_have_count(1)
    chat.clear_chat()
    chat.ask("Something else")
    assert chat.read() == ["Something else"]
    expect(chat.part("chat-bring-back")).to_have_count(0)
    seed = chat.asked()["sampling"]["seed"]
    expect(chat.last.locator(".turn-stats")).to_have_attribute(
        "title", f"Seed {seed}: with it, the same reply comes again"
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("chat-temperature", "-3", "0 to 5."),
        ("chat-top-p", "7", "0.01 to 1."),
        ("chat-max-tokens", "2.5", "1 to 4,096."),
        ("chat-top-k", "-1", "0 to 2,147,483,648."),
        ("chat-seed", "-1", "0 to 4,294,967,295."),
    ],
)
def test_values_that_mean_nothing_are_not_sent(chat: ScriptedLab, field: str, value: str, said: str) -> None:
    summary = chat.page.locator(".reply-settings > summary")
    summary.click()
    chat.part(field).fill(value)
    expect(chat.page.locator(f"#{field}-error")).to_have_text(said)
    summary.click()
    expect(summary).to_contain_text("1 value cannot be used")
    chat.part("chat-input").fill("Hello")
    chat.part("chat-send").click()
    expect(chat.part(field)).to_be_focused()
    expect(chat.page.locator("#chat-problem")).to_contain_text("Not sent: ")
    expect(chat.part("chat-input")).to_have_value("Hello")
    expect(chat.part("chat-message")).to_have_count(0)
    chat.part(field).fill("1")
    expect(chat.page.locator(f"#{field}-error")).to_be_empty()
    chat.part("chat-send").click()
    expect(chat.part("chat-message").last).to_have_text("You said: Hello")
    expect(chat.page.locator("#chat-problem")).to_be_hidden()
    sampling = chat.asked()["sampling"]
    expected = {
        "temperature": 0.7,
        "top_p": 0.95,
        "max_new_tokens": 256,
        "top_k": 0,
        "min_p": 0,
        "repetition_penalty": 1.1,
    }
    name = chat.part(field).get_attribute("name") or ""
    assert {**sampling, "seed": 0} == {**expected, "seed": 0} | ({name: 1} if name != "seed" else {})
    assert 0 <= sampling["seed"] < 2**31 and (name != "seed" or sampling["seed"] == 1)


def test_the_reply_settings_take_nothing_of_the_conversation(chat: ScriptedLab) -> None:
    chat.page.set_viewport_size({"width": 1366, "height": 768})
    height = "() => document.querySelector('#chat-scroll').clientHeight"
    before = chat.page.evaluate(height)
    assert before > 300
    chat.page.locator(".reply-settings > summary").click()
    expect(chat.part("chat-temperature")).to_be_in_viewport()
    assert chat.page.evaluate(height) == before
    chat.part("chat-system").fill("Be brief.")
    chat.ask("Hello")
    assert chat.asked()["messages"][0] == {"role": "system", "content": "Be brief."}


def test_the_newest_is_followed_until_somebody_scrolls_up(chat: ScriptedLab) -> None:
    box, newest = chat.page.locator("#chat-scroll"), chat.part("chat-newest")
    from_end = "(box) => box.scrollHeight - box.scrollTop - box.clientHeight"
    chat.says("\n\n".join(f"Line {number}" for number in range(SHOWN_LINES)))
    chat.ask("Tell me much")
    assert box.evaluate(from_end) < 2
    expect(newest).to_be_hidden()
    box.evaluate("(box) => box.scrollTo(0, 40)")
    expect(newest).to_be_visible()
    chat.part("chat-again").evaluate("(button) => button.click()")  # without scrolling to it
    expect(chat.part("chat-message").last).to_have_attribute("data-state", "done")
    box.evaluate("(box) => box.scrollTo(0, 0)")
    expect(newest).to_be_hidden()  # all of the short answer is in view
    chat.says("\n\n".join(f"Line {number}" for number in range(SHOWN_LINES)))
    chat.halt()
    chat.part("chat-input").fill("Once more")
    chat.page.keyboard.press("Enter")
    expect(chat.part("chat-message").last).not_to_be_empty()
    chat.halt(False)
    chat.page.wait_for_function("() => document.querySelector('#chat-scroll').scrollTop > 300")  # goes along
    box.evaluate("(box) => box.scrollTo(0, 0)")
    expect(chat.part("chat-message").last).to_have_attribute("data-state", "done")
    assert box.evaluate("(box) => box.scrollTop") == 0  # it stays where the person looks
    newest.click()
    chat.page.wait_for_function(f"() => ({from_end})(document.querySelector('#chat-scroll')) < 2")
    expect(newest).to_be_hidden()


def test_a_reply_that_fails_gives_the_question_back(chat: ScriptedLab) -> None:
    chat.says("An answer", {"failed": "The prompt is too long."})
    chat.ask("One")
    chat.part("chat-input").fill("Two")
    chat.part("chat-send").click()
    expect(chat.page.locator("#chat-problem")).to_contain_text("The prompt is too long.")
    expect(chat.part("chat-input")).to_have_value("Two")
    assert chat.messages() == ["One", "An answer"]
    chat.part("chat-send").click()
    expect(chat.part("chat-message").last).to_have_text("You said: Two")
    assert chat.read() == ["One", "An answer", "Two"]
    chat.says({"failed": "Again too long."})
    chat.part("chat-again").click()
    expect(chat.page.locator("#chat-problem")).to_contain_text("Again too long.")
    assert chat.messages() == ["One", "An answer", "Two", "You said: Two"]  # the answer before is still there


def test_an_empty_reply_is_no_empty_box(chat: ScriptedLab) -> None:
    chat.says("")
    assert chat.ask("Say nothing") == "(nothing)"
