"""The public names: a change of a signature shows as a difference to tests/api.txt."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import is_typeddict

import ersd

GOLDEN = Path(__file__).parent / "api.txt"


def signatures() -> str:
    """Every public name with its signature, one a line."""
    lines = []
    for name in sorted(ersd.__all__):
        thing = getattr(ersd, name)
        if is_typeddict(thing):
            lines += [
                f"{name}.{option}: {kind.__forward_arg__}"
                for option, kind in thing.__annotations__.items()
            ]
        elif inspect.isclass(thing):
            lines += [f"{name}{inspect.signature(thing)}"]
            for member, value in sorted(vars(thing).items()):
                if member.startswith("_"):
                    continue
                function = value.__func__ if isinstance(value, classmethod) else value
                lines += [
                    f"{name}.{member}"
                    + (str(inspect.signature(function)) if inspect.isfunction(function) else "")
                ]
        elif inspect.ismodule(thing):
            lines += [
                f"{name}.{member}{inspect.signature(getattr(thing, member))}"
                for member in sorted(thing.__all__)
            ]
    return "\n".join(lines) + "\n"


def test_public_signatures() -> None:
    """To accept a change: ``python tests/test_api.py``."""
    assert signatures() == GOLDEN.read_text()


def test_everything_public_is_documented() -> None:
    """Classes, methods and functions have docstrings."""
    for name in ersd.__all__:
        thing = getattr(ersd, name)
        if inspect.isclass(thing):
            assert thing.__doc__
            assert all(
                inspect.getdoc(member)
                for key, member in vars(thing).items()
                if inspect.isfunction(member) and not key.startswith("_")
            )
        elif inspect.ismodule(thing):
            assert all(getattr(thing, member).__doc__ for member in thing.__all__)


if __name__ == "__main__":
    GOLDEN.write_text(signatures())
