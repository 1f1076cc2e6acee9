"""The page of the server, in headless Chromium, with a real server on a tiny model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny

pytest.importorskip("playwright", reason="needs playwright")
serving = pytest.importorskip("serving", reason="needs the packages of the extra serve")
from playwright.sync_api import expect  # noqa: E402

from browsing import (  # noqa: E402
    OPTIONS,
    ask,
    browser,
    choices,
    choose,
    content,
    event,
    last_answer,
    opened,
)
from ersd import Generator  # noqa: E402
from ersd.serve import Settings  # noqa: E402

pytestmark = pytest.mark.no_sanitizer
__all__ = ["browser"]  # a fixture


def load(folder: Path) -> Generator:
    """Loads models whose answers are as long as is asked for."""
    target, draft = folder / "page.gguf", folder / "page-draft.gguf"
    if not target.exists():
        tiny.write_llama(target, chat_template=serving.CHAT)
        tiny.write_llama(draft, noise=0.15)
    return Generator(target, draft, n_ctx=4096, n_parallel=2, n_threads=1, profile=False)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Any]:
    """A server without API keys."""
    with serving.running(lambda: load(folder)) as running:
        yield running


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page in a wide window."""
    with opened(browser, server.url) as page:
        yield page


def words(texts: list[str]) -> list[str]:
    """Returns the texts that have letters. The others may be bytes of a character."""
    return [text for text in texts if re.fullmatch(r" ?[a-z]+", text)]


def test_drafted_tokens_are_coloured_and_counted(page: Any) -> None:
    """The text is the server's, tokens have the colour of their source, and figures are right."""
    choose(page, OPTIONS)
    chunks = ask(page, "Hello")
    answer = page.locator(".answer .text")
    assert answer.text_content().strip("\n") == content(chunks).strip("\n")
    drafts = [choice["draft"] for choice in choices(chunks) if choice.get("draft")]
    tokens = [token for draft in drafts for token in draft["tokens"]]
    for source, kind in (("model", ".source-1"), (None, ".token:not(.drafted)")):
        expected = words([token["text"] for token in tokens if token["source"] == source])
        assert expected
        assert words(answer.locator(kind).all_text_contents()) == expected
    per_call = chunks[-1]["speculative"]["tokens_per_call"]
    speed = chunks[-1]["timings"]["predicted_per_second"]
    expect(page.locator("#figure-per-call")).to_have_text(f"{per_call:.2f}")
    expect(page.locator("#figure-speed")).to_have_text(f"{speed:.1f}")
    expect(page.locator(".notes")).to_contain_text(f"32 tokens in {round(32 / per_call)} calls")
    expect(page.locator(".notes")).to_contain_text("seed 5 · cut at the token limit")
    expect(page.locator("#announcer")).to_contain_text("Answer: ")


def test_trees_and_sources(page: Any) -> None:
    """Each call has its tree, which the arrow keys and a press on a token choose."""
    tree = {"tokens": ["a", " b", " c", " d"], "parents": [-1, 0, 0, 2], "accepted": [0, 2, 3]}
    events = [
        event([("a", None)]),
        event([(" c", "model"), (" d", "lookup"), (" e", None)], tree=tree),
        # The bytes of one character, and a text that is held back until the call after it.
        event([("\ufffd", "model"), ("\ufffd", None)], content=""),
        event([("\ufffd", "model"), (" f", "model"), (" g", None)], content="日 f g"),
    ]
    body = "".join(events) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body))
    ask(page, "Hello")
    assert page.locator(".answer .text").text_content() == "a c d e日 f g"
    drafted = page.locator(".answer .token.drafted")
    assert drafted.all_text_contents() == [" c", " d", "日", " f"]
    assert "source-2" in drafted.nth(1).get_attribute("class")
    expect(page.locator("#legend")).to_contain_text("lookup")
    caption, nodes = page.locator("#caption"), page.locator("#tree .node")
    expect(caption).to_have_text("Call 4 of 4 accepted 2 drafted tokens and added 1 of its own.")
    page.get_by_role("slider", name="Call of the target").focus()
    for key in ("Home", "ArrowRight"):
        page.keyboard.press(key)
    expect(caption).to_have_text(
        "Call 2 of 4 checked 3 drafted tokens, accepted 2 and added 1 of its own."
    )
    assert nodes.locator("text").all_text_contents() == ["a", "b", "c", "d", "e"]
    kinds = [node.get_attribute("class").removeprefix("node ").strip() for node in nodes.all()]
    assert kinds == ["root", "rejected", "accepted source-1", "accepted source-2", "own"]
    drafted.last.click()
    expect(caption).to_contain_text("Call 4 of 4")
    drafted.first.hover()
    expect(caption).to_contain_text("Call 2 of 4")


def test_the_sources_of_all_nodes(page: Any) -> None:
    """Nodes that were not accepted have the colour of their first source; a tip has all of them."""
    tree = {"tokens": ["a", " b", " c"], "parents": [-1, 0, 0], "accepted": [0, 2]}
    tree["sources"] = [[], ["history"], ["model", "lookup"]]
    body = event([("a", None)]) + event([(" c", "model"), (" e", None)], tree=tree)
    body += "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body))
    ask(page, "Hello")
    nodes = page.locator("#tree .node")
    expect(nodes).to_have_count(4)
    kinds = [node.get_attribute("class").removeprefix("node ").strip() for node in nodes.all()]
    assert kinds == ["root", "rejected source-3", "accepted source-1", "own"]
    tips = nodes.locator("title").all_text_contents()
    assert tips == ['"a"', '" b" · history', '" c" · draft model · lookup', '" e"']
    legend = page.locator("#legend li").all_text_contents()
    assert legend == ["draft model", "history", "the target’s own", "outlined: not accepted"]


