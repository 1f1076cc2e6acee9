"""`ersd.Llama` has the constructor and the methods of llama_cpp.Llama, or says why not."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

import tiny
from ersd import Generator, Llama

pytestmark = pytest.mark.no_sanitizer

# Public names of llama_cpp.Llama that ersd.Llama lacks, and why.
ABSENT = {
    "ctx": "a context of llama.cpp that others change would no longer hold what ersd knows of it",
}
# Parameters that differ: "method.parameter" and why.
DIFFERENT = {
    "create_completion.stop": "an empty tuple, which cannot be changed, instead of an empty list",
    "__call__.stop": "as for create_completion",
    "create_chat_completion.stop": "as for create_completion",
}
# Attributes of an object that ersd.Llama lacks, and why.
LOW_LEVEL = {
    "model_params": "a structure of llama.cpp, whose members are arguments of the constructor",
}


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    """Returns the parameters by their names, without those that take what is left."""
    found = inspect.signature(function).parameters
    return {
        name: each
        for name, each in found.items()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }


def methods() -> list[str]:
    """Returns the names of the methods of llama_cpp.Llama that are called by users."""
    names = [name for name in vars(llama_cpp.Llama) if not name.startswith("_")]
    return sorted([*names, "__init__", "__call__"])


@pytest.mark.parametrize("name", methods())
def test_signatures_are_llamas(name: str) -> None:
    """Names, order, kinds and defaults of parameters are the same."""
    theirs = inspect.getattr_static(llama_cpp.Llama, name)
    if name in ABSENT:
        assert not hasattr(Llama, name)
        return
    ours = inspect.getattr_static(Llama, name)
    assert isinstance(ours, property) == isinstance(theirs, property)
    if isinstance(theirs, property):
        return
    ours, theirs = (parameters(getattr(cls, name)) for cls in (Llama, llama_cpp.Llama))
    for (own_name, own), (other_name, other) in zip(ours.items(), theirs.items(), strict=False):
        assert own_name == other_name
        assert own.kind == other.kind
        if f"{name}.{other_name}" not in DIFFERENT:
            assert own.default == other.default, other_name
    assert len(ours) >= len(theirs)
    further = list(ours.values())[len(theirs) :]
    assert all(each.kind == each.KEYWORD_ONLY for each in further)


def test_attributes_are_llamas(tiny_target: Path) -> None:
    """Public attributes have the same values, also those of the context."""
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "n_threads_batch": 1}
    ours, theirs = (
        cls(str(tiny_target), verbose=False, **options) for cls in (Llama, llama_cpp.Llama)
    )
    for name, value in vars(theirs).items():
        if name.startswith("_") or name in LOW_LEVEL:
            continue
        assert hasattr(ours, name), name
        if isinstance(value, bool | int | float | str | dict | None) and name != "context_params":
            assert getattr(ours, name) == value, name
    for name, _ in theirs.context_params._fields_:
        value = getattr(theirs.context_params, name)
        if hasattr(ours.context_params, name) and isinstance(value, bool | int | float):
            assert getattr(ours.context_params, name) == value, name
    for name in ("n_ctx", "n_embd", "n_vocab", "token_bos", "token_eos", "token_nl"):
        assert getattr(ours, name)() == getattr(theirs, name)()
    assert ours.model == llama_cpp.llama_model_p(ours.model)  # type: ignore[operator]
    vocab = llama_cpp.llama_model_get_vocab(ours.model)
    assert llama_cpp.llama_vocab_n_tokens(vocab) == ours.n_vocab()


REFUSED = {
    "attention_type": 1,
    "swa_full": False,
    "numa": True,
    "draft_model": object(),
    "type_k": 12,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_honoured_is_refused_by_name(tiny_target: Path, name: str) -> None:
    """The error says who refuses, what was expected and what came."""
    with pytest.raises(ValueError, match=f"Llama: {name} must be .*, got {REFUSED[name]!r}"):
        Llama(str(tiny_target), verbose=False, **{name: REFUSED[name]})


def test_models_with_images_are_refused(tiny_target: Path) -> None:
    """A handler of images needs a context of llama.cpp."""

    class Images:
        clip_model_path = "clip.gguf"

    with pytest.raises(ValueError, match="chat_handler must be one for text"):
        Llama(str(tiny_target), verbose=False, chat_handler=Images())


def test_unknown_arguments_are_ignored_with_a_warning(tiny_target: Path) -> None:
    """llama_cpp.Llama ignores them, and libraries rely on that. Old ones give no warning."""
    with pytest.warns(UserWarning, match="unknown argument 'n_context'"):
        Llama(str(tiny_target), n_ctx=64, n_threads=1, verbose=False, n_context=3)
    Llama(str(tiny_target), n_ctx=64, n_threads=1, verbose=False, f16_kv=True, n_parts=-1)


def test_missing_files() -> None:
    """The error is llama_cpp.Llama's."""
    with pytest.raises(ValueError, match=r"Model path does not exist: /no/model\.gguf"):
        Llama("/no/model.gguf")


