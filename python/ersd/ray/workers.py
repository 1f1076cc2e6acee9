"""Answers the rows of a file with actors of Ray, for `ersd batch`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow  # type: ignore[import-untyped,unused-ignore]
import ray  # type: ignore[import-not-found,unused-ignore]
import ray.data  # type: ignore[import-not-found,unused-ignore]
from ray.data.block import BlockMetadata  # type: ignore[import-not-found,unused-ignore]

from ersd import Generator
from ersd.tables.answers import Answer, Answers, NumberedRow

if TYPE_CHECKING:
    from ray.data.context import DataContext  # type: ignore[import-not-found,unused-ignore]

__all__ = ["Workers"]

_Read = Callable[[], Iterator[NumberedRow]]
_LOCAL_STORE = 200 << 20  # bytes for rows on the way, on a machine that has only this command


@dataclass(frozen=True)
class Workers:
    """Actors that load the models and answer rows. Ray starts lost ones again, with their rows.

    Attributes:
        load: loads the models, on the machine of an actor.
        address: the cluster: an address of `ray.init`, "auto", or "local" for a new one here.
        n_workers: the number of actors.
        num_cpus: CPUs of each.
        num_gpus: GPUs of each.
        batch_size: rows that an actor gets at a time.
    """

    load: Callable[[], Generator]
    address: str
    n_workers: int
    num_cpus: int
    num_gpus: float
    batch_size: int

    def __call__(self, answers: Answers, read: _Read) -> Iterator[Answer]:
        """Yields an answer for each row, in order.

        Args:
            answers: how rows are answered.
            read: reads the rows; it is called on this machine.

        Raises:
            RuntimeError: Ray ended the run, as it does when an actor cannot load the models.
        """
        self._connect()
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised, too
        rows = ray.data.read_datasource(
            _Rows(read, self.batch_size),
            override_num_blocks=1,
            # Rows are read here, where the file is. The actors may take all CPUs.
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
            num_cpus=0,
        )
        answered = rows.map_batches(
            _Answering,
            fn_constructor_args=(self.load, answers),
            batch_size=self.batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=self.n_workers),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus or None,
        )
        try:
            for row in answered.iter_rows():
                yield json.loads(row["answer"])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeError(f"Ray ended the run: {reason}") from error

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
        if self.address == "local":
            quiet |= {"object_store_memory": _LOCAL_STORE, "include_dashboard": False}
            quiet |= {"num_cpus": self.n_workers * self.num_cpus}
        try:
            ray.init(self.address, **quiet)
        except Exception as error:  # Ray has no common class of these errors
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RuntimeError(
                f"no cluster of Ray answers at '{self.address}': {reason}"
            ) from error


class _Rows(ray.data.Datasource):  # type: ignore[misc,unused-ignore]
    """Rows as JSON, since rows of one file may have different types."""

    def __init__(self, read: _Read, rows_at_once: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self._read = read
        self._rows_at_once = rows_at_once

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ray.data.ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ray.data.ReadTask(self._blocks, metadata)]

    def _blocks(self) -> Iterable[pyarrow.Table]:
        rows = self._read()
        while some := list(islice(rows, self._rows_at_once)):
            numbers, values = zip(*some, strict=True)
            yield pyarrow.table({"number": numbers, "row": [_packed(row) for row in values]})


class _Answering:
    """Answers rows of `_Rows`."""

    def __init__(self, load: Callable[[], Generator], answers: Answers) -> None:
        self._generator = load()
        self._answers = answers

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        rows = map(_unpacked, batch["row"].to_pylist())
        numbered = zip(batch["number"].to_pylist(), rows, strict=True)
        answers = self._answers(self._generator, numbered)
        return pyarrow.table({"answer": [json.dumps(answer) for answer in answers]})


def _packed(row: Any) -> str:
    return json.dumps({"error": str(row)} if isinstance(row, ValueError) else {"row": row})


def _unpacked(text: str) -> Any:
    packed = json.loads(text)
    return packed["row"] if "row" in packed else ValueError(packed["error"])
