"""The chat as a person uses it. A scripted worker stands in for the model, so that a test says what is replied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.lab import START_MS, Lab

WORKER = Path(__file__).with_name("scripted_worker.js")
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


class Chat(Lab):
    """The page with a model that says what it is told to."""

    def says(self, *answers: Any, dropped: int = 0) -> None:
        """Set the replies to come."""
        self.worker("chat").evaluate(
            "([answers, dropped]) => Object.assign(self, { answers, dropped })", [list(answers), dropped]
        )

    def halt(self, is_held: bool = True) -> None:
        """Have replies wait after their next piece."""
        self.worker("chat").evaluate("(held) => { self.held = held; }", is_held)

    def worker(self, kind: str) -> Any:
        return next(worker for worker in self.page.workers if f"kind={kind}" in worker.url)

    def asked(self) -> dict[str, Any]:
        """What the worker was last asked to answer."""
        found: list[dict[str, Any]] = self.worker("chat").evaluate(
            "() => self.asked.filter(({ type }) => type === 'reply')"
        )
        return found[-1]

    def read(self) -> list[str]:
        """What the model was given with it."""
        return [message["content"] for message in self.asked()["messages"]]

    def messages(self) -> list[str]:
        return self.part("chat-message").all_inner_texts()

    def use(self, adapter: str) -> None:
        self.page.locator(f"[data-id={adapter}] [data-action=use]").click()
        expect(self.part("chat-adapter")).to_be_checked()

    @property
    def last(self) -> Locator:
        return self.page.locator(".chat-turn").last


@pytest.fixture
def chat(context: BrowserContext, site_url: str) -> Iterator[Chat]:
    context.route("**/worker/worker.js*", lambda route: route.fulfill(path=WORKER, content_type="text/javascript"))
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab = Chat(context, site_url + "?model=tiny")
    expect(lab.part("chat-send")).to_be_enabled(timeout=START_MS)
    yield lab
    assert lab.errors == []


def test_markdown_is_drawn_and_nothing_of_it_is_markup(chat: Chat) -> None:
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
    assert text.locator("em").evaluate("(one) => getComputedStyle(one).fontStyle") == "italic"
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


def test_a_link_in_a_reply_leaves_the_page_alone(chat: Chat, context: BrowserContext) -> None:
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


def test_a_question_is_answered_again_and_each_answer_stays(chat: Chat) -> None:
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


def test_a_message_is_edited_and_what_made_way_comes_back(chat: Chat) -> None:
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


def test_keys_stop_a_reply_and_recall_what_was_asked(chat: Chat) -> None:
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


def test_the_keyboard_keeps_its_place(chat: Chat) -> None:
    chat.halt()
    chat.part("chat-input").fill("Hello")
    chat.part("chat-send").click()
    expect(chat.part("chat-stop")).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.part("chat-message").last).to_have_attribute("data-state", "done")
    expect(chat.part("chat-input")).to_be_focused()


def test_a_conversation_that_was_cleared_comes_back(chat: Chat) -> None:
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


def test_who_says_what_is_written_and_said(chat: Chat) -> None:
    chat.ask("One")
    chat.use("a")
    chat.part("chat-strength").fill("0.6")
    chat.ask("Two")
    assert chat.asked()["use_adapter"] and chat.asked()["strength"] == 0.6
    chat.switch_adapter(False)
    chat.ask("Three")
    assert not chat.asked()["use_adapter"]
    chat.use("b")  # another one answers, whatever was switched off
    chat.use("a")
    named = ["You", "Base model", "You", "ships · strength 0.60", "You", "Base model"]
    for place, name in enumerate(named):
        expect(chat.page.locator(".chat-turn").nth(place)).to_have_accessible_name(name)
    states = [message.get_attribute("data-adapter") for message in chat.part("chat-message").all()]
    assert states == ["off", "off", "on", "on", "off", "off"]
    chat.page.locator("[data-id=a] [data-action=rename]").click()
    chat.part("adapter-rename").fill("frigates")
    chat.page.keyboard.press("Enter")
    expect(chat.page.locator(".who").nth(3)).to_have_text("frigates · strength 0.60")
    expect(chat.page.locator("[data-id=a] [data-action=rename]")).to_be_focused()
    chat.worker("train").evaluate("() => self.opens('Another model')")
    expect(chat.part("model-status")).to_contain_text("Another model")
    expect(chat.page.locator(".who").nth(1)).to_have_text("Base model · Some model")  # not the one that is open now


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("chat-temperature", "-3", "0 to 5."),
        ("chat-top-p", "7", "0.01 to 1."),
        ("chat-max-tokens", "2.5", "1 to 4,096."),
        ("chat-top-k", "-1", "0 to 2,147,483,648."),
        ("chat-seed", "-1", "At least 0."),
    ],
)
def test_values_that_mean_nothing_are_not_sent(chat: Chat, field: str, value: str, said: str) -> None:
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


def test_the_reply_settings_take_nothing_of_the_conversation(chat: Chat) -> None:
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


def test_the_newest_is_followed_until_somebody_scrolls_up(chat: Chat) -> None:
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


def test_a_reply_that_fails_gives_the_question_back(chat: Chat) -> None:
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


def test_an_empty_reply_is_no_empty_box(chat: Chat) -> None:
    chat.says("")
    assert chat.ask("Say nothing") == "(nothing)"


def test_suggestions_are_those_of_the_adapter_in_use(chat: Chat) -> None:
    offered = chat.page.locator(".suggestion")
    expect(offered).to_have_count(0)
    chat.use("a")
    expect(offered).to_have_text(["What is ship 7?"])
    chat.page.locator("[data-id=a] [data-action=use]").click()
    expect(offered).to_have_count(0)
    chat.use("a")
    offered.click()
    expect(chat.part("chat-message").last).to_have_text("You said: What is ship 7?")


def test_an_adapter_is_deleted_and_brought_back(chat: Chat) -> None:
    items: Callable[[], list[str]] = lambda: chat.page.locator(".adapter-name").all_inner_texts()  # noqa: E731
    chat.use("a")
    expect(chat.page.locator("[data-id=c] [data-action=use]")).to_be_disabled()  # made for another model
    chat.page.locator("[data-id=a] [data-action=delete]").click()
    expect(chat.part("adapter-item")).to_have_count(2)
    expect(chat.part("chat-adapter")).to_be_disabled()
    expect(chat.page.locator("#chat-adapter-name")).to_have_text("No adapter in use")
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.part("adapter-item")).to_have_count(3)
    assert sorted(items()) == ["elsewhere", "pirates", "ships"]
