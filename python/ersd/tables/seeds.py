"""The seed of a row."""

from __future__ import annotations

import hashlib

__all__ = ["row_seed"]


def row_seed(base: int, row_id: str | int) -> int:
    """Returns the seed of a row, which depends on nothing but the two arguments.

    It is the 64-bit BLAKE2b hash of the text "base:row_id" in UTF-8, read as a big-endian number
    without its last bit. So it fits into a signed 64-bit integer, and the row id 7 has the seed of
    the row id "7", since some kinds of files cannot tell them apart.

    Args:
        base: the base seed of the table.
        row_id: the id of the row; where rows have none, their number from 0 on.
    """
    digest = hashlib.blake2b(f"{base}:{row_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
