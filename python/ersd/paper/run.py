"""The whole experiment: record, analyse, and write the table and the report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ersd.paper.analysis import analyse
from ersd.paper.experiment import Experiment, record
from ersd.paper.report import write_report
from ersd.paper.table import Row, write_table

__all__ = ["run"]


def run(experiment: Experiment, folder: str | os.PathLike[str], **options: Any) -> list[Row]:
    """Run the experiment and write folder/table.csv, folder/report.md and its pictures.

    A run can be stopped at any moment. The same call then continues where it was.

    Args:
        experiment: the settings.
        folder: where the results go; made if it does not exist.
        options: options of `Generator`.

    Returns:
        The rows of the table.

    Raises:
        ValueError: wrong settings, or a folder that holds another experiment. Also whatever
            `Generator` raises.
    """
    experiment.validate()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    records = record(experiment, out, **options)
    rows = analyse(records, experiment.nodes())
    write_table(rows, out / "table.csv")
    write_report(rows, records[0], out)
    return rows
