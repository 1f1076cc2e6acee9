"""The engine: a target and perhaps a draft in memory, and generation with them.

Only this package uses the extension module ersd._core. Modules above it import from here, by plain
names, what they need of it beside the class `Engine`.
"""

from ersd._core import (
    Model,
    Teacher,
    TreeShape,
    batch_shape,
    devices,
    expected_tokens,
    features,
    optimal_shape,
    quantize,
    sequence_shape,
    set_verbose,
)
from ersd.engine.core_profile import COST_WIDTHS
from ersd.engine.engine import Engine

__all__ = [
    "COST_WIDTHS",
    "Engine",
    "Model",
    "Teacher",
    "TreeShape",
    "batch_shape",
    "devices",
    "expected_tokens",
    "features",
    "optimal_shape",
    "quantize",
    "sequence_shape",
    "set_verbose",
]
