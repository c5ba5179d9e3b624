"""Space is asked for before the first byte, per file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecr_async_pull.errors import StorageError
from ecr_async_pull.store.space import check_space, room_bytes


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def test_what_fits_passes(tmp_path: Path) -> None:
    check_space({tmp_path: 1024, tmp_path / "not" / "yet" / "there": 1024})


def test_what_does_not_fit_is_refused_with_need_and_free_space(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"not enough space: .*iB are needed in .*iB are free; free .*iB more"
    ):
        check_space({tmp_path / "image.tar": free_bytes(tmp_path) * 2})


def test_needs_on_one_file_system_add_up(tmp_path: Path) -> None:
    share = free_bytes(tmp_path) * 6 // 10
    check_space({tmp_path / "a": share})
    with pytest.raises(StorageError):
        check_space({tmp_path / "a": share, tmp_path / "b" / "c": share})


def test_needs_on_two_file_systems_do_not_add_up(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    check_space({tmp_path: free_bytes(tmp_path) * 8 // 10, other: free_bytes(other) * 8 // 10})
    with pytest.raises(StorageError, match=str(other)):
        check_space({tmp_path: 0, other: free_bytes(other) * 2})


def test_nothing_needed_is_always_there() -> None:
    check_space({Path("/proc"): 0})
    check_space({})


def test_what_there_is_room_for_is_found_to_fit_and_no_more(tmp_path: Path) -> None:
    room = room_bytes(tmp_path / "not" / "there")
    assert room > 100_000_000
    check_space({tmp_path: room - 50_000_000})
    with pytest.raises(StorageError):
        check_space({tmp_path: room + 50_000_000})
