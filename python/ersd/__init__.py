"""Exact speculative sampling by exponential races for GGUF models.

>>> from ersd import Generator
>>> gen = Generator("target.gguf", "draft.gguf")
>>> print(gen.generate("Once upon a time", max_tokens=64, seed=7).text)
"""

# This import loads llama.cpp. It must come before every import that uses ersd._core.
from ersd import _loader as _loader
from ersd import models
from ersd.engine.async_stream import AsyncStream
from ersd.engine.options import Options
from ersd.engine.stream import Stream
from ersd.generator import Generator
from ersd.llama import Llama, LlamaState
from ersd.results import Position, Result, Stats, Step, StepTree, TokenLogprob
from ersd.state import State

__version__ = _loader.VERSION
__all__ = [
    "AsyncStream",
    "Generator",
    "Llama",
    "LlamaState",
    "Options",
    "Position",
    "Result",
    "State",
    "Stats",
    "Step",
    "StepTree",
    "Stream",
    "TokenLogprob",
    "__version__",
    "models",
]
