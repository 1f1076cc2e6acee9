"""Truncation keeps the tokens that sorting and llama.cpp's own samplers keep.

Options are checked.
"""

import ctypes

import llama_cpp as llama
import numpy as np
import pytest
from ersd._core import SamplingOptions, cutoff

import oracles
from ersd import _core

SIZES = [1, 2, 100, 128, 129, 5000, 49152]
TOKEN = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


def kept(logits, **options):
    """Returns the tokens that ersd keeps; bool[n]."""
    return (logits >= cutoff(logits, SamplingOptions(**options))) & (logits > -np.inf)


def assert_kept(logits, slack, truncation, mask):
    """The mask lies between what the oracle keeps for a slightly smaller and larger top_p.

    Between them rounding decides. Returns whether it decides nothing.
    """
    top_p = truncation["top_p"]
    least = oracles.kept(logits, **{**truncation, "top_p": top_p - slack if top_p < 1 else top_p})
    most = oracles.kept(
        logits, **{**truncation, "top_p": min(top_p + slack, 1.0 - 1e-7) if top_p < 1 else top_p}
    )
    assert np.all(mask[least]), truncation
    assert not np.any(mask[~most]), truncation
    return np.array_equal(least, most)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", oracles.ROW_KINDS)
def test_kept_tokens_equal_oracle(n, kind):
    """The cutoff keeps what sorting keeps, for single options and for all together."""
    rng = np.random.default_rng([n, len(kind)])
    decided = 0
    for _ in range(200 if n < 5000 else 25):
        logits, truncation = oracles.random_row(rng, n, kind), oracles.random_truncation(rng, n)
        if rng.random() < 0.3:
            alone = rng.choice(list(truncation))
            truncation = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, alone: truncation[alone]}
        decided += assert_kept(logits, 1e-6, truncation, kept(logits, **truncation))
    assert decided > 20  # rounding decides nothing for most rows


def llama_kept(logits, top_k, top_p, min_p):
    """Returns the tokens that llama.cpp's samplers keep; bool[n]."""
    data = np.zeros(len(logits), TOKEN)
    data["id"], data["logit"] = np.arange(len(logits)), logits
    array = llama.llama_token_data_array(
        data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data)), len(data), -1, False
    )
    samplers = [
        llama.llama_sampler_init_top_k(top_k),
        llama.llama_sampler_init_top_p(top_p, 1),
        llama.llama_sampler_init_min_p(min_p, 1),
    ]
    for sampler in samplers:
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        llama.llama_sampler_free(sampler)
    mask = np.zeros(len(logits), bool)
    mask[data["id"][: array.size]] = True
    return mask


@pytest.mark.parametrize("n", SIZES)
def test_kept_tokens_equal_llama_cpp(n):
    """On rows without ties ersd keeps the tokens that llama.cpp keeps.

    llama.cpp sums in single precision, so a few tokens of long rows may differ.
    """
    rng = np.random.default_rng(n)
    same = 0
    for _ in range(30):
        logits, truncation = (
            np.unique(oracles.random_row(rng, n, "normal")),
            oracles.random_truncation(rng, n),
        )
        rng.shuffle(logits)
        theirs = llama_kept(logits, **truncation)
        assert_kept(logits, 1e-6 if n < 5000 else 5e-4, truncation, theirs)
        same += np.array_equal(kept(logits, **truncation), theirs)
    assert same >= (30 if n < 5000 else 25)


def test_ties_at_the_cutoff_all_stay():
    """If a logit equals the cutoff, all tokens of this logit are kept."""
    logits = np.array([1, 3, 2, 2, 2, 0], np.float32)
    for truncation in ({"top_k": 2}, {"top_k": 4}, {"top_p": 0.6}, {"min_p": 0.3}):
        assert kept(logits, **truncation).tolist() == [False, True, True, True, True, False]


def test_order_of_the_options():
    """top-p acts on what top-k leaves, and the temperature does not change what is kept."""
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    assert kept(logits, top_p=0.55).sum() == 2
    assert kept(logits, top_k=2, top_p=0.55).sum() == 1
    for temperature in (0.01, 1.0, 100.0):
        assert kept(logits, temperature=temperature, top_p=0.85).sum() == 3


def test_nothing_is_cut():
    """All tokens are kept without options, at temperature 0, and if a logit is infinite."""
    logits = np.array([0, -5, 5, -np.inf], np.float32)
    assert cutoff(logits, SamplingOptions()) == -np.inf
    assert cutoff(logits, SamplingOptions(temperature=0, top_k=1, top_p=0.1, min_p=0.9)) == -np.inf
    assert (
        cutoff(
            np.append(logits, np.float32(np.inf)), SamplingOptions(top_k=1, top_p=0.1, min_p=0.9)
        )
        == -np.inf
    )


@pytest.mark.parametrize("n", [5, 129, 5000])
def test_infinite_and_nan_logits(n):
    """-infinity and NaN count as no probability and do not change which others are kept."""
    rng = np.random.default_rng(n)
    for _ in range(50):
        logits, truncation = oracles.random_row(rng, n, "normal"), oracles.random_truncation(rng, n)
        logits[rng.random(n) < rng.random()] = rng.choice([-np.inf, np.nan])
        logits[0] = 0
        assert_kept(logits, 1e-6, truncation, kept(logits, **truncation))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_row_without_probability(value):
    """If no token has a probability, there is no cutoff, no winner and no arrival."""
    row = np.full(300, value, np.float32)
    assert _core.cutoff(row, SamplingOptions(top_k=5, top_p=0.9, min_p=0.1)) == -np.inf
    assert _core.Race().arrivals(row, SamplingOptions(), _core.Clock(0, 0), 4)[0].size == 0
    with pytest.raises(RuntimeError, match="no token a probability: all 300 logits"):
        _core.Race().winner(row, SamplingOptions(), _core.Clock(0, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.5}, r"temperature must be 0, or between .*, got -0\.5"),
        ({"temperature": 1e-9}, "temperature must be 0, or between"),
        ({"temperature": float("inf")}, "temperature must be .*, got inf"),
        ({"temperature": float("nan")}, "temperature must be .*, got nan"),
        ({"top_p": 0.0}, r"top_p must be above 0 .*, got 0"),
        ({"top_p": float("nan")}, "top_p must be above 0 .*, got nan"),
        ({"min_p": -0.25}, r"min_p must be between 0 and 1, got -0\.25"),
        ({"min_p": 1.5}, r"min_p must be between 0 and 1, got 1\.5"),
    ],
)
def test_option_errors(options, message):
    """An error says which option is wrong, what is expected and what was given."""
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**options)


def test_options_are_kept():
    """Defaults of the core keep all tokens, and given options can be read."""
    plain, given = (
        SamplingOptions(),
        SamplingOptions(temperature=0.5, top_k=7, top_p=0.25, min_p=0.125),
    )
    assert (plain.temperature, plain.top_k, plain.top_p, plain.min_p) == (1.0, 0, 1.0, 0.0)
    assert (given.temperature, given.top_k, given.top_p, given.min_p) == (0.5, 7, 0.25, 0.125)
