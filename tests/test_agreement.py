"""Agreement of the draft model and texts: predictions that learn whom to trust."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ersd._core import AgreementModel

Opinions = list[tuple[float, float]]  # what the model says of each token, and what a text says
LEAST = 1e-4  # the least probability that an opinion stands for


def random_opinions(rng: np.random.Generator) -> Opinions:
    """Returns what a model says of three tokens, and a text of one of them or of another one."""
    model = rng.dirichlet([1.0, 0.5, 0.3, 0.4])[:3].tolist()
    text, place = float(rng.uniform(0.02, 0.98)), int(rng.integers(5))
    if place == 4:  # no text has a proposal
        return [(p, 0.0) for p in model]
    opinions = [(p, text if i == place else 0.0) for i, p in enumerate(model)]
    return opinions if place < 3 else [(0.0, text), *opinions]


def by_definition(opinions: Opinions, coefficients: list[float]) -> np.ndarray:
    """Returns the conditional logit, with all other tokens as the last alternative; f64[n + 1]."""
    model, text = np.array([*opinions, (1 - sum(m for m, _ in opinions), 0)]).T
    odds = np.clip(text, LEAST, 1 - LEAST)
    features = [
        np.log(np.maximum(model, LEAST)),
        np.where(text > 0, np.log(odds / (1 - odds)), 0),
        text > 0,
    ]
    p = np.exp(coefficients @ np.array(features))
    return p / p.sum()


def mixture(opinions: Opinions, trust: float) -> np.ndarray:
    """Returns the truth if the text is right with the share `trust` of what it says; f64[n + 1]."""
    model, text = np.array(opinions).T
    model = np.append(model, 1 - model.sum())
    p = (1 - trust * text.sum()) * model
    p[:-1] += trust * text
    return p


def losses(truth: Callable[[Opinions], np.ndarray], n: int, *, learns: bool) -> tuple[float, float]:
    """Returns the mean log loss of predictions and of the truth, over the last half of n tokens."""
    rng, model, found, least = np.random.default_rng(0), AgreementModel(), [], []
    for _ in range(n):
        opinions = random_opinions(rng)
        p = truth(opinions)
        hits = model.predict(opinions)
        assert min(hits) >= 0
        assert sum(hits) <= 1 + 1e-12
        hit = int(rng.choice(len(p), p=p))
        found.append(-np.log([*hits, 1 - sum(hits)][hit]))
        least.append(-np.log(p[hit]))
        if learns:
            model.learn(opinions, hit)
    return float(np.mean(found[n // 2 :])), float(np.mean(least[n // 2 :]))


def test_where_no_text_proposes_the_model_is_believed() -> None:
    """Before anything is learnt, its probabilities are the predictions."""
    rng, model = np.random.default_rng(1), AgreementModel()
    for _ in range(50):
        opinions = [(p, 0.0) for p, _ in random_opinions(rng)]
        np.testing.assert_allclose(
            model.predict(opinions), [p for p, _ in opinions], atol=3 * LEAST
        )


def test_a_sure_text_raises_its_token() -> None:
    """Before anything is learnt, a sure text makes a token likelier, and an unsure one less so."""
    model = AgreementModel()
    sure, unsure, alone = (model.predict([(0.4, t), (0.3, 0.0)])[0] for t in (0.95, 0.05, 0.0))
    assert sure > alone > unsure


def test_coefficients_come_near_to_the_truth() -> None:
    """With a truth of the same kind, the loss comes within 0.01 nats of the least one."""
    for coefficients in ([0.4, 1.6, -1.0], [1.3, 0.2, -2.0]):
        found, least = losses(lambda o, c=coefficients: by_definition(o, c), 4000, learns=True)
        assert found < least + 0.01
    unlearnt, least = losses(lambda o: by_definition(o, [0.4, 1.6, -1.0]), 1000, learns=False)
    assert unlearnt > least + 0.1


@pytest.mark.parametrize("trust", [0.3, 0.6, 1.0])
def test_a_mixture(trust: float) -> None:
    """A text that is right with a share of what it says, another kind of truth, is half learnt."""
    found, least = losses(lambda o: mixture(o, trust), 3000, learns=True)
    unlearnt, _ = losses(lambda o: mixture(o, trust), 3000, learns=False)
    assert least < found < (least + unlearnt) / 2


def test_any_other_token() -> None:
    """A token that nobody proposed makes all proposals less probable."""
    model, opinions = AgreementModel(), [(0.6, 0.0), (0.2, 0.7)]
    before = sum(model.predict(opinions))
    for _ in range(200):
        model.learn(opinions, 2)
    assert sum(model.predict(opinions)) < before - 0.2
    assert model.predict([]) == []
    model.learn([], 0)
