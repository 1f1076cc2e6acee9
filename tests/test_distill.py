"""Distillation: texts, divergences, the student's computation, training that goes on, and drafts that are worth something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from ersd import Generator, theory
from ersd.commands.main import main

torch = pytest.importorskip("torch", reason="needs torch: pip install 'ersd[distill]'")

from ersd.distill import corpus, export, muon, rounding, run, student, train  # noqa: E402


def test_batches_line_up(texts: list[corpus.Text]) -> None:
    """The tokens of an epoch are those of whole texts, and what is said after each stands in its place."""
    batches = train.Batches(texts, 1, seed=5)
    said: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for text in texts:
        for i in range(len(text)):
            said.setdefault(
                tuple(text.tokens[text.first + i : text.first + i + 2].tolist()), set()
            ).add(tuple(text.top[i].tolist()))
    n = 0
    for number in range(2 * batches.per_epoch):
        batch = batches(number)
        for place in np.flatnonzero(batch.logprobs[0, :-1, 0].isfinite().numpy()):
            assert (
                tuple(batch.top[0, place].tolist())
                in said[tuple(batch.tokens[0, place : place + 2].tolist())]
            )
            n += 1
    share = sum(map(len, texts)) / sum(len(text.tokens) for text in texts)
    assert n == pytest.approx(2 * batches.per_epoch * train.ROW * share, rel=0.05)
    order = [
        int(t) for number in range(batches.per_epoch) for t in batches(number).tokens.flatten()
    ]
    whole = " ".join(map(str, order))
    assert (
        sum(" ".join(map(str, text.tokens.tolist())) in whole for text in texts)
        >= len(texts) - train.ROW // 20
    )
    again = train.Batches(texts, 1, seed=5)
    assert torch.equal(again(batches.per_epoch + 1).tokens, batches(batches.per_epoch + 1).tokens)


def test_measures_are_those_of_theory() -> None:
    """With all tokens kept, divergence and acceptance are the closed forms; with some, the rest counts as one token."""
    rng = np.random.default_rng(0)
    p, q = (theory.softmax(rng.normal(size=40) * 2) for _ in range(2))
    logs = [torch.from_numpy(np.log(x))[None] for x in (p, q)]
    assert train.divergence(*logs).item() == pytest.approx(
        theory.kl_divergence(p, q) * np.log(2), abs=1e-4
    )
    assert train.race_acceptance(*logs).item() == pytest.approx(
        theory.ersd_acceptance(p, q), abs=1e-4
    )
    surprise = -np.log(theory.ersd_acceptance(p, q) + 0.02)
    assert train.race_surprise(*logs).item() == pytest.approx(surprise, abs=1e-4)
    first = np.argsort(-p)[:10]
    lumped = [np.append(x[first], 1 - x[first].sum()) for x in (p, q)]
    some = [torch.from_numpy(np.log(x[first]))[None] for x in (p, q)]
    assert train.divergence(*some).item() == pytest.approx(
        theory.kl_divergence(*lumped) * np.log(2), abs=1e-4
    )
    assert train.race_acceptance(*some).item() < theory.ersd_acceptance(*lumped)


def test_the_ending_is_for_races(texts: list[corpus.Text], monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning by races in the end makes more of them agree on the texts learnt than learning by divergence until then."""

    def learnt(ending: float) -> train.Measures:
        monkeypatch.setattr(train, "ENDING", ending)
        torch.manual_seed(0)
        batches = train.Batches(texts, 1, seed=1)
        trainer = train.Trainer(student.Student(student.Shape(515, 64, 1)), batches, 120)
        while trainer.step < trainer.n_steps:
            trainer.learn()
        return train.measure(trainer.student, [batches(i) for i in range(batches.per_epoch)])

    plain, raced = learnt(0.0), learnt(0.25)
    assert raced.first > plain.first + 0.01
    assert raced.divergence > plain.divergence


