"""A class for `ray.data.Dataset.map_batches`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ersd import Generator, Options
from ersd.tables.answers import NumberedRow, Texts
from ersd.tables.arrow import with_answers
from ersd.tables.requests import Columns

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped,unused-ignore]

__all__ = ["GeneratorUDF"]

_Path = str | os.PathLike[str]


class GeneratorUDF:
    """Answers the rows of a dataset, with models that each actor loads once.

    >>> dataset.map_batches(
    ...     GeneratorUDF,
    ...     fn_constructor_kwargs={"model_path": "target.gguf", "n_parallel": 8, "n_threads": 4},
    ...     compute=ray.data.ActorPoolStrategy(size=2),
    ...     num_cpus=4,
    ...     batch_size=256,
    ...     batch_format="pyarrow",
    ... )

    It adds the columns text, finish_reason, tokens, seed, stats (counts and times, see
    `ersd.Stats`) and error. A row that cannot be answered has an error and nothing else. Columns of
    these names that the dataset has are replaced.

    A row's seed is ``row_seed(seed, id)``, so with ``exact=True`` its text depends neither on the
    number of actors nor on the other rows, nor on whether an actor was lost and its rows were
    answered again.
    """

    def __init__(
        self,
        model_path: _Path | None = None,
        draft_model_path: _Path | None = None,
        *,
        prompt_column: str = "prompt",
        messages_column: str | None = None,
        id_column: str = "id",
        option_columns: Sequence[str] = (),
        options: Options | None = None,
        seed: int = 0,
        exact: bool | None = True,
        **generator_options: Any,
    ) -> None:
        """Loads the models.

        Args:
            model_path: see `Generator`; None for the default pair.
            draft_model_path: see `Generator`.
            prompt_column: the column of prompts, each a text or a list of token ids.
            messages_column: the column of conversations, if there is one instead: lists of messages
                or the JSON of such lists.
            id_column: the column of row ids, texts or integers.
            option_columns: columns that hold an option of `ersd.Options` and have its name. Null
                leaves the option as it is for all rows.
            options: of `ersd.Options`, for all rows.
            seed: the base seed. A column of seeds replaces what follows from it.
            exact: see `Generator`. If False, a text may depend on what else runs.
            generator_options: further options of `Generator`.

        Raises:
            FileNotFoundError, RuntimeError, ValueError: as `Generator`; or an option is not valid.
        """
        columns = Columns(prompt_column, messages_column, id_column, tuple(option_columns))
        self._answers = Texts(columns, options or Options(), seed)
        if model_path is None:
            self._generator = Generator.default(exact=exact, **generator_options)
        else:
            self._generator = Generator(
                model_path, draft_model_path, exact=exact, **generator_options
            )
        # An option that is wrong for all rows must not become an error of each.
        checked: Options = {**self._answers.options, "max_tokens": 0}
        self._generator.generate([0], **checked)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Returns the batch with the columns of answers.

        Raises:
            TypeError: the batch is no table of Arrow.
            ValueError: a column is missing.
            RuntimeError: the model fails again and again.
        """
        import pyarrow

        if not isinstance(batch, pyarrow.Table):
            raise TypeError(
                'GeneratorUDF needs batch_format="pyarrow" in map_batches, got batches of the type '
                f"{type(batch).__name__}"
            )
        columns = self._answers.columns
        columns.check(batch.column_names)
        rows: list[NumberedRow] = list(enumerate(batch.select(columns.names).to_pylist()))
        return with_answers(batch, list(self._answers(self._generator, rows)))
