"""The command line: standard output and error, exit statuses and pipes."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ersd import Generator

pytestmark = pytest.mark.no_sanitizer

SAMPLING = ["--temp", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0"]


def ersd(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs ``ersd`` with these words, without standard input unless some is given."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [sys.executable, "-m", "ersd", *map(str, args)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        **options,
    )


def test_generate_writes_text_to_stdout_and_a_summary_to_stderr(
    tiny_target: Path, tiny_draft: Path, generator: Generator
) -> None:
    """The text is that of `Generator`.

    One line has tokens, speed, tokens per call, accepted tokens by source, and seed.
    """
    flags = shlex.split("-n 30 -s 5 -t 1 -k 16")
    run = ersd("generate", "the rain", "-m", tiny_target, "-md", tiny_draft, *flags, *SAMPLING)
    expected = generator.generate(
        "the rain", max_tokens=30, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=5
    )
    assert (run.returncode, run.stdout) == (0, expected.text + "\n")
    assert run.stderr.count("\n") == 1
    assert re.fullmatch(
        r"ersd: 30 tokens, [\d.]+ tokens/s, [\d.]+ tokens per target call"
        r" \(accepted: lookup \d+, model \d+\), seed 5\n",
        run.stderr,
    )


def test_json_is_one_object(tiny_target: Path, tiny_draft: Path, generator: Generator) -> None:
    """The object has the whole result, also for a prompt from standard input."""
    words = ["generate", "-", "-m", tiny_target, "-md", tiny_draft]
    run = ersd(*words, *shlex.split("-n 12 -s 0 -t 1 --json"), *SAMPLING, input="the rain\n")
    answer = json.loads(run.stdout)
    expected = generator.generate(
        "the rain", max_tokens=12, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0
    )
    assert (answer["prompt"], answer["text"], answer["tokens"], answer["seed"]) == (
        "the rain",
        expected.text,
        expected.tokens,
        0,
    )
    assert (answer["finish_reason"], answer["stats"]["generated"]) == ("length", 12)
    assert run.stderr == ""


def test_a_pipe_and_a_file_are_appended_to_the_prompt(tiny_target: Path, tmp_path: Path) -> None:
    """The words come first, then the file, then what the pipe brings, each on lines of its own."""
    (tmp_path / "doc.txt").write_text("the rain\nof\n", encoding="utf-8")
    flags = ["-m", tiny_target, *shlex.split("-n 2 -s 1 -t 1 --json"), *SAMPLING]

    def prompt(*words: object, **options: object) -> str:
        return str(json.loads(ersd("generate", *words, *flags, **options).stdout)["prompt"])

    assert prompt("Summarise:", input="the rain\n") == "Summarise:\nthe rain"
    assert prompt("Summarise:", "-", input="the rain\n") == "Summarise:\nthe rain"
    assert prompt("Summarise:", input="") == "Summarise:"
    assert prompt(input="the rain\n") == "the rain"
    assert prompt("-f", tmp_path / "doc.txt") == "the rain\nof"
    assert prompt("-p", "a", "-f", tmp_path / "doc.txt", input="in") == "a\nthe rain\nof\nin"
    with (tmp_path / "doc.txt").open() as file:
        assert prompt("a", stdin=file) == "a\nthe rain\nof"
    absent = ersd("generate", "a", "-f", "absent.txt")
    assert (absent.returncode, absent.stderr) == (
        1,
        "ersd: cannot open 'absent.txt': No such file or directory\n",
    )


def test_wrong_text_and_seeds_on_the_command_line(tiny_target: Path) -> None:
    """Bytes that are no UTF-8 are refused by one sentence. The seed -1 draws one."""
    words = [sys.executable, "-m", "ersd", "generate", "-m", str(tiny_target)]
    run = subprocess.run([*words, b"a\xff"], capture_output=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 1
    assert run.stderr.startswith(b"ersd: prompt must be text that UTF-8 can write, got ")
    seeds = set()
    for _ in range(2):
        seed = json.loads(ersd(*words[3:], "the", *shlex.split("-n 1 -t 1 -s -1 --json")).stdout)
        seeds.add(seed["seed"])
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "absent.gguf", "hello"], "ersd: no such model file: 'absent.gguf'\n"),
        (["-m", "DEFAULT", ""], "ersd: the prompt is empty, expected at least one token\n"),
        (
            ["-m", "TARGET", "the", "--temp", "-1"],
            "ersd: temperature must be 0, or between 1e-6 and 1e6, got -1\n",
        ),
        (
            ["-m", "TARGET", "the", "--strategy", "x"],
            "ersd: strategy must be one of 'simple', 'sequence', 'batch', 'tree', 'adaptive',"
            " got 'x'\n",
        ),
    ],
    ids=["missing", "empty", "temperature", "strategy"],
)
def test_errors_are_one_sentence(
    tiny_target: Path, target: Path, arguments: list[str], message: str
) -> None:
    """An error is printed to stderr without a traceback, and the exit status is 1."""
    paths = {"TARGET": tiny_target, "DEFAULT": target}
    run = ersd("generate", *[paths.get(word, word) for word in arguments])
    assert (run.returncode, run.stdout, run.stderr) == (1, "", message)


def test_draft_nodes_are_a_number_or_auto(tiny_target: Path, tiny_draft: Path) -> None:
    """A number and "auto" are accepted, and other words are refused."""
    for k in ("auto", "3"):
        assert (
            ersd(
                "generate", "a", "-m", tiny_target, "-md", tiny_draft, "-n", 4, "-t", 1, "-k", k
            ).returncode
            == 0
        )
    refused = ersd("generate", "a", "-k", "many")
    assert refused.returncode == 2
    assert "expected a number or auto, got 'many'" in refused.stderr


# Flags of ``ersd generate``, and the options of `generate` that mean the same.
FLAGS: dict[str, dict[str, object]] = {
    "--typical 0.9": {"typical_p": 0.9},
    "--xtc-probability 0.5 --xtc-threshold 0.02": {"xtc_probability": 0.5, "xtc_threshold": 0.02},
    "--repeat-penalty 1.3 --presence-penalty 0.2 --frequency-penalty 0.1 --repeat-last-n -1": {
        "repeat_penalty": 1.3,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.1,
        "penalty_last_n": -1,
    },
    "--dry-multiplier 2 --dry-base 1.5 --dry-allowed-length 1 --dry-penalty-last-n 50": {
        "dry_multiplier": 2.0,
        "dry_base": 1.5,
        "dry_allowed_length": 1,
        "dry_penalty_last_n": 50,
    },
    "--dry-multiplier 2 --dry-sequence-breaker none": {
        "dry_multiplier": 2.0,
        "dry_sequence_breakers": [],
    },
    "-l 300+3 -l 301-inf --ignore-eos": {
        "logit_bias": {300: 3.0, 301: -math.inf},
        "ignore_eos": True,
    },
    "--grammar 'root ::= [a-h ]+'": {"grammar": "root ::= [a-h ]+"},
    "--grammar-file g.gbnf": {"grammar": "root ::= [a-h ]+"},
    "--regex '[a-h ]+'": {"regex": "[a-h ]+"},
    "--lark 'start: /[a-h ]+/'": {"lark": "start: /[a-h ]+/"},
    """-j '{"type": "integer"}'""": {
        "response_format": {"type": "json_object", "schema": {"type": "integer"}}
    },
    "-j {}": {"response_format": {"type": "json_object"}},
    "--draft-sources none": {"draft_sources": ()},
}


@pytest.mark.parametrize("flags", FLAGS)
def test_sampling_flags_are_the_options(
    tiny_target: Path, tiny_draft: Path, generator: Generator, tmp_path: Path, flags: str
) -> None:
    """Flags with llama.cpp's names give the same answers as the options of `generate`."""
    (tmp_path / "g.gbnf").write_text("root ::= [a-h ]+")
    common = shlex.split("-n 20 -s 3 -t 1 -k 8 --json --logprobs 1")
    words = ["generate", "the of the of", "-m", tiny_target, "-md", tiny_draft, *common, *SAMPLING]
    answer = json.loads(ersd(*words, *shlex.split(flags), cwd=tmp_path).stdout)
    expected = generator.generate(
        "the of the of",
        max_tokens=20,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=3,
        **FLAGS[flags],
    )
    assert answer["tokens"] == expected.tokens
    assert [each["token"] for each in answer["logprobs"]] == expected.tokens


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--show-draft", "--json"], 1, "ersd: --show-draft and --json exclude each other"),
        (
            ["--prediction", "a", "--prediction-file", "b"],
            1,
            "ersd: --prediction and --prediction-file exclude each other",
        ),
        (["--reference", "absent"], 1, "ersd: cannot open 'absent': No such file"),
        (
            ["-l", "17=3"],
            2,
            "ersd generate: error: argument -l/--logit-bias: expected a token and its bias, as"
            " 15043+1 or 15043-1, got '17=3'",
        ),
        (["--logprobs", "2"], 1, "ersd: --logprobs needs --json"),
        (
            ["--grammar", "root ::= [a-z]", "-j", "{}"],
            1,
            "ersd: --grammar and --json-schema exclude each other",
        ),
        (["-j", "{"], 1, "ersd: --json-schema must be JSON, got '{': Expecting property name"),
    ],
    ids=["colours", "predictions", "reference", "bias", "logprobs", "two", "json"],
)
def test_wrong_sampling_flags(
    tiny_target: Path, words: list[str], status: int, message: str
) -> None:
    """A wrong flag is refused with one sentence and without a traceback."""
    run = ersd("generate", "a", "-m", tiny_target, "-n", 4, *words)
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.rstrip().split("\n")[-1].startswith(message)
    assert "Traceback" not in run.stderr
