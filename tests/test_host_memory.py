"""What is free of the host's memory, read from folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest
from ersd._core import free_host_memory

from test_cores import system

MEMINFO = "MemTotal: 9000 kB\nMemAvailable:    5000 kB\nSwapFree:         100 kB\n"


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", {}, 5100 * 1024),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "7\n"}, 5100 * 1024),
        ("0::/\n", {"memory.max": "3000000\n", "memory.current": "1000000\n"}, 2000000),
        (
            "0::/a/b\n",
            {
                "a/memory.max": "4000000",
                "a/memory.current": "3500000",
                "a/memory.stat": "anon 3\ninactive_file 200000\nactive_file 5\n",
                "a/b/memory.max": "9000000",
                "a/b/memory.current": "100",
            },
            700000,
        ),
        ("0::/\n", {"memory.max": "1000\n", "memory.current": "2000\n"}, 0),
        (
            "4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "1000000\n",
                "memory/x/memory.usage_in_bytes": "600000\n",
                "memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 50000\n",
            },
            450000,
        ),
        (
            "4:memory:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "600000\n",
            },
            5100 * 1024,
        ),
    ],
)
def test_limits_of_groups(tmp_path: Path, groups: str, files: dict[str, str], free: int) -> None:
    """The tightest group counts, without the pages of files that can be dropped."""
    root = system(tmp_path, groups, files)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    assert free_host_memory(root) == free


def test_this_machine() -> None:
    """There is some memory, and no more than Linux says that there is in all."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    most = 1024 * (kilobytes["MemTotal"] + kilobytes["SwapTotal"])
    assert 0 < free_host_memory() <= most
