"""What ``ersd --version`` prints."""

from __future__ import annotations

from ersd import __version__, _loader
from ersd.engine import devices

__all__ = ["version"]


def version() -> str:
    """Return the versions of ersd and of llama-cpp-python, and the devices of llama.cpp."""
    found = "\n".join(f"  {name}: {description}" for name, description, _ in devices())
    return f"ersd {__version__}, {_loader.REQUIREMENT.replace('==', ' ')}\ndevices:\n{found}"
