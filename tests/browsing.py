"""The page of the server in headless Chromium: how tests open it, use it and read its answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright import sync_api
from playwright.sync_api import expect

__all__ = ["OPTIONS", "ask", "browser", "choices", "choose", "content", "event", "last_answer"]
__all__ += ["opened"]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# The page must live with the strictest policy: no inline script, no inline style, no other address.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'"
)
# Keeps the text of each answer, which a browser does not do for streams.
RECORDER = """
  const { fetch } = window;
  window.answers = [];
  window.fetch = async (...request) => {
    const response = await fetch(...request);
    if (String(request[0]).endsWith("/completions"))
      answers.push(response.clone().text().catch(() => ""));
    return response;
  };
"""
OPTIONS = {"Seed": "5", "Maximum tokens": "32", "Draft nodes": "8"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of the system, or the one that playwright installed."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=path, chromium_sandbox=os.geteuid() != 0
            )
        except sync_api.Error as error:
            pytest.skip(f"needs Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, url: str, key: str = "", **options: Any) -> Iterator[Any]:
    """Yields the page of a server in a window of its own. At the end, nothing was wrong with it.

    Args:
        browser: what opens the page.
        url: the server's address.
        key: an API key that the files of the page are asked for with; the rest goes without it.
        options: of the window.
    """
    faults: list[str] = []
    page = browser.new_context(reduced_motion="reduce", **options).new_page()
    page.add_init_script(RECORDER)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if is_fault(line) else None)
    page.on("request", lambda r: None if r.url.startswith(url) else faults.append(r.url))

    def with_policy(route: Any) -> None:
        login = {"authorization": f"Bearer {key}"} if key else {}
        response = route.fetch(headers={**route.request.headers, **login})
        headers = {**response.headers, "content-security-policy": POLICY}
        route.fulfill(response=response, headers=headers)

    page.route(re.compile(r"/$|\.(js|css|svg)$"), with_policy)
    page.goto(f"{url}/")
    expect(page.locator("#model")).not_to_be_empty()
    yield page
    page.unroute_all(behavior="ignoreErrors")
    page.context.close()
    assert not faults


def is_fault(line: Any) -> bool:
    """Returns whether a line of the console is an error other than a status that is tested."""
    return line.type == "error" and not line.text.startswith("Failed to load resource")


def choose(page: Any, options: dict[str, str]) -> None:
    """Fills fields of the drawer."""
    page.get_by_role("button", name="Options").click()
    for label, value in options.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Done").click()


def ask(page: Any, text: str) -> list[dict[str, Any]]:
    """Sends a message by the keyboard and returns the chunks of the whole answer."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    return last_answer(page)


def last_answer(page: Any) -> list[dict[str, Any]]:
    """Returns the chunks of the last answer when the page has shown all of it."""
    expect(page.locator(".answer").last.locator(".notes")).to_be_visible()
    events = re.findall(r"^data: (\{.*)$", page.evaluate("answers.at(-1)"), re.MULTILINE)
    return [json.loads(event) for event in events]


def choices(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the choices of chunks that have one."""
    return [chunk["choices"][0] for chunk in chunks if chunk["choices"]]


def content(chunks: list[dict[str, Any]]) -> str:
    """Returns the text of an answer."""
    return "".join(choice["delta"].get("content") or "" for choice in choices(chunks))


def event(tokens: list[tuple[str, str | None]], **more: Any) -> str:
    """Returns a chunk with these tokens and their sources as an event."""
    draft = {"tokens": [{"id": 0, "text": t, "source": s} for t, s in tokens], "tree": None}
    delta = {"content": more.pop("content", "".join(text for text, _ in tokens))}
    choice = {"index": 0, "delta": delta, "draft": draft | more, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"
