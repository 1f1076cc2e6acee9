"""The student: its rounding, and its file in llama.cpp."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from ersd import Generator

pytestmark = pytest.mark.no_sanitizer

torch = pytest.importorskip("torch", reason="needs torch: pip install 'ersd[distill]'")

from ersd.distill import rounding, target  # noqa: E402
from ersd.distill.export import DraftFile, load  # noqa: E402
from ersd.distill.student import Dimensions, Student  # noqa: E402


def test_rounding() -> None:
    """The packed matrix is closer to the original than the gguf package's own rounding.

    The student learns with the same numbers, and zeros stay zeros.
    """
    torch.manual_seed(0)
    model = Student(Dimensions(96, 64, 1))
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
    """A student with random weights gives the same distributions in llama.cpp as in PyTorch.

    For that, PyTorch gets the rounded weights of the file.
    """
    torch.manual_seed(0)
    model = Student(Dimensions(writer.target.n_vocab, 128, 2))
    for parameter in model.parameters():
        torch.nn.init.normal_(
            parameter, std=parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
        )
        if parameter.ndim == 1:
            parameter.data += 1
    model.token_embd.weight.data *= 10
    path = tmp_path / "student.gguf"
    DraftFile(model, writer_path).write(path, {"seed": 1})
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
    # A draft that learns further begins with the weights of its file.
    again = load(path, model.dimensions)
    for name, parameter in model.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter), name
    with pytest.raises(ValueError, match="not a draft of `ersd distill` with width 64, 2 layers"):
        load(path, Dimensions(writer.target.n_vocab, 64, 2))
    with pytest.raises(ValueError, match="not a draft of `ersd distill`"):
        load(writer_path, model.dimensions)


def test_states_of_other_tokens_are_estimated() -> None:
    """Known states are kept. Others are exact where states depend linearly on embeddings."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(300, 20)).astype(np.float32)
    embedding /= np.sqrt(np.square(embedding).mean(1, keepdims=True))
    expected = embedding @ rng.normal(size=(20, 30)).astype(np.float32) + 0.5
    tokens = rng.permutation(300)[:100].tolist()
    found = target.all_states(3 * embedding, tokens, expected[tokens])
    assert np.array_equal(found[tokens], expected[tokens])
    assert np.abs(found - expected).max() < 0.1
    noisy = target.all_states(embedding, [5], expected[[5]])  # far fewer than the map's numbers
    assert np.isfinite(noisy).all()
