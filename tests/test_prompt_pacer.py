"""The pacer: steps that read prompts take the wanted share longer than others."""

import numpy as np
import pytest
from ersd._core import PromptPacer


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("per_token", [0.02, 0.5, 3.0])
def test_steps_take_the_wanted_share_longer(share, per_token):
    """With costs of 10 ms and per_token ms for each token, the pacer finds the number by itself."""
    rng, pacer = np.random.default_rng(0), PromptPacer(share)
    for _ in range(30):
        pacer.learn(0, 10.0 * rng.uniform(0.9, 1.1))
    seen = []
    for _ in range(200):
        n = pacer.n_tokens
        ms = (10.0 + per_token * n) * rng.uniform(0.9, 1.1)
        pacer.learn(n, ms)
        seen.append(10.0 + per_token * n)
    wanted = 10.0 / (1 - share)
    assert np.mean(seen[-100:]) == pytest.approx(wanted, rel=0.15, abs=per_token)


def test_it_reads_at_least_one_token():
    """Even where a token takes far too long, the prompt is read to its end."""
    pacer = PromptPacer(0.1)
    pacer.learn(0, 1.0)
    for _ in range(50):
        pacer.learn(pacer.n_tokens, 1000.0)
    assert pacer.n_tokens == 1


def test_the_end_of_a_prompt_teaches_nothing():
    """A step that had less to read than it might is short for that reason."""
    pacer = PromptPacer(0.5)
    pacer.learn(0, 10.0)
    before = pacer.n_tokens
    for _ in range(10):
        pacer.learn(before - 1, 10.1)
    assert pacer.n_tokens == before
