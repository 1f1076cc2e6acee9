"""Models from the Hugging Face Hub, without a network: which files are downloaded and loaded."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny
from ersd import Generator

pytestmark = pytest.mark.no_sanitizer

hub = pytest.importorskip("huggingface_hub")

FILES = {
    "big/Model-GGUF": [
        "README.md",
        "model-Q4_0.gguf",
        "model-Q8_0.gguf",
        "sub/model-F16.gguf",
        "tokenizer.json",
    ]
    + [f"parts/model-BF16-0000{i}-of-00003.gguf" for i in (1, 2, 3)],
    "small/Draft-GGUF": ["draft-Q8_0.gguf", "draft-Q2_K.gguf"],
}


class Hub:
    """Two repositories on disk in place of the Hub."""

    def __init__(self, folder: Path, target: Path, draft: Path, parts: Path) -> None:
        """Every model file of big/ is the target, and every one of small/ the draft."""
        self.folder, self.fetched, self.listed = folder, [], []
        self.models = {"big/Model-GGUF": target, "small/Draft-GGUF": draft}
        self.parts = parts

    def list_repo_files(self, repo_id: str) -> list[str]:
        """Returns the names of files, as huggingface_hub does."""
        self.listed.append(repo_id)
        return FILES[repo_id]

    def hf_hub_download(
        self, repo_id: str, filename: str, *, local_dir: Any, cache_dir: Any
    ) -> str:
        """Copies a file, where huggingface_hub downloads it."""
        assert filename in FILES[repo_id]
        place = (
            Path(local_dir or Path(cache_dir or self.folder / "cache") / repo_id.replace("/", "--"))
            / filename
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        source = self.parts / f"m-{filename[-19:]}" if "-of-" in filename else self.models[repo_id]
        shutil.copy(source, place)
        self.fetched.append((repo_id, filename))
        return str(place)


@pytest.fixture
def offline(
    tmp_path: Path, tiny_target: Path, tiny_draft: Path, monkeypatch: pytest.MonkeyPatch
) -> Hub:
    """The package huggingface_hub, without its network."""
    tiny.write_llama(tmp_path / "m.gguf", n_files=3)
    made = Hub(tmp_path, tiny_target, tiny_draft, tmp_path)
    monkeypatch.setattr(hub, "list_repo_files", made.list_repo_files)
    monkeypatch.setattr(hub, "hf_hub_download", made.hf_hub_download)
    return made


def test_target_and_draft(offline: Hub, generator: Generator) -> None:
    """Patterns name the files, as in llama-cpp-python; options go to the constructor."""
    ours = Generator.from_pretrained(
        repo_id="big/Model-GGUF",
        filename="*Q4_0.gguf",
        draft_repo_id="small/Draft-GGUF",
        draft_filename="*Q8_0.gguf",
        n_ctx=256,
        n_threads=1,
    )
    assert offline.fetched == [
        ("big/Model-GGUF", "model-Q4_0.gguf"),
        ("small/Draft-GGUF", "draft-Q8_0.gguf"),
    ]
    assert ours.n_ctx == 256
    assert ours.draft is not None
    assert (
        ours.generate("the", max_tokens=9, seed=1).tokens
        == generator.generate("the", max_tokens=9, seed=1).tokens
    )


def test_a_plain_name_needs_no_list(offline: Hub) -> None:
    """A plain name loads from the cache without a network.

    A draft in the same repository is given by its file name alone.
    """
    ours = Generator.from_pretrained(
        "big/Model-GGUF", "sub/model-F16.gguf", None, "model-Q8_0.gguf", n_ctx=64, n_threads=1
    )
    assert ours.draft is not None
    assert offline.listed == []
    assert [name for _, name in offline.fetched] == ["sub/model-F16.gguf", "model-Q8_0.gguf"]


@pytest.mark.parametrize(
    "filename", ["*BF16*", "parts/model-BF16-00001-of-00003.gguf", "*00001-of-00003.gguf"]
)
def test_all_parts_of_a_model_are_fetched(
    offline: Hub, generator: Generator, filename: str
) -> None:
    """All parts are downloaded and the first is loaded."""
    ours = Generator.from_pretrained("big/Model-GGUF", filename, n_ctx=64, n_threads=1)
    assert [name for _, name in offline.fetched] == FILES["big/Model-GGUF"][-3:]
    assert ours.target.path.endswith("model-BF16-00001-of-00003.gguf")
    assert (
        ours.generate("the", max_tokens=9, seed=1).tokens
        == generator.generate("the", max_tokens=9, seed=1).tokens
    )


def test_folders_and_additional_files(offline: Hub, tmp_path: Path) -> None:
    """Folders and additional files work as in llama-cpp-python."""
    ours = Generator.from_pretrained(
        "big/Model-GGUF",
        "sub/*",
        additional_files=["token*"],
        local_dir=tmp_path / "here",
        n_ctx=64,
        n_threads=1,
    )
    assert ours.target.path == str(tmp_path / "here" / "sub" / "model-F16.gguf")
    assert (tmp_path / "here" / "tokenizer.json").exists()
    other = Generator.from_pretrained(
        "small/Draft-GGUF", "draft-Q2_K.gguf", cache_dir=tmp_path / "there", n_ctx=64, n_threads=1
    )
    assert Path(other.target.path).is_relative_to(tmp_path / "there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["big/Model-GGUF", "*Q5*"],
            r"no file of big/Model-GGUF matches '\*Q5\*'; "
            r"its GGUF files: model-Q4_0.gguf, model-Q8_0.gguf, ",
        ),
        (
            ["big/Model-GGUF", "model-Q?_0.gguf"],
            "several files of .* expected one: model-Q4_0.gguf, model-Q8_0.gguf$",
        ),
        (["big/Model-GGUF", "*.gguf"], "several files of"),
        (
            ["big/Model-GGUF", "model-Q4_0.gguf", "small/Draft-GGUF"],
            "draft_filename is missing: which file of small/Draft-GGUF is the draft",
        ),
    ],
    ids=["none", "two", "parts and others", "draft"],
)
def test_patterns_that_do_not_name_one_model(
    offline: Hub, arguments: list[str], message: str
) -> None:
    """ValueError lists the files that there are, and nothing is downloaded."""
    with pytest.raises(ValueError, match=message):
        Generator.from_pretrained(*arguments)
    assert offline.fetched == []


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImportError says which command installs it."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'run `pip install "ersd\[hub\]"`'):
        Generator.from_pretrained("big/Model-GGUF", "model.gguf")