def test_sampled_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the kept tokens and all others it is the softmax; over some of the others it is near it."""
    shape = student.Shape(500, 64, 1)
    torch.manual_seed(0)
    model = student.Student(shape)
    states, top = torch.randn(30, 64), torch.randint(0, 500, (30, 8))
    expected = torch.log_softmax(states @ model.output.weight.T, 1).gather(1, top)
    everything = train.coarse_logprobs(model, states, top, torch.Generator().manual_seed(1))
    torch.testing.assert_close(everything, expected)
    torch.testing.assert_close(train.logprobs_of(top, model.output(states)), expected)
    monkeypatch.setattr(train, "OTHERS", 100)
    some = train.coarse_logprobs(model, states, top, torch.Generator().manual_seed(1))
    assert 0 < (some - expected).abs().max() < 0.2


@pytest.mark.parametrize("shape", [(40, 120), (120, 40), (64, 64)])
def test_steps_are_made_orthogonal(shape: tuple[int, int]) -> None:
    """The singular vectors stay, the values come near 1."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ muon.orthogonal(matrix, torch.float32) @ v.T
    inside = s > 0.05 * s[0]  # smaller ones take more rounds
    values = found.diag()[inside]
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - found.diag().diag()).abs().max() < 0.01


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
def test_muon_is_that_of_torch() -> None:
    """In bf16, step after step."""
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


def test_rounding() -> None:
    """The gguf package reads what was packed, nearer than by its own rounding; the student learns by the same numbers, zeros stay zeros."""
    torch.manual_seed(0)
    model = student.Student(student.Shape(96, 64, 1))
    model.output.weight.data[3] = 0
    values = model.output.weight.detach().numpy()
    blocks, kind = rounding.packed("output.weight", model.output.weight.detach())
    found, usual = (
        gguf.quants.dequantize(b, kind) for b in (blocks, gguf.quants.quantize(values, kind))
    )
    assert np.square(found - values).sum() < 0.97 * np.square(usual - values).sum()
    assert not found[3].any()
    states, tokens = torch.randn(5, 64), torch.tensor([9, 3, 60])
    model.output.is_rounded = True
    torch.testing.assert_close(
        model.output(states, tokens), states @ torch.from_numpy(found)[tokens].T
    )
    model.output(states).sum().backward()
    torch.testing.assert_close(model.output.weight.grad, states.sum(0).expand(96, 64))


