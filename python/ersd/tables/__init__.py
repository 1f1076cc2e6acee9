"""Tables of requests in, tables of answers out: what `ersd batch` and `ersd.ray` share."""

from __future__ import annotations

from ersd.tables.seeds import row_seed

__all__ = ["row_seed"]
