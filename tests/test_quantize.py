"""Models in other types of weights: the command, and how far the copy is from the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from ersd import Generator
from ersd.divergence import mean_divergence
from test_cli import ersd

pytestmark = pytest.mark.no_sanitizer


def test_divergence_is_that_of_the_definition(tiny_target: Path, tiny_draft: Path) -> None:
    """NumPy's sum over the rows of a pair gives the mean, and a model is at 0 from itself."""
    mean, error = mean_divergence(
        tiny_target, tiny_draft, ["the of", "and"], max_tokens=6, n_threads=1
    )
    pair = Generator(tiny_target, tiny_draft, n_ctx=1024, n_threads=1, exact=False, profile=False)
    texts = []
    for seed, text in enumerate(["the of", "and"]):
        each = []
        for position in pair.ranks(text, max_tokens=6, seed=seed, logits=True):
            p, q = (
                np.exp(row.astype(np.float64))
                for row in (position.target_logits, position.draft_logits)
            )
            p, q = p / p.sum(), q / q.sum()
            each.append((p * np.log(p / q)).sum())
        texts.append(np.mean(each))
    assert mean == pytest.approx(np.mean(texts), rel=1e-6)
    assert error == pytest.approx(abs(texts[0] - texts[1]) / 2, rel=1e-6)
    assert mean > 0.01
    assert mean_divergence(tiny_target, tiny_target, max_tokens=4, n_threads=1)[0] < 1e-6


def test_the_command(folder: Path, tmp_path: Path) -> None:
    """The file has the new type, and the report says sizes and divergence."""
    source = tiny.write_llama(folder / "for_quantize.gguf")
    out = tmp_path / "out.gguf"
    run = ersd("quantize", source, out, "q4_0", "-n", 4, "-t", 1)
    assert (run.returncode, run.stderr) == (0, f"ersd: {out}\n")
    assert "Q4_0" in Generator(out, n_ctx=64, n_threads=1).target.description
    sizes, divergence = run.stdout.splitlines()
    assert sizes.startswith("size ")
    assert 0 < float(divergence.split()[2]) < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.gguf", "out.gguf", "Q8_0"], "no such model file: 'absent.gguf'"),
        (["MODEL", "out.gguf", "Q9"], "quantize: unknown type 'Q9', expected one of Q2_K, "),
        (["MODEL", "MODEL", "Q8_0"], "OUT must be another file than IN, got "),
    ],
)
def test_what_cannot_be_quantised(
    tiny_target: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    """One sentence says why, and nothing is left behind."""
    words = [str(tiny_target) if word == "MODEL" else word for word in words]
    run = ersd("quantize", *words, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f"ersd: {message}")
    assert not list(tmp_path.iterdir())
