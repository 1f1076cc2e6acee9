"""What is said of a type of weights, by descriptions as llama.cpp writes them."""

import pytest

from ersd.kernels import advice


@pytest.mark.parametrize(
    ("description", "beginning"),
    [
        ("llama 135M Q4_1", "llama.cpp's CPU code has no batch kernel for Q4_1"),
        ("qwen3 8B Q5_1", "llama.cpp's CPU code has no batch kernel for Q5_1"),
        ("llama 135M Q4_0", "Q4_0 is computed four rows at a time"),
        ("gemma3 270M Q4_K - Medium", "Q4_K is computed four rows at a time"),
        ("llama 7B IQ4_NL - 4.5 bpw", "IQ4_NL is computed four rows at a time"),
        ("llama 135M Q8_0", "Q8_0 has a matrix kernel: a further token"),
        ("llama 135M F16", "F16 has a matrix kernel: a further token"),
        ("llama 135M BF16", "BF16 has a matrix kernel: a further token"),
        ("llama ?B all F32", "all F32 has a matrix kernel: a further token"),
        ("llama 7B Q6_K", "Q6_K has a matrix kernel from about 8 tokens"),
        ("llama 7B Q3_K - Medium", "Q3_K has a matrix kernel from about 8 tokens"),
    ],
)
def test_advice(description: str, beginning: str) -> None:
    """The type is found in the description, and its kind in llama.cpp's source."""
    assert advice(description).startswith(beginning)
