"""What an engine knows of its pair of models: costs of calls, ranks, margins and correction."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from ersd import _core
from ersd import profile as profiles
from ersd.engine.core_profile import load_into, to_plain
from ersd.engine.loaded_models import LoadedModels
from ersd.profile import Profile
from ersd.results import Forecast, Memory

__all__ = ["KnownPair"]

_Path = str | os.PathLike[str]


class KnownPair(LoadedModels):
    """Loaded models, with what is known of the pair."""

    @property
    def memory(self) -> list[Memory]:
        """What each model takes on each device."""
        return [Memory(*row) for row in self._core.memory_use()]

    def profile(self) -> Profile:
        """Returns what is known of the pair: costs of calls, ranks, margins and correction.

        A target without a draft model has costs alone.
        """
        with self._shared.use() as core:
            return to_plain(core.profile())

    def save_profile(self, path: _Path | None = None, *, history: bool = False) -> str:
        """Writes what is known of the pair to a file and returns the file's path.

        How often the tokens of texts come true is not written. It is learnt again within some
        dozens of tokens.

        Args:
            path: a file; None for the one in the cache folder, which every Generator of this pair
                on this machine loads when it is made.
            history: whether to write the texts that are kept to draft from, too. They are prompts
                and answers, as tokens: whoever reads the file can read them.

        Raises:
            OSError: the file cannot be written.
        """
        written = self._pair.path if path is None else path
        known = self.profile()
        if history:
            with self._shared.use() as core:
                known = replace(known, history=np.asarray(core.history(), np.int32))
        profiles.save(known, written, self._pair)
        return os.fspath(written)

    def load_profile(self, path: _Path | None = None) -> None:
        """Replaces what is known of the pair by a profile. If it has a history, that is added.

        Args:
            path: a file of `save_profile`; None for the one in the cache folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a profile, or of another pair.
        """
        with self._shared.use() as core:
            load_into(core, self._pair.path if path is None else path, self._pair)

    def forget(self) -> None:
        """Forgets what generations taught of drafts, and the texts that are kept to draft from.

        The costs of calls stay known.
        """
        with self._shared.use() as core:
            core.forget()

    def measure_costs(self) -> None:
        """Measures what calls of both models cost, in about a second, even if it is known.

        Raises:
            ValueError: there is no draft model.
            RuntimeError: generations are under way.
        """
        with self._shared.use() as core:
            known, without_costs = core.profile(), core.profile()
            without_costs.target, without_costs.draft = _core.CostCurve(), _core.CostCurve()
            core.restore(without_costs)
            try:
                core.forecast()
            except BaseException:
                core.restore(known)
                raise
        self._shared.write_costs()

    def forecast(self) -> list[Forecast]:
        """Returns a forecast for plain decoding, then one for each k that "auto" chooses from.

        The first call measures costs, in about a second, unless they are known.

        Raises:
            ValueError: there is no draft model.
            RuntimeError: the costs are not known, and generations are under way.
        """
        with self._shared.use() as core:
            plans = core.forecast()
        self._shared.write_costs()
        return [Forecast(plan.nodes, plan.tokens, plan.ms) for plan in plans]
