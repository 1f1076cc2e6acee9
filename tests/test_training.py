"""Training of drafts: batches, losses and the optimizer."""

from __future__ import annotations

import numpy as np
import pytest

from ersd import theory
from ersd.distill import corpus

pytestmark = pytest.mark.no_sanitizer

torch = pytest.importorskip("torch", reason="needs torch: pip install 'ersd[distill]'")

from ersd.distill import losses, muon, train  # noqa: E402
from ersd.distill.batches import ROW, Batches  # noqa: E402
from ersd.distill.student import Dimensions, Student  # noqa: E402


def test_batches_line_up(texts: list[corpus.Text]) -> None:
    """The tokens of an epoch are those of whole texts, each with its own distribution."""
    batches = Batches(texts, 1, seed=5)
    known: dict[int, set[tuple[int, ...]]] = {}
    for text in texts:
        for i, row in enumerate(text.distributions()[0].tolist()):
            known.setdefault(int(text.tokens[text.first + i]), set()).add(tuple(row))
    n = 0
    for number in range(2 * batches.per_epoch):
        batch = batches(number)
        for place in np.flatnonzero(batch.logprobs[0, :, 0].isfinite().numpy()):
            row = tuple(batch.top[0, place].tolist())
            assert row in known[int(batch.tokens[0, place])]
            n += 1
    share = sum(map(len, texts)) / sum(len(text.tokens) for text in texts)
    assert n == pytest.approx(2 * batches.per_epoch * ROW * share, rel=0.05)
    order = [
        int(t) for number in range(batches.per_epoch) for t in batches(number).tokens.flatten()
    ]
    whole = " ".join(map(str, order))
    assert (
        sum(" ".join(map(str, text.tokens.tolist())) in whole for text in texts)
        >= len(texts) - ROW // 20
    )
    again = Batches(texts, 1, seed=5)
    assert torch.equal(again(batches.per_epoch + 1).tokens, batches(batches.per_epoch + 1).tokens)


def test_measures_are_those_of_theory() -> None:
    """With all tokens kept, divergence and acceptance are the closed forms.

    With some tokens kept, the divergence counts the rest as one token.
    """
    rng = np.random.default_rng(0)
    p, q = (theory.softmax(rng.normal(size=40) * 2) for _ in range(2))
    logs = [torch.from_numpy(np.log(x))[None] for x in (p, q)]
    assert losses.divergence(*logs).item() == pytest.approx(
        theory.kl_divergence(p, q) * np.log(2), abs=1e-4
    )
    assert losses.race_acceptance(*logs).item() == pytest.approx(
        theory.ersd_acceptance(p, q), abs=1e-4
    )
    surprise = -np.log(theory.ersd_acceptance(p, q) + 0.02)
    assert losses.race_surprise(*logs).item() == pytest.approx(surprise, abs=1e-4)
    first = np.argsort(-p)[:10]
    lumped = [np.append(x[first], 1 - x[first].sum()) for x in (p, q)]
    some = [torch.from_numpy(np.log(x[first]))[None] for x in (p, q)]
    assert losses.divergence(*some).item() == pytest.approx(
        theory.kl_divergence(*lumped) * np.log(2), abs=1e-4
    )
    assert losses.race_acceptance(*some).item() < theory.ersd_acceptance(*lumped)


def test_the_ending_is_for_races(texts: list[corpus.Text], monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning by races in the last steps makes more races agree than learning by divergence."""

    def learnt(ending: float) -> train.Measures:
        monkeypatch.setattr(train, "ENDING", ending)
        torch.manual_seed(0)
        batches = Batches(texts, 1, seed=1)
        trainer = train.Trainer(Student(Dimensions(515, 64, 1)), batches, 120)
        while trainer.step < trainer.n_steps:
            trainer.learn()
        return train.measure(trainer.student, [batches(i) for i in range(batches.per_epoch)])

    plain, raced = learnt(0.0), learnt(0.25)
    assert raced.first > plain.first + 0.01
    assert raced.divergence > plain.divergence


def test_sampled_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all other tokens it is the softmax; with some of them it is close to it."""
    torch.manual_seed(0)
    model = Student(Dimensions(500, 64, 1))
    states, top = torch.randn(30, 64), torch.randint(0, 500, (30, 8))
    expected = torch.log_softmax(states @ model.output.weight.T, 1).gather(1, top)
    everything = losses.coarse_logprobs(model, states, top, torch.Generator().manual_seed(1))
    torch.testing.assert_close(everything, expected)
    torch.testing.assert_close(losses.logprobs_of(top, model.output(states)), expected)
    monkeypatch.setattr(losses, "OTHERS", 100)
    some = losses.coarse_logprobs(model, states, top, torch.Generator().manual_seed(1))
    assert 0 < (some - expected).abs().max() < 0.2


@pytest.mark.parametrize("shape", [(40, 120), (120, 40), (64, 64)])
def test_steps_are_made_orthogonal(shape: tuple[int, int]) -> None:
    """The singular vectors stay the same, and the singular values come close to 1."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ muon.orthogonal(matrix, torch.float32) @ v.T
    inside = s > 0.05 * s[0]  # smaller ones would take more rounds
    assert inside.sum() >= 0.8 * len(s)
    values = found.diag()[inside]
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - found.diag().diag()).abs().max() < 0.01


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
def test_muon_is_that_of_torch() -> None:
    """In bf16, the steps are those of torch.optim.Muon."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(32, 96)) for _ in range(2))
    optimizers = (
        muon.Muon([{"params": [ours], "lr": 0.02}], torch.bfloat16),
        torch.optim.Muon(
            [theirs],
            lr=0.02,
            momentum=muon.MOMENTUM,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        ),
    )
    for _ in range(5):
        ours.grad = torch.randn(32, 96)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert (ours - 1).abs().mean() > 0.005