def test_code_looks_like_code(page: Any) -> None:
    """A fence begins and ends a block, however its characters are spread over tokens."""
    code = "def f():\n    return '``'\n"
    text = f"Look:\n\n```python\n{code}```\nThat `is` it.\n``` not a fence `\n"
    body = "".join(event([(c, None)]) for c in text) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body))
    ask(page, "Hello")
    expect(page.locator(".answer pre")).to_have_count(1)
    assert page.locator(".answer pre").text_content() == code
    expect(page.locator(".answer figcaption")).to_contain_text("python")
    prose = page.locator(".answer .prose").all_text_contents()
    assert prose == ["Look:\n\n", "That `is` it.\n``` not a fence `\n"]


def test_an_answer_that_breaks_off(page: Any) -> None:
    """What came stays, and one sentence says what happened."""
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=event([("a", None)])))
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text(
        "The connection ended before the answer was complete."
    )
    expect(page.locator(".answer .prose")).to_have_text("a")
    failure = 'data: {"error": {"message": "The server ends.", "code": "shutting_down"}}\n\n'
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=failure))
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_text("The server ends.")


def test_escape_stops_an_answer(page: Any, server: Any) -> None:
    """What came stays, the server's place is free again, and the next message is answered."""
    choose(page, OPTIONS | {"Maximum tokens": "4000"})
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .token").first).to_be_attached()
    page.keyboard.press("Escape")
    expect(page.locator(".notes")).to_contain_text("stopped")
    assert page.locator(".answer .text").text_content()
    serving.until(lambda: not server.server.jobs.places.taken)
    choose(page, {"Maximum tokens": "4"})
    assert content(ask(page, "Again"))


def test_answers_are_regenerated_and_messages_edited(page: Any) -> None:
    """A seed gives its text again. An edited message replaces all turns after it."""
    choose(page, OPTIONS)
    first = content(ask(page, "One"))
    with page.expect_request("**/v1/chat/completions") as request:
        ask(page, "Two")
    sent = request.value.post_data_json["messages"]
    assert sent == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Two"},
    ]
    page.get_by_label("Message", exact=True).press("ArrowUp")
    page.keyboard.press("Escape")
    expect(page.locator(".editor")).to_have_count(0)
    page.locator(".user").first.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit your message").fill("One, again")
    page.keyboard.press("Enter")
    edited = content(last_answer(page))
    expect(page.locator(".message")).to_have_count(2)
    page.get_by_role("button", name="Regenerate").click()
    assert content(last_answer(page)) == edited
    assert page.evaluate("answers.length") == 4


def test_an_error_is_one_sentence(page: Any) -> None:
    """It is the server's own; after a change the message can be tried again."""
    choose(page, OPTIONS | {"Temperature": "1e9"})
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("temperature must be 0, or between")
    choose(page, {"Temperature": "0"})
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".notes")).to_contain_text("32 tokens")


def test_the_api_key_stays_in_the_tab(browser: Any, folder: Path) -> None:
    """A wrong key is refused; the right one is kept until the tab is closed, and nowhere else."""
    settings = Settings(port=0, api_keys=("the right key",))
    with (
        serving.running(lambda: load(folder), settings) as running,
        opened(browser, running.url, key="the right key") as page,
    ):
        wants, unknown = "The server wants an API key.", "The server does not know this API key."
        for sentence, key in ((wants, "a wrong key"), (unknown, "the right key")):
            expect(page.locator("#model")).to_have_text(sentence)
            expect(page.get_by_label("API key")).to_be_focused()  # the drawer opens by itself
            page.get_by_label("API key").fill(key)
            page.keyboard.press("Enter")
        expect(page.locator("#model strong")).to_be_visible()
        assert "the right key" in page.evaluate("JSON.stringify(sessionStorage)")
        assert "key" not in page.evaluate("JSON.stringify(localStorage)")


def test_commands_and_themes(page: Any) -> None:
    """Ctrl+K lists all commands. A chosen theme outlives the page; else it is the system's."""
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.keyboard.press("Control+k")
    page.keyboard.type("theme dark")
    page.keyboard.press("Enter")
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.evaluate(background) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == dark
    buttons = page.locator("button:visible").count()
    assert page.get_by_role("button", name=re.compile(r"\S")).count() == buttons > 5


def test_a_narrow_screen(browser: Any, server: Any) -> None:
    """Nothing is wider than the screen, and the tree unfolds above the message box."""
    with opened(browser, server.url, viewport={"width": 320, "height": 640}) as page:
        choose(page, OPTIONS)
        ask(page, "Hello")
        expect(page.locator("#caption")).to_be_hidden()
        page.get_by_role("button", name="Tree", exact=True).click()
        expect(page.locator("#caption")).to_be_visible()
        assert page.evaluate("document.scrollingElement.scrollWidth") == 320
        assert page.evaluate("document.getElementById('messages').scrollWidth") <= 320
