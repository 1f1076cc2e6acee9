"""A plugin of pytest: llama-cpp-python's own tests on `ersd.Llama`, without a network.

    python -m pytest -p llama_class_tests FOLDER/tests

The environment variable CLASS says on which class they run, "ersd" or "llama_cpp". In place of the
models that the tests download stands the default target, and for the recurrent, the hybrid and the
embedding one a tiny random model. CACHE is a folder for these.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import llama_cpp

import ersd

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from gguf import PoolingType

import tiny
from tiny_bert import write_bert
from tiny_hybrid import write_hybrid

if os.environ["CLASS"] == "ersd":
    llama_cpp.Llama = ersd.Llama


# What writes a model in place of one of the Hub, by a word in the Hub's name of it.
WRITERS: dict[str, Callable[[Path], Path]] = {
    "mamba": tiny.write_mamba,
    "bge": partial(write_bert, pooling=PoolingType.MEAN),
    "Falcon-H1": partial(write_hybrid, arch="falcon-h1"),
}


def download(repo_id: str, filename: str, **options: Any) -> str:
    """Returns the path of the model that stands for one of the Hub."""
    for word, write in WRITERS.items():
        if word in repo_id:
            path = Path(os.environ["CACHE"]) / f"{word}.gguf"
            return str(path if path.exists() else write(path))
    return str(ersd.models.default_target())


huggingface_hub.hf_hub_download = download
