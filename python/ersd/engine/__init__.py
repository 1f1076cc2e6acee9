"""The engine: a target and perhaps a draft in memory, and generation with them.

Only this package uses the extension module ersd._core. Other modules import from here what they
need of it.
"""

from ersd._core import (
    Model,
    Teacher,
    TreeShape,
    batch_shape,
    check_model_file,
    devices,
    expected_tokens,
    features,
    optimal_shape,
    quantize,
    sequence_shape,
    set_verbose,
)
from ersd.engine.core_profile import COST_LENGTHS, COST_WIDTHS
from ersd.engine.engine import Engine

__all__ = [
    "COST_LENGTHS",
    "COST_WIDTHS",
    "Engine",
    "Model",
    "Teacher",
    "TreeShape",
    "batch_shape",
    "check_model_file",
    "devices",
    "expected_tokens",
    "features",
    "optimal_shape",
    "quantize",
    "sequence_shape",
    "set_verbose",
]
