"""What ``ersd --version`` prints."""

from __future__ import annotations

from ersd import __version__, _loader
from ersd.engine import devices

__all__ = ["version"]

# Every target is tested when it is loaded; this says what to expect.
EXACT = (
    "on the CPU with weights in Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0; "
    "`ersd tune -m MODEL` says it of a model"
)


def version() -> str:
    """Return the versions of ersd and of llama-cpp-python, and the devices of llama.cpp."""
    found = "\n".join(f"  {name}: {description}" for name, description, _ in devices())
    head = f"ersd {__version__}, {_loader.REQUIREMENT.replace('==', ' ')}"
    return f"{head}\ndevices:\n{found}\nexact text: {EXACT}"
