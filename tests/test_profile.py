"""Profiles: they carry over to other processes, costs are measured once, broken files are safe."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
TREE = FULL | {"strategy": "tree", "draft_nodes": 8, "max_tokens": 100}


def generator(target: Path, draft: Path | None, **options: Any) -> Generator:
    """Returns the tiny pair on one thread, without a profile unless one is given."""
    return Generator(target, draft, **({"n_ctx": 512, "n_threads": 1, "profile": False} | options))


def calls(generator: Generator, seed: int) -> tuple[list[int], int, list[int]]:
    """Returns tokens, target calls and ranks of one generation."""
    result = generator.generate("the rain", seed=seed, **TREE)
    return result.tokens, result.stats.target_calls, result.stats.rank_histogram


def changed(path: Path, out: Path, **arrays: Any) -> Path:
    """Writes the profile with some arrays replaced; None leaves one out."""
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files} | arrays
    np.savez(out, **{name: array for name, array in kept.items() if array is not None})
    return out


@pytest.fixture(scope="module")
def taught(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A pair that has learnt from some texts and measured its costs."""
    taught = generator(tiny_target, tiny_draft)
    for seed in range(6):
        calls(taught, seed)
    taught.generate("a", max_tokens=2, draft_nodes="auto")
    return taught


@pytest.fixture(scope="module")
def profile(taught: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of what this pair has learnt."""
    path = tmp_path_factory.mktemp("profile") / "pair.npz"
    assert taught.save_profile(path) == str(path)
    return path


def test_another_generator_goes_on_from_it(
    taught: Generator, profile: Path, tiny_target: Path, tiny_draft: Path
) -> None:
    """Trees and ranks are those that the first one would have had.

    The text is the same with and without the profile.
    """
    taught.load_profile(profile)
    expected = [calls(taught, seed) for seed in (20, 21)]
    ours = generator(tiny_target, tiny_draft, profile=profile)
    assert [calls(ours, seed) for seed in (20, 21)] == expected
    fresh = generator(tiny_target, tiny_draft)
    untaught = [calls(fresh, seed) for seed in (20, 21)]
    assert [text for text, *_ in untaught] == [text for text, *_ in expected]
    assert [ranks for *_, ranks in untaught] != [ranks for *_, ranks in expected]
    fresh.load_profile(profile)
    assert [calls(fresh, seed) for seed in (20, 21)] == expected
    fresh.forget()
    assert [calls(fresh, seed) for seed in (20, 21)] == untaught


def test_costs_are_measured_once(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first "auto" writes them to the cache folder.

    The next Generator that is loaded with the same options reads them there.
    """
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    first = generator(tiny_target, tiny_draft, profile=True)
    first.generate("a", max_tokens=2, draft_nodes=4)
    assert not list(tmp_path.glob("*.npz"))
    first.generate("a", max_tokens=2)
    (path,) = tmp_path.glob("*.npz")
    again = generator(tiny_target, tiny_draft, profile=True)
    with np.load(path) as file:
        assert again.profile().target_ms == file["target_ms"].tolist()
    assert not generator(tiny_target, tiny_draft, profile=True, type_k="f32").profile().has_costs
    assert not generator(tiny_target, tiny_draft).profile().has_costs
    # What save_profile() puts there is what later ones begin with.
    for seed in range(3):
        calls(again, seed)
    again.save_profile()
    assert calls(generator(tiny_target, tiny_draft, profile=True), 9) == calls(again, 9)


def test_a_history_is_kept_if_asked_for(
    tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, another Generator drafts a text again that it has not seen. By default it is not."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    options = FULL | {"seed": 3, "max_tokens": 40, "draft_nodes": 8, "draft_sources": ["history"]}
    first = generator(tiny_target, None)
    texts = [first.generate(prompt, **options) for prompt in ("the rain", "in the")]
    first.save_profile(tmp_path / "without.npz")
    first.save_profile(history=True)
    forgetful = generator(tiny_target, None, profile=tmp_path / "without.npz")
    assert not forgetful.generate("the rain", **options).stats.drafted
    ours = generator(tiny_target, None, profile=True)
    for prompt, text in zip(("the rain", "in the"), texts, strict=True):
        again = ours.generate(prompt, **options)
        assert again.tokens == text.tokens
        assert again.stats.accepted_by["history"] > 25
    # What is measured later goes into the file beside the history.
    ours.generate("a", max_tokens=2)
    reader = generator(tiny_target, None, profile=True)
    assert reader.profile().has_costs
    assert reader.generate("the rain", **options).stats.accepted_by["history"] > 25
    # A Generator that keeps no history does not take one from a file either.
    closed = generator(tiny_target, None, profile=True, n_history=0)
    assert not closed.generate("the rain", **options).stats.drafted


def test_damage_anywhere_does_no_harm(
    taught: Generator,
    profile: Path,
    tiny_target: Path,
    tiny_draft: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Flipped bytes in the cache folder cost one line, in a file that was named one ValueError."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    cached = Path(generator(tiny_target, tiny_draft).save_profile())
    whole = profile.read_bytes()
    rng, n_lines = np.random.default_rng(1), 0
    for i in range(300):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 1 + i % 8):
            changed[at] ^= int(rng.integers(1, 256))
        cached.write_bytes(changed)
        message = ""
        try:
            taught.load_profile(cached)
        except ValueError as error:
            message = str(error)
            assert message.startswith(f"profile '{cached}' cannot be used: ")
            assert "\n" not in message
        if message and i % 10 == 0:
            generator(tiny_target, tiny_draft, profile=True)
            assert capfd.readouterr().err == f"ersd: starting without a profile: {message}\n"
            n_lines += 1
    assert n_lines > 20
    generator(tiny_target, tiny_draft, profile=True).generate("a", max_tokens=2)
    capfd.readouterr()
    assert generator(tiny_target, tiny_draft, profile=True).profile().has_costs
    assert capfd.readouterr().err == ""


def test_larger_than_any_profile(taught: Generator, tmp_path: Path) -> None:
    """A small file that unpacks to gigabytes, and a length that no memory has, are refused."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("format.npy", bytes(1 << 29))
    with pytest.raises(ValueError, match="it has more than 268435456 bytes"):
        taught.load_profile(path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "format.npy", b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header
        )
    with pytest.raises(ValueError, match="cannot be used"):
        taught.load_profile(path)


def test_costs_of_another_machine_are_left_out(
    profile: Path, taught: Generator, tiny_target: Path, tiny_draft: Path, tmp_path: Path
) -> None:
    """The rest of the profile is used."""
    assert generator(tiny_target, tiny_draft, profile=profile).profile().has_costs
    elsewhere = generator(
        tiny_target,
        tiny_draft,
        profile=changed(profile, tmp_path / "elsewhere.npz", machine="another"),
    )
    assert not elsewhere.profile().has_costs
    taught.load_profile(profile)
    assert calls(elsewhere, 30) == calls(taught, 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "expected format 2, got 99"),
        ({"pair": "another"}, "it is that of another target or draft"),
        ({"rank_weights": None}, "it has no 'rank_weights"),
        ({"rank_weights": np.ones(3)}, "cannot be used"),
        ({"rank_weights": -np.ones(65)}, "weights of ranks must be finite and not negative"),
        ({"target_ms": np.full((2, 19), np.nan)}, "costs must be positive"),
        ({"draft_ms": np.zeros((2, 19))}, "costs must be those of target and draft, or of neither"),
        ({"margin_coefficients": np.full(5, np.nan)}, "coefficients between -10 and 10"),
        ({"margin_coefficients": np.full(5, 11.0)}, "coefficients between -10 and 10"),
        ({"margin_information": -np.eye(5)}, "positive definite"),
        ({"margin_information": np.triu(np.ones((5, 5))) + 9 * np.eye(5)}, "symmetric"),
        ({"correction_bias": np.ones(3, np.float32)}, "equally long"),
        ({"history": np.array([515], np.int32)}, "tokens of the history must be below 515"),
        ({"history": np.array([-2], np.int32)}, "tokens of the history must be below 515"),
        ({"history": np.ones(2, np.float32)}, r"history must be tokens, got float32\[2\]"),
    ],
)
def test_what_is_no_profile_is_refused(
    taught: Generator, profile: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """The error names the file and the reason.

    The Generator still knows what it knew before.
    """
    taught.load_profile(profile)
    before = vars(taught.profile())
    with pytest.raises(ValueError, match=message) as error:
        taught.load_profile(changed(profile, tmp_path / "wrong.npz", **change))
    assert "wrong.npz' cannot be used: " in str(error.value)
    assert all(
        np.array_equal(array, before[name]) for name, array in vars(taught.profile()).items()
    )


def test_wrong_files(
    taught: Generator, tiny_target: Path, tiny_draft: Path, tmp_path: Path
) -> None:
    """Refused are missing files, other files, and those of another pair or of a target alone."""
    with pytest.raises(FileNotFoundError, match="no such profile: 'nowhere"):
        generator(tiny_target, tiny_draft, profile="nowhere.npz")
    for content in (b"", b"PK", b"text", np.arange(3).tobytes()):
        (tmp_path / "no.npz").write_bytes(content)
        with pytest.raises(ValueError, match="cannot be used"):
            taught.load_profile(tmp_path / "no.npz")
    other = generator(tiny_target, tiny.write_llama(tmp_path / "other.gguf", noise=0.5))
    other.save_profile(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="another target or draft"):
        taught.load_profile(tmp_path / "other.npz")
    alone = generator(tiny_target, None)
    alone.save_profile(tmp_path / "alone.npz")
    for one, name in ((taught, "alone.npz"), (alone, "other.npz")):
        with pytest.raises(ValueError, match="another target or draft"):
            one.load_profile(tmp_path / name)
    with pytest.raises(OSError, match=r"no\.npz"):
        taught.save_profile(tmp_path / "no.npz" / "deeper.npz")
    names = {"no.npz", "other.gguf", "other.npz", "alone.npz"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_target_alone_has_costs_too(tiny_target: Path, tmp_path: Path) -> None:
    """They say what drafts from texts are worth; those of a draft model are refused."""
    alone, path = generator(tiny_target, None), tmp_path / "alone.npz"
    assert not alone.profile().has_costs
    alone.generate("a", max_tokens=2, draft_nodes="auto")
    assert alone.profile().has_costs
    alone.save_profile(path)
    again = generator(tiny_target, None, profile=path)
    assert again.profile().target_ms == alone.profile().target_ms
    assert not np.any(again.profile().draft_ms)
    changed(path, path, draft_ms=np.ones((2, 19)))
    with pytest.raises(ValueError, match="costs must be those of the target alone"):
        again.load_profile(path)


def test_wrong_costs_last_one_answer(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs that were measured in a busy moment are measured again, and the file is written."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    generator(tiny_target, tiny_draft, profile=True).generate("a", max_tokens=2)
    (path,) = tmp_path.glob("*.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    true_ms = arrays["target_ms"].max()
    np.savez_compressed(path, **arrays | {"target_ms": np.full((2, 19), 1000.0)})
    wrong = generator(tiny_target, tiny_draft, profile=True)
    assert wrong.profile().target_ms[0][0] == 1000
    wrong.generate("a", max_tokens=200)
    wrong.generate("a", max_tokens=2)
    assert np.max(wrong.profile().target_ms) < 30 * true_ms
    with np.load(path) as file:
        assert file["target_ms"].max() < 30 * true_ms
    # Calls that took so much less than the wrong costs do not make drafting look cheap now.
    with_one = wrong.forecast()[1]
    assert with_one.ms_per_call > 0.5 * wrong.profile().target_ms[0][1]
