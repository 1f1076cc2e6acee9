"""Hand-written vector code: every variant that this machine supports equals NumPy."""

import numpy as np
import pytest
from ersd._core import simd_indices_at_least, simd_philox, simd_variants

import oracles

N_COUNTERS = 32  # simd::kCounters
SIZES = [*range(70), 127, 128, 129, 255, 1000, 4097]
KEYS = [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0xA4093822, 0x299F31D0)]
COUNTERS = [(0, 0, 0), (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), (77, 4, 1)]

each_variant = pytest.mark.parametrize("variant", simd_variants())


def indices_at_least(x, least, offset):
    """Returns what the variants must find; i32[number of values that reach least]."""
    return (offset + np.flatnonzero(x >= least)).astype(np.int32)


def assert_indices(variant, x, least, offset=0):
    """The variant finds the same indices as the definition."""
    found = simd_indices_at_least(variant, x, least, offset)
    np.testing.assert_array_equal(found, indices_at_least(x, np.float32(least), offset))


def test_variants():
    """Every machine has the portable variant; x86-64 machines may have others."""
    assert simd_variants()
    assert simd_variants() == ["portable", "avx2", "avx512"][: len(simd_variants())]
    with pytest.raises(ValueError, match=r"variant must be one of portable.*, got sse9"):
        simd_indices_at_least("sse9", np.zeros(1, np.float32), 0, 0)
    with pytest.raises(ValueError, match=r"len\(index\) must be 32, got 3"):
        simd_philox("portable", [0, 1, 2], (0, 0, 0), (0, 0))


@each_variant
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("counter", COUNTERS)
def test_philox(variant, key, counter):
    """The four words of 32 counters, in order or not, are those of the definition."""
    rng = np.random.default_rng(1)
    for index in (
        np.arange(N_COUNTERS),
        np.arange(N_COUNTERS) + (2**32 - N_COUNTERS),
        np.zeros(N_COUNTERS, int),
        *rng.integers(2**32, size=(20, N_COUNTERS)),
    ):
        words = simd_philox(variant, index.tolist(), counter, key)
        np.testing.assert_array_equal(words, oracles.philox((index, *counter), key))


@each_variant
@pytest.mark.parametrize("n", SIZES)
def test_indices_of_random_rows(variant, n):
    """Few, some, all or no values reach the limit, and the row begins at any alignment."""
    rng = np.random.default_rng(n)
    for start in range(17):
        x = rng.normal(size=n + start).astype(np.float32)[start:]
        for least in (-10, 0, 1.5, 10):
            assert_indices(variant, x, least, int(rng.integers(10**6)))


@each_variant
@pytest.mark.parametrize("least", [-np.inf, -1, 0, 1, np.inf, np.nan])
def test_indices_of_odd_values(variant, least):
    """NaN reaches no limit, infinity is a value like others, and equal values all reach theirs."""
    rng = np.random.default_rng(5)
    odd = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, 1.0, -1.0, 1e-45, -1e-45], np.float32)
    for n in SIZES:
        assert_indices(variant, rng.choice(odd, size=n), least)
        for value in odd:
            assert_indices(variant, np.full(n, value), least)


@each_variant
def test_single_index(variant):
    """One value that reaches the limit is found at every place."""
    for n in range(1, 70):
        for i in range(n):
            x = np.full(n, np.nextafter(np.float32(2), np.float32(0)))
            x[i] = 2
            assert_indices(variant, x, 2, -5)