def test_a_vocabulary_alone(tiny_target: Path) -> None:
    """The object tokenises, and says why it does not generate."""
    llama = Llama(str(tiny_target), vocab_only=True, verbose=False)
    assert llama.detokenize(llama.tokenize(b"the rain")) == b"the rain"
    with pytest.raises(RuntimeError, match="vocab_only=True"):
        llama("the")
    with pytest.raises(ValueError, match="embedding must be False with vocab_only"):
        Llama(str(tiny_target), vocab_only=True, embedding=True, verbose=False)


def test_the_trained_length(tiny_target: Path) -> None:
    """n_ctx=0 stands for it."""
    llama = Llama(str(tiny_target), n_ctx=0, n_threads=1, verbose=False)
    assert llama.n_ctx() == Generator(tiny_target, n_threads=1).target.n_ctx_train == 4096


def test_copies_and_the_end(tiny_target: Path) -> None:
    """A pickled object is loaded again with its arguments. A closed one says so."""
    with Llama(str(tiny_target), n_ctx=64, n_threads=1, verbose=False, seed=5) as llama:
        copy = pickle.loads(pickle.dumps(llama))
        assert copy.n_ctx() == 64
        tokens = llama.tokenize(b"the rain")
        assert (
            llama("the", max_tokens=5, seed=3)["choices"]
            == copy("the", max_tokens=5, seed=3)["choices"]
        )
        assert llama._seed == copy._seed == 3
    for call in (llama.n_vocab, lambda: llama("the"), lambda: llama.eval(tokens)):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_the_models_parameters(tiny_target: Path, folder: Path) -> None:
    """Overridden metadata, the encoding of positions and an adapter change the text as there."""
    adapter = tiny.write_lora(folder / "llama_class.gguf")
    changes: list[dict[str, Any]] = [
        {},
        {"rope_freq_base": 200.0},
        {"rope_freq_scale": 0.25},
        {"rope_scaling_type": 2, "yarn_orig_ctx": 16, "rope_freq_scale": 0.25},
        {"kv_overrides": {"llama.rope.freq_base": 50.0}},
        {"lora_path": str(adapter), "lora_scale": 3.0},
        {"type_k": 0, "type_v": 0, "flash_attn": True},
    ]
    prompt, texts = "the rain of the world in " * 6, set()
    text = dict.fromkeys(range(3, 259), -1e3)  # llama-cpp-python drops bytes that are not UTF-8
    for change in changes:
        options = {"n_ctx": 256, "n_threads": 1, "n_threads_batch": 1, "verbose": False, **change}
        ours, theirs = (
            cls(str(tiny_target), **options)(prompt, max_tokens=24, temperature=0, logit_bias=text)
            for cls in (Llama, llama_cpp.Llama)
        )
        assert ours["choices"][0]["text"] == theirs["choices"][0]["text"], change
        texts.add(ours["choices"][0]["text"])
    assert len(texts) >= len(changes) - 1  # types of the cache change little
