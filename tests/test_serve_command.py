"""The command ``ersd serve``: its flags, its signals, and how it fails."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
import httpx

from ersd import Generator
from ersd.commands import serve
from ersd.serve import Settings
from serving import load_tiny, until

pytestmark = pytest.mark.no_sanitizer


def settings(*words: str) -> Settings:
    """Returns the settings that these words of a command line ask for."""
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return serve.settings_from(parser.parse_args(["serve", *words]))


def test_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without flags, the defaults hold. Only the default pair has a name beside its file's."""
    monkeypatch.delenv("LLAMA_API_KEY", raising=False)
    assert settings("-m", "some.gguf") == Settings()
    assert settings() == Settings(alias="SmolLM2-135M-Instruct")
    keys = tmp_path / "keys"
    keys.write_text("# ours\nthird\n\n  fourth \n")
    words = f"""--host 0.0.0.0 --port 9 --alias tiny --queue 3 --timeout 2.5 --drain 7
        --api-key first,second --api-key-file {keys} --cors-origins https://a.b,https://c.d
        --no-page --max-body 100 --log-format json --log-text"""
    found = settings(*words.split())
    assert found == Settings(
        host="0.0.0.0",
        port=9,
        alias="tiny",
        queue_size=3,
        timeout_s=2.5,
        drain_s=7.0,
        api_keys=("first", "second", "third", "fourth"),
        cors_origins=("https://a.b", "https://c.d"),
        page=False,
        max_body_bytes=100,
        log_format="json",
        log_text=True,
    )
    assert settings("--timeout", "0").timeout_s is None


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They hold unless the flag is given. A file without keys does not open the server."""
    monkeypatch.setenv("LLAMA_API_KEY", "a, b")
    assert settings().api_keys == ("a", "b")
    assert settings("--api-key", "c").api_keys == ("c",)
    (tmp_path / "keys").write_text("# nothing\n")
    with pytest.raises(ValueError, match="--api-key-file must have a key"):
        settings("--api-key-file", str(tmp_path / "keys"))
    with pytest.raises(ValueError, match="--api-key must be a key"):
        settings("--api-key", ",")
    with pytest.raises(ValueError, match="drain_s must be at least 0, got -1"):
        settings("--drain", "-1")
    with pytest.raises(ValueError, match=r"cors_origins must be like .*, got 'https://a.b/'"):
        settings("--cors-origins", "https://a.b/")
    with pytest.raises(ValueError, match="timeout_s must be at least 0, got nan"):
        settings("--timeout", "nan")


@pytest.mark.parametrize("shares", [False, True])
def test_a_history_is_shared_only_if_told_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    """Otherwise nothing that a request says is drafted for another one."""
    load_tiny(folder)
    loaders: list[Callable[[], Generator]] = []
    monkeypatch.setattr("ersd.serve.run", lambda load, _: loaders.append(load))
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    words = ["serve", "-m", str(folder / "served.gguf"), "-t", "1", "-c", "512"]
    serve.run(parser.parse_args(words + ["--share-history"] * shares))
    generator = loaders[0]()
    options = {"max_tokens": 30, "seed": 1, "draft_nodes": 8, "draft_sources": ["history"]}
    texts = [generator.generate("the and of", **options) for _ in range(2)]
    assert texts[0].tokens == texts[1].tokens
    assert bool(texts[1].stats.accepted_by) == shares


@contextlib.contextmanager
def process(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yields a process of ``ersd serve`` and its URL. It must end in the block."""
    load_tiny(folder)
    command = [sys.executable, "-m", "ersd", "serve", "-m", str(folder / "served.gguf")]
    command += ["--port", "0", "-t", "1", "-c", "4096", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            url = running.stdout.readline().split()[-1]
            until(lambda: httpx.get(f"{url}/health").status_code == 200)
            yield running, url
            assert running.poll() is not None
        finally:
            running.kill()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(folder: Path, sent: signal.Signals) -> None:
    """The process takes no more requests and ends well. A request says so meanwhile."""
    with process(folder) as (running, url):
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "served.gguf"
        running.send_signal(sent)
        out, log = running.communicate(timeout=30)
        assert running.returncode == 0
        assert out == ""
        assert 'ready model="served.gguf"' in log
        assert "draining" in log
        assert "Traceback" not in log


def test_a_second_signal_ends_at_once(folder: Path) -> None:
    """It does not wait for a connection whose answer is not read."""
    with process(folder, "--drain", "600") as (running, url):
        body = {"prompt": "the", "max_tokens": 4000, "stream": True, "ignore_eos": True}
        body |= {"temperature": 1.0}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/health").status_code == 503)
            running.send_signal(signal.SIGTERM)
            assert running.wait(10) == -signal.SIGTERM


def failing(*words: str) -> str:
    """Returns what a process of ``ersd serve`` writes to stderr that fails."""
    command = [sys.executable, "-m", "ersd", "serve", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    return ended.stderr


def test_failures(folder: Path) -> None:
    """Each is one sentence."""
    load_tiny(folder)
    missing = failing("-m", str(folder / "nothing.gguf"), "--port", "0")
    assert missing.startswith("ersd: ")
    assert "nothing.gguf" in missing
    assert missing.count("\n") == 1
    with process(folder) as (running, url):
        port = url.rpartition(":")[2]
        taken = failing("-m", str(folder / "served.gguf"), "--port", port)
        assert taken == f"ersd: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        running.terminate()
        running.wait(30)
    wrong = failing("--port", "70000")
    assert wrong == "ersd: port must be at most 65535, got 70000\n"
    unknown = failing("--host", "no host", "-m", "a.gguf")
    assert "cannot listen on no host:8080: " in unknown
    assert "Unknown error" not in unknown
    keys = failing("--api-key-file", str(folder / "keys"))
    assert keys == f"ersd: cannot open '{folder / 'keys'}': No such file or directory\n"
