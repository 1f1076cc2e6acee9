"""The cores that a control group pays for, read from folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest
from ersd._core import cgroup_cores


def system(root: Path, groups: str, files: dict[str, str]) -> str:
    """A folder with /proc/self/cgroup and the files of /sys/fs/cgroup."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{k}": v for k, v in files.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 0),
        ("0::/\n", {}, 0),
        (
            "0::/\n",
            {"cpu.max": "150000 100000\n"},
            1,
        ),  # a second thread would wait half of its time
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        (
            "0::/a/b\n",
            {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "800000 100000"},
            3,
        ),
        ("0::/not/mounted\n", {"cpu.max": "400000 100000"}, 4),  # as inside a container
        (
            "3:cpu,cpuacct:/\n0::/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "600000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            6,
        ),
        (
            "3:cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "250000\n", "cpu/x/cpu.cfs_period_us": "50000\n"},
            5,
        ),
        (
            "3:cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            0,
        ),
        (
            "3:cpuset:/x\n",
            {"cpuset/cpu.cfs_quota_us": "100000\n", "cpuset/cpu.cfs_period_us": "100000\n"},
            0,
        ),
        ("nonsense\n\n::\n", {"cpu.max": "100000 100000"}, 0),
    ],
)
def test_quota(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    """Whole cores of the tightest group, 0 for none."""
    assert cgroup_cores(system(tmp_path, groups, files)) == cores


def test_no_such_folder(tmp_path: Path) -> None:
    """A system without control groups has no quota."""
    assert cgroup_cores(str(tmp_path / "nowhere")) == 0
