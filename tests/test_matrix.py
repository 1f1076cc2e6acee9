"""Products with weights in Q8_0, beside those of llama.cpp for one token and beside NumPy."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from ersd import _core

VARIANTS = _core.matrix_variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="no variant for this processor")

Q8_0 = gguf.GGMLQuantizationType.Q8_0
Array = np.ndarray


class CpuTraits(ctypes.Structure):
    """ggml_type_traits_cpu of ggml-cpu.h."""

    _fields_ = (
        ("from_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        (
            "vec_dot",
            ctypes.CFUNCTYPE(
                None,
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_int,
            ),
        ),
    )


@pytest.fixture(scope="session")
def llama() -> CpuTraits:
    """llama.cpp's functions for Q8_0."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-cpu.*"))))
    library.ggml_cpu_init()
    library.ggml_get_type_traits_cpu.restype = ctypes.POINTER(CpuTraits)
    return library.ggml_get_type_traits_cpu(int(Q8_0)).contents


def expected(llama: CpuTraits, weights: Array, inputs: Array) -> Array:
    """Returns llama.cpp's products, one by one."""
    n_tokens, n_numbers = inputs.shape
    out = np.zeros((n_tokens, len(weights)), np.float32)
    blocks = np.zeros(weights.shape[1], np.uint8)
    for token in range(n_tokens):
        llama.from_float(inputs[token].ctypes.data, blocks.ctypes.data, n_numbers)
        for row in range(len(weights)):
            to = out[token, row:].ctypes.data
            llama.vec_dot(n_numbers, to, 0, weights[row].ctypes.data, 0, blocks.ctypes.data, 0, 1)
    return out


def random_weights(rng: np.random.Generator, rows: int, numbers: int) -> Array:
    """Returns random weights in Q8_0 as bytes: u8[rows, bytes of a row]."""
    return gguf.quants.quantize(rng.normal(size=(rows, numbers)).astype(np.float32), Q8_0)


def equal_bits(a: Array, b: Array) -> bool:
    """Whether two arrays of floats have the same bits."""
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("numbers", [32, 64, 576, 1536])
@pytest.mark.parametrize("rows", [1, 3, 4, 18, 67])
def test_has_the_bits_of_llama(llama: CpuTraits, variant: str, numbers: int, rows: int) -> None:
    """For every number of tokens, and however many threads there are."""
    rng = np.random.default_rng(rows * numbers)
    weights = random_weights(rng, rows, numbers)
    inputs = rng.normal(size=(19, numbers)).astype(np.float32)
    products = expected(llama, weights, inputs)
    for n_tokens in [*range(1, 10), 16, 19]:
        for threads in (1, 2, 3):
            ours = _core.multiply(variant, weights, inputs[:n_tokens], threads)
            assert equal_bits(ours, products[:n_tokens])


@pytest.mark.parametrize("variant", VARIANTS)
def test_extreme_numbers(llama: CpuTraits, variant: str) -> None:
    """Zeros, the least and greatest numbers of a block, and scales that are tiny or infinite."""
    rng = np.random.default_rng(0)
    weights = random_weights(rng, 8, 128)
    blocks = weights.reshape(8, 4, 34)
    blocks[0] = 0
    blocks[1, :, 2:] = np.array(-128, np.int8).view(np.uint8)
    blocks[2, :, 2:] = 127
    blocks[3, :, :2] = np.array(1, np.uint16).reshape(1).view(np.uint8)  # the least scale
    inputs = rng.normal(size=(6, 128)).astype(np.float32)
    inputs[0] = 0
    inputs[1] = -1
    inputs[2] *= 1e-7
    inputs[3] *= 1e6
    inputs[4, :32] = 0
    inputs[5] *= 1e9  # too large for a scale in half precision
    products = expected(llama, weights, inputs)
    assert np.isinf(products).any() or np.isnan(products).any()
    assert equal_bits(_core.multiply(variant, weights, inputs, 1), products)


@pytest.mark.parametrize("variant", VARIANTS)
def test_close_to_numpy(variant: str) -> None:
    """What rounding the inputs to 8 bits leaves of the product in double precision."""
    rng = np.random.default_rng(3)
    weights = random_weights(rng, 40, 576)
    inputs = rng.normal(size=(5, 576)).astype(np.float32)
    exact = inputs.astype(np.float64) @ gguf.quants.dequantize(weights, Q8_0).astype(np.float64).T
    ours = _core.multiply(variant, weights, inputs, 2)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=0.02 * np.sqrt(576))


def test_refuses_other_sizes() -> None:
    """Rows of weights that are shorter than the inputs."""
    weights = random_weights(np.random.default_rng(0), 2, 64)
    with pytest.raises(ValueError, match="bytes of a row of weights must be 102, got 68"):
        _core.multiply(VARIANTS[-1], weights, np.zeros((1, 96), np.float32), 1)
    with pytest.raises(ValueError, match="variant must be one of matrix_variants"):
        _core.multiply("sse1", weights, np.zeros((1, 64), np.float32), 1)
