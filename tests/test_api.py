"""The public names: a change of a signature shows as a difference to tests/api.txt."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, is_typeddict

import ersd

GOLDEN = Path(__file__).parent / "api.txt"


def members(cls: type) -> dict[str, Any]:
    """Returns the public members of a class and of its bases within the package, sorted by name."""
    bases = [base for base in cls.__mro__ if base.__module__.split(".")[0] == "ersd"]
    found = {name: value for base in reversed(bases) for name, value in vars(base).items()}
    return {name: found[name] for name in sorted(found) if not name.startswith("_")}


def function_of(member: Any) -> Any:
    """Returns the function of a method or a property, or None if the member has none."""
    if isinstance(member, property):
        return member.fget
    member = getattr(member, "__func__", member)
    return member if inspect.isfunction(member) else None


def signature(name: str, function: Any) -> str:
    """Returns a signature with one line for each parameter, which makes small differences."""
    parameters, kinds = list(inspect.signature(function).parameters.values()), inspect.Parameter
    words = []
    for i, parameter in enumerate(parameters):
        before = parameters[i - 1].kind if i else None
        if parameter.kind == kinds.KEYWORD_ONLY and before not in (
            kinds.KEYWORD_ONLY,
            kinds.VAR_POSITIONAL,
        ):
            words.append("*")
        words.append(str(parameter))
        after = parameters[i + 1].kind if i + 1 < len(parameters) else None
        if parameter.kind == kinds.POSITIONAL_ONLY and after != kinds.POSITIONAL_ONLY:
            words.append("/")
    returned = inspect.signature(function).return_annotation
    arrow = (
        "" if returned is inspect.Signature.empty else f" -> {inspect.formatannotation(returned)}"
    )
    return "\n".join([f"{name}(", *(f"    {word}" for word in words), f"){arrow}"])


def signatures() -> str:
    """Returns every public name with its signature."""
    lines = []
    for name in sorted(ersd.__all__):
        thing = getattr(ersd, name)
        if is_typeddict(thing):
            for option, kind in thing.__annotations__.items():
                lines.append(f"{name}.{option}: {kind.__forward_arg__}")
        elif inspect.isclass(thing):
            lines.append(signature(name, thing))
            for key, member in members(thing).items():
                is_method = function_of(member) and not isinstance(member, property)
                key = f"{name}.{key}"
                lines.append(signature(key, function_of(member)) if is_method else key)
        elif inspect.ismodule(thing):
            for key in sorted(thing.__all__):
                lines.append(signature(f"{name}.{key}", getattr(thing, key)))
    return "\n".join(lines) + "\n"


def test_public_signatures() -> None:
    """``python tests/test_api.py`` accepts a change."""
    assert signatures() == GOLDEN.read_text()


def test_everything_public_is_documented() -> None:
    """Classes, methods, properties and functions have docstrings of their own."""
    missing, n_seen = [], 0
    for name in ersd.__all__:
        thing = getattr(ersd, name)
        things = {name: thing}
        if inspect.isclass(thing):
            found = {key: function_of(member) for key, member in members(thing).items()}
            things |= {f"{name}.{key}": function for key, function in found.items() if function}
        elif inspect.ismodule(thing):
            things |= {f"{name}.{key}": getattr(thing, key) for key in thing.__all__}
        elif isinstance(thing, str):
            continue
        missing += [key for key, each in things.items() if not each.__doc__]
        n_seen += len(things)
    assert n_seen > 30
    assert not missing


if __name__ == "__main__":
    GOLDEN.write_text(signatures())
