"""What ``ersd --version`` prints."""

from __future__ import annotations

from ersd import __version__, _core, _loader

__all__ = ["version"]


def version() -> str:
    """The versions of ersd and of llama-cpp-python, and the devices that llama.cpp has found."""
    devices = "\n".join(f"  {name}: {description}" for name, description, _ in _core.devices())
    return f"ersd {__version__}, {_loader.REQUIREMENT.replace('==', ' ')}\ndevices:\n{devices}"
