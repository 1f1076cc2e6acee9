"""Flags of the command line: one for each option, with llama.cpp's spelling and its default."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest

from ersd.commands.flags import add_options, options_from
from ersd.engine.options import DEFAULTS, TABLE

# Options that have no flag of their own: -j makes a response_format, `ersd generate` has --logprobs
# and --prediction, and the other three make no sense on a command line.
WITHOUT_FLAG = {"response_format", "logprobs", "logits_processor", "mirostat_mode", "draft_trees"}
WITHOUT_FLAG |= {"prediction"}
# Flags that may be repeated. Their options are left out if no flag is given.
REPEATED = {"dry_sequence_breakers", "logit_bias", "stop", "references"}


def parser(max_tokens: int = 128) -> argparse.ArgumentParser:
    """Returns a parser with these flags alone."""
    made = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_options(made, max_tokens=max_tokens)
    return made


def test_no_flags_give_the_defaults() -> None:
    """Every option that has a flag has its default, and max_tokens that of the command."""
    given = options_from(parser().parse_args([]))
    assert set(given) == set(TABLE) - WITHOUT_FLAG - REPEATED
    assert given == {name: DEFAULTS[name] for name in given}
    assert options_from(parser(-1).parse_args([]))["max_tokens"] == -1


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        ("-n 7", "max_tokens", 7),
        ("--max-tokens -1", "max_tokens", -1),
        ("--temp 0.5", "temperature", 0.5),
        ("--temperature 1", "temperature", 1.0),
        ("--top-k 3", "top_k", 3),
        ("--top-p 0.5", "top_p", 0.5),
        ("--min-p 0.25", "min_p", 0.25),
        ("--typical 0.5", "typical_p", 0.5),
        ("--typical-p 0.5", "typical_p", 0.5),
        ("--xtc-probability 0.5", "xtc_probability", 0.5),
        ("--xtc-threshold 0.2", "xtc_threshold", 0.2),
        ("--repeat-penalty 1.5", "repeat_penalty", 1.5),
        ("--presence-penalty 0.5", "presence_penalty", 0.5),
        ("--frequency-penalty 0.5", "frequency_penalty", 0.5),
        ("--repeat-last-n -1", "penalty_last_n", -1),
        ("--no-penalize-prompt", "penalize_prompt", False),
        ("--dry-multiplier 2", "dry_multiplier", 2.0),
        ("--dry-base 1.5", "dry_base", 1.5),
        ("--dry-allowed-length 1", "dry_allowed_length", 1),
        ("--dry-penalty-last-n 9", "dry_penalty_last_n", 9),
        ("--dry-sequence-breaker a --dry-sequence-breaker b", "dry_sequence_breakers", ["a", "b"]),
        ("--dry-sequence-breaker none", "dry_sequence_breakers", []),
        ("-l 3+1 --logit-bias 4-inf", "logit_bias", {3: 1.0, 4: -math.inf}),
        ("--ignore-eos", "ignore_eos", True),
        ("--grammar G", "grammar", "G"),
        ("--regex a+", "regex", "a+"),
        ("--lark start:/a/", "lark", "start:/a/"),
        ("-j {}", "response_format", {"type": "json_object"}),
        ('--json-schema {"a":1}', "response_format", {"type": "json_object", "schema": {"a": 1}}),
        ("-s 0", "seed", 0),
        ("--seed 5", "seed", 5),
        ("--stop a --stop b", "stop", ["a", "b"]),
        ("--method gsd", "method", "gsd"),
        ("--strategy tree", "strategy", "tree"),
        ("-k 4", "draft_nodes", 4),
        ("--draft-nodes auto", "draft_nodes", "auto"),
        ("--draft-depth 3", "draft_depth", 3),
        ("--no-adapt-draft", "adapt_draft", False),
        ("--draft-sources lookup,model", "draft_sources", ("lookup", "model")),
        ("--draft-sources none", "draft_sources", ()),
    ],
)
def test_a_flag_sets_its_option(words: str, option: str, value: object) -> None:
    """A flag has llama.cpp's spelling, and no other option changes."""
    plain = options_from(parser().parse_args([]))
    given = options_from(parser().parse_args(words.split()))
    assert given[option] == value
    assert type(given[option]) is type(value)
    assert {n: v for n, v in given.items() if n != option} == {
        n: v for n, v in plain.items() if n != option and (n != "grammar" or n in given)
    }


def test_a_grammar_is_read_from_a_file(tmp_path: Path) -> None:
    """The text of the file is the grammar."""
    (tmp_path / "g").write_text("root ::= [é]", encoding="utf-8")
    args = parser().parse_args(["--grammar-file", str(tmp_path / "g")])
    assert options_from(args)["grammar"] == "root ::= [é]"


def test_references_are_read_from_files(tmp_path: Path) -> None:
    """The texts of the files are the references, in the order of the flags."""
    words = []
    for name, text in (("a", "first é"), ("b", "second")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        words += ["--reference", str(tmp_path / name)]
    assert options_from(parser().parse_args(words))["references"] == ["first é", "second"]


def test_unknown_sources_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the names that there are."""
    with pytest.raises(SystemExit):
        parser().parse_args(["--draft-sources", "lookup,magic"])
    assert "draft_sources must be of 'lookup', 'history'" in capsys.readouterr().err


def test_help_is_the_meaning_of_the_option() -> None:
    """The sentences of the table stand in the help."""
    text = " ".join(parser().format_help().split())
    for name in set(TABLE) - WITHOUT_FLAG:
        assert TABLE[name].meaning in text
