"""Targets on the first GPU that llama.cpp finds: a real one, or Mesa's driver without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_texts import check_texts
from ersd.engine import devices

GPUS = [name for name, _, is_gpu in devices() if is_gpu and not name.startswith("RPC")]
pytestmark = pytest.mark.skipif(not GPUS, reason="llama.cpp finds no GPU")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
def test_drafted_texts_are_plain_ones(folder: Path, kind: str) -> None:
    """With exact=True they are, though a GPU's bits depend on widths."""
    check_texts(folder, kind, GPUS[0], main_gpu=0, split_mode=0)
