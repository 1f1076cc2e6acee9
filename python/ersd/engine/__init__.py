"""The engine: a target and perhaps a draft in memory, and generation with them.

Only this package uses the extension module ersd._core. Other modules import from here what they
need of it.
"""

from ersd._core import (
    Embedder,
    Model,
    ModelFacts,
    RowReader,
    Teacher,
    TreeShape,
    batch_shape,
    check_model_file,
    devices,
    expected_tokens,
    features,
    model_facts,
    optimal_shape,
    quantize,
    sequence_shape,
    set_verbose,
    tokenize_bytes,
)
from ersd.engine.core_profile import COST_LENGTHS, COST_WIDTHS
from ersd.engine.engine import Engine

__all__ = [
    "COST_LENGTHS",
    "COST_WIDTHS",
    "Embedder",
    "Engine",
    "Model",
    "ModelFacts",
    "RowReader",
    "Teacher",
    "TreeShape",
    "batch_shape",
    "check_model_file",
    "devices",
    "expected_tokens",
    "features",
    "model_facts",
    "optimal_shape",
    "quantize",
    "sequence_shape",
    "set_verbose",
    "tokenize_bytes",
]
