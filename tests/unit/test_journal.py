"""A journal never claims what wasn't added, in whatever way it was cut short."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_async_pull.errors import StorageError
from ecr_async_pull.model.spans import Interval
from ecr_async_pull.store.journal import Journal, journal_path

SIZE = 1000
IDENTITY = "sha256:" + "0" * 64
PIECES = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 200)).map(
    lambda p: (p[0], min(p[0] + p[1], SIZE))
)


def open_journal(partial: Path, *, size_bytes: int = SIZE, identity: str = IDENTITY) -> Journal:
    return Journal.open(partial, size_bytes=size_bytes, identity=identity)


def reopened_ranges(
    partial: Path, *, size_bytes: int = SIZE, identity: str = IDENTITY
) -> tuple[Interval, ...]:
    journal = open_journal(partial, size_bytes=size_bytes, identity=identity)
    journal.close()
    return journal.ranges


def covered(intervals: tuple[Interval, ...]) -> set[int]:
    return {offset for start, end in intervals for offset in range(start, end)}


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(bytes(SIZE))
    return path


@settings(deadline=None)
@given(pieces=st.lists(PIECES, max_size=30))
def test_ranges_are_what_was_added_in_any_order_merged_and_sorted(pieces: list[Interval]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        partial = Path(directory) / "blob"
        partial.write_bytes(bytes(SIZE))
        journal = open_journal(partial)
        for start, end in pieces:
            journal.add(start, end)
        model = covered(tuple(pieces))
        assert covered(journal.ranges) == model
        assert journal.landed_bytes == len(model)
        assert covered(journal.missing()) == set(range(SIZE)) - model
        for intervals in (journal.ranges, journal.missing()):
            assert all(start < end for start, end in intervals)
            assert all(left[1] < right[0] for left, right in pairwise(intervals))
        journal.close()
        assert reopened_ranges(partial) == journal.ranges


@settings(deadline=None)
@given(
    pieces=st.lists(PIECES, max_size=12),
    cut=st.integers(0, 300),
    garbage=st.binary(max_size=45),
    flipped=st.none() | st.integers(0, 300),
    later=st.lists(PIECES, max_size=3),
)
def test_a_torn_or_damaged_journal_claims_nothing_new_and_goes_on(
    pieces: list[Interval], cut: int, garbage: bytes, flipped: int | None, later: list[Interval]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        partial = Path(directory) / "blob"
        partial.write_bytes(bytes(SIZE))
        journal = open_journal(partial)
        for start, end in pieces:
            journal.add(start, end)
        journal.close()
        raw = bytearray(journal_path(partial).read_bytes()[:cut] + garbage)
        if flipped is not None and flipped < len(raw):
            raw[flipped] ^= 0x40
        journal_path(partial).write_bytes(raw)

        journal = open_journal(partial)
        survived = covered(journal.ranges)
        assert survived <= covered(tuple(pieces))
        for start, end in later:
            journal.add(start, end)
        journal.close()
        assert covered(reopened_ranges(partial)) == survived | covered(tuple(later))


def test_a_torn_tail_costs_only_the_last_record(partial: Path) -> None:
    journal = open_journal(partial)
    for start in (0, 300, 600):
        journal.add(start, start + 100)
    journal.close()
    raw = journal_path(partial).read_bytes()
    journal_path(partial).write_bytes(raw[:-7])
    assert reopened_ranges(partial) == ((0, 100), (300, 400))


def test_a_record_is_with_the_kernel_as_soon_as_it_is_added(partial: Path) -> None:
    """What a killed process leaves behind: nothing was flushed, nothing closed."""
    journal = open_journal(partial)
    journal.add(0, 10)
    left_behind = journal_path(partial).read_bytes()
    journal.close()
    journal_path(partial).write_bytes(left_behind)
    assert reopened_ranges(partial) == ((0, 10),)


@pytest.mark.parametrize(
    ("size_bytes", "identity"), [(SIZE + 1, IDENTITY), (SIZE, "sha256:" + "1" * 64)], ids=["size", "identity"]
)
def test_the_journal_of_another_blob_is_begun_anew(partial: Path, size_bytes: int, identity: str) -> None:
    journal = open_journal(partial)
    journal.add(0, 500)
    journal.close()
    assert reopened_ranges(partial, size_bytes=size_bytes, identity=identity) == ()


def test_records_of_another_blob_do_not_count(partial: Path) -> None:
    """Blocks of an old journal that come back after a power cut carry the old blob's checksum."""
    journal = open_journal(partial, identity="sha256:" + "1" * 64)
    journal.add(0, 500)
    journal.close()
    stranger = journal_path(partial).read_bytes()[52:]
    open_journal(partial).close()
    path = journal_path(partial)
    path.write_bytes(path.read_bytes() + stranger)
    assert reopened_ranges(partial) == ()


def test_ranges_beyond_a_truncated_data_file_are_dropped_for_good(partial: Path) -> None:
    journal = open_journal(partial)
    journal.add(0, 100)
    journal.add(400, 600)
    journal.add(800, 900)
    journal.close()
    partial.write_bytes(bytes(450))
    assert reopened_ranges(partial) == ((0, 100), (400, 450))
    partial.write_bytes(bytes(SIZE))
    assert reopened_ranges(partial) == ((0, 100), (400, 450))


def test_without_a_data_file_nothing_has_landed(partial: Path) -> None:
    journal = open_journal(partial)
    journal.add(0, SIZE)
    journal.close()
    partial.unlink()
    assert reopened_ranges(partial) == ()


def test_reset_forgets_in_memory_and_on_disk(partial: Path) -> None:
    journal = open_journal(partial)
    journal.add(0, 900)
    journal.reset()
    assert journal.ranges == ()
    journal.add(5, 7)
    journal.flush()
    journal.close()
    assert reopened_ranges(partial) == ((5, 7),)


def test_a_long_journal_is_short_again_after_it_was_opened(partial: Path) -> None:
    journal = open_journal(partial)
    for start in range(0, SIZE, 2):
        journal.add(start, start + 1)
    for start in range(1, SIZE, 2):
        journal.add(start, start + 1)
    journal.close()
    before = journal_path(partial).stat().st_size
    assert reopened_ranges(partial) == ((0, SIZE),)
    assert journal_path(partial).stat().st_size < 100 < before


def test_delete_removes_the_journal_and_keeps_the_data(partial: Path) -> None:
    journal = open_journal(partial)
    journal.delete()
    assert not journal_path(partial).exists()
    assert partial.exists()


def test_a_symbolic_link_is_not_followed(partial: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    journal_path(partial).symlink_to(victim)
    journal = open_journal(partial)
    journal.add(0, 10)
    journal.close()
    assert victim.read_text() == "mine"


def test_a_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="journal"):
        open_journal(tmp_path / "nowhere" / "blob")