def test_llama_cpp_computes_the_same(tmp_path: Path, writer_path: Path, writer: Generator) -> None:
    """A student with random layers says in llama.cpp what it says in PyTorch, its weights being those of the file."""
    torch.manual_seed(0)
    model = student.Student(student.Shape(writer.target.n_vocab, 128, 2))
    for parameter in model.parameters():
        torch.nn.init.normal_(
            parameter, std=parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
        )
        if parameter.ndim == 1:
            parameter.data += 1
    model.token_embd.weight.data *= 10
    path = tmp_path / "student.gguf"
    export.export(model, writer_path, path, {"seed": 1})
    tensors = {t.name: t for t in gguf.GGUFReader(str(path)).tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = tensors[name.replace("layers.", "blk.", 1)]
            parameter.copy_(
                torch.from_numpy(
                    np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
                )
            )
        tokens = [1, *range(300, 340)]
        expected = torch.log_softmax(model.output(model(torch.tensor([tokens]))), -1)[0]
    loaded = Generator(path, n_ctx=128, n_threads=1)
    for n in (1, 2, 17, 41):
        out = loaded.generate(tokens[:n], max_tokens=1, temperature=0, logprobs=40)
        assert out.logprobs is not None
        for token, logprob in out.logprobs[0].top:
            assert logprob == pytest.approx(expected[n - 1, token].item(), abs=0.1)
    assert loaded.target.metadata("ersd.distill.seed") == "1"


def settings(writer_path: Path, draft: Path, **changes: Any) -> run.Distillation:
    """A distillation of seconds."""
    usual: dict[str, Any] = {
        "width": 64,
        "layers": 1,
        "n_positions": 6000,
        "epochs": 20,
        "n_ctx": 48,
        "n_texts": 16,
        "n_threads": 1,
    }
    return run.Distillation(writer_path, draft, **(usual | changes))


@pytest.fixture(scope="module")
def distilled(folder: Path, writer_path: Path) -> tuple[Path, dict[str, float]]:
    """A draft for the tiny target, and its figures."""
    path = folder / "distilled.gguf"
    return path, run.distill(settings(writer_path, path))


def test_a_distilled_draft_is_worth_more_than_one_that_learnt_nothing(
    distilled: tuple[Path, dict[str, float]],
    writer_path: Path,
    tmp_path: Path,
    texts: list[corpus.Text],
) -> None:
    """Its races agree with the target's more often, by several standard errors, and its card says what it is."""
    path, figures = distilled
    torch.manual_seed(1)
    untrained = tmp_path / "untrained.gguf"
    export.export(student.Student(student.Shape(515, 64, 1)), writer_path, untrained, {})
    pair = Generator(writer_path, untrained, n_ctx=96, n_threads=1, profile=False)
    before = run.evaluate(
        pair, [text.tokens[: len(text.tokens) // 2].tolist() for text in texts[: run.N_HELD]]
    )
    for t in ("t1", "t0.6"):
        assert figures[f"first_{t}"] > before[f"first_{t}"] + 3 * (
            figures[f"first_{t}_stderr"] + before[f"first_{t}_stderr"]
        )
        assert figures[f"tokens_per_call_4_{t}"] < figures[f"tokens_per_call_16_{t}"]
    card = path.with_suffix(".md").read_text()
    assert f"{figures['first_t1']:.3f}" in card
    assert "ersd distill writer.gguf -o distilled.gguf --width 64 --layers 1 --tokens 6000" in card


def test_training_goes_on_to_the_same_weights(
    distilled: tuple[Path, dict[str, float]],
    writer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped at a step, even long after the last checkpoint, the same call ends with the same file."""
    path = tmp_path / "distilled.gguf"
    learn = train.Trainer.learn

    def stop(self: train.Trainer) -> float:
        if self.step == 37:
            raise KeyboardInterrupt
        return learn(self)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            run.distill(settings(writer_path, path))
    assert not path.exists()
    run.distill(settings(writer_path, path))
    ours, theirs = (gguf.GGUFReader(str(p)).tensors for p in (path, distilled[0]))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(ours, theirs, strict=True))


def test_texts_serve_drafts_of_other_shapes(
    distilled: tuple[Path, dict[str, float]],
    writer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is written anew, the file is that of texts of its own, and other texts are refused."""
    drawn: list[int] = []
    monkeypatch.setattr(corpus, "_advance", lambda *_: drawn.append(1))
    path = tmp_path / "short.gguf"
    shorter = settings(
        writer_path, path, corpus=distilled[0].with_suffix(".work"), n_positions=5000, epochs=2
    )
    run.distill(shorter)
    assert not drawn
    assert not (shorter.work / "texts.bin").exists()
    with pytest.raises(ValueError, match="holds another distillation: seed = 1 instead of 2"):
        run.distill(settings(writer_path, tmp_path / "other.gguf", corpus=shorter.corpus, seed=2))
    monkeypatch.undo()
    alone = tmp_path / "alone.gguf"
    run.distill(settings(writer_path, alone, n_positions=5000, epochs=2))
    ours, theirs = (gguf.GGUFReader(str(p)).tensors for p in (path, alone))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(ours, theirs, strict=True))


def test_what_cannot_be_is_refused(
    tmp_path: Path, writer_path: Path, distilled: tuple[Path, dict[str, float]], capsys: Any
) -> None:
    """With a sentence that names it."""
    with pytest.raises(ValueError, match="holds another distillation: seed = 1 instead of 2"):
        run.distill(settings(writer_path, distilled[0], seed=2))
    with pytest.raises(ValueError, match="width must be a multiple of 64, got 100"):
        run.distill(settings(writer_path, tmp_path / "a.gguf", width=100))
    with pytest.raises(ValueError, match="keeps one state"):
        run.distill(settings(tiny.write_mamba(tmp_path / "mamba.gguf"), tmp_path / "b.gguf"))
    with pytest.raises(FileNotFoundError, match="no such text file"):
        run.distill(settings(writer_path, tmp_path / "c.gguf", text=(tmp_path / "none.txt",)))
    assert main(["distill", str(tmp_path / "none.gguf"), "-o", str(tmp_path / "d.gguf")]) == 1
    assert "no such model file" in capsys.readouterr().err


def test_the_command(tmp_path: Path, writer_path: Path, capsys: Any) -> None:
    """``ersd distill`` writes a draft that serves, and prints its figures."""
    draft = tmp_path / "draft.gguf"
    text = tmp_path / "text.txt"
    text.write_text("the and of to in " * 40)
    flags = [
        "--width",
        "64",
        "--layers",
        "1",
        "--tokens",
        "3000",
        "--epochs",
        "1",
        "-c",
        "48",
        "-np",
        "8",
        "-t",
        "1",
    ]
    assert main(["distill", str(writer_path), "-o", str(draft), *flags, "--text", str(text)]) == 0
    assert "first_t1 0." in capsys.readouterr().out
    pair = Generator(writer_path, draft, n_ctx=256, n_threads=1)
    plain, drafted = (
        pair.generate("the", max_tokens=40, seed=5, method=m, draft_nodes=8) for m in ("ar", "ersd")
    )
    assert plain.tokens == drafted.tokens
