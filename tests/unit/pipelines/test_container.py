"""What control groups grant, in both of their versions, read from files as Linux writes them."""

from pathlib import Path

import pytest

from kinescribe.pipelines.container import cores, memory_left

GIB = 2**30


def files(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A machine with version 2, and this process in a job in a container."""
    (tmp_path / "self").write_text("0::/box/job\n")
    return tmp_path / "groups"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The same with version 1."""
    (tmp_path / "self").write_text("4:memory:/box\n3:cpu,cpuacct:/box\n")
    return tmp_path / "groups"


def left(root: Path) -> int | None:
    return memory_left(root, root.parent / "self")


def granted(root: Path) -> int:
    return cores(root, root.parent / "self")


def test_the_tightest_group_around_counts(second: Path) -> None:
    files(second, box__memory_dot_max=str(8 * GIB), box__memory_dot_current=str(5 * GIB))
    files(second, box__job__memory_dot_max="max", box__job__memory_dot_current=str(5 * GIB))
    assert left(second) == 3 * GIB
    files(second, box__job__memory_dot_max=str(6 * GIB))
    assert left(second) == GIB


def test_cached_files_count_as_free(second: Path) -> None:
    files(second, box__memory_dot_max=str(8 * GIB), box__memory_dot_current=str(7 * GIB))
    files(second, box__memory_dot_stat=f"anon 5\ninactive_file {2 * GIB}")
    assert left(second) == 3 * GIB


def test_version_one_is_read_too(first: Path) -> None:
    files(first, memory__box__memory_dot_limit_in_bytes=str(4 * GIB))
    files(first, memory__box__memory_dot_usage_in_bytes=str(3 * GIB))
    files(first, memory__memory_dot_limit_in_bytes=str(2**63 - 4096))
    files(first, memory__memory_dot_usage_in_bytes=str(3 * GIB))
    assert left(first) == GIB


def test_without_groups_or_limits_there_is_none(second: Path) -> None:
    assert left(second) is None
    assert granted(second) >= 1
    files(second, box__memory_dot_max="max", box__memory_dot_current="5", box__cpu_dot_max="max 100000")
    assert left(second) is None
    assert granted(second) == cores(second, second / "nowhere")


@pytest.mark.parametrize("quota", ["100000 100000", "20000 100000"])
def test_a_quota_of_one_processor_or_less_is_one(second: Path, quota: str) -> None:
    files(second, box__cpu_dot_max=quota)
    assert granted(second) == 1


def test_a_quota_in_version_one_is_read_too(first: Path) -> None:
    files(first, cpu__box__cpu_dot_cfs_quota_us="50000", cpu__box__cpu_dot_cfs_period_us="100000")
    (first.parent / "self").write_text("3:cpu:/box\n")
    assert granted(first) == 1
    files(first, cpu__box__cpu_dot_cfs_quota_us="-1")
    assert granted(first) == cores(first, first / "nowhere")
