"""The map of one blob: every byte is asked for exactly once, whatever lands in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_async_pull.transfer.segments import Segment, Segments

SIZES = st.integers(1, 2000)
RANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), max_size=12)


def clipped(ranges: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    return [(min(a, b, size), min(max(a, b), size)) for a, b in ranges]


def covered(ranges: list[tuple[int, int]]) -> set[int]:
    return {byte for start, end in ranges for byte in range(start, end)}


def take_all(segments: Segments, segment_bytes: int = 100) -> list[Segment]:
    taken = []
    while (segment := segments.take(segment_bytes)) is not None:
        taken.append(segment)
    return taken


@settings(deadline=None, max_examples=60)
@given(SIZES, RANGES, st.integers(1, 700), st.none() | st.tuples(st.integers(0, 2000), st.integers(0, 2000)))
def test_every_missing_byte_is_asked_for_exactly_once(
    size: int, ranges: list[tuple[int, int]], segment_bytes: int, urgent: tuple[int, int] | None
) -> None:
    landed = clipped(ranges, size)
    span = None if urgent is None else clipped([urgent], size)[0]
    segments = Segments(size, landed=landed, urgent=span)
    assert segments.unasked_bytes == size - len(covered(landed))
    taken = take_all(segments, segment_bytes)
    asked = [byte for one in taken for byte in range(one.start, one.end)]
    assert len(asked) == len(set(asked))
    assert set(asked) == set(range(size)) - covered(landed)
    assert not segments.has_unasked


@settings(deadline=None, max_examples=60)
@given(SIZES, RANGES)
def test_landed_ranges_are_a_set_of_bytes(size: int, ranges: list[tuple[int, int]]) -> None:
    segments = Segments(size)
    here: set[int] = set()
    for start, end in clipped(ranges, size):
        segments.land(start, end)
        here |= set(range(start, end))
        assert segments.landed_bytes == len(here)
        assert segments.front == next(byte for byte in range(size + 1) if byte not in here)
        assert segments.is_complete == (len(here) == size)
    for start, end in clipped(ranges, size):
        assert segments.has(start, end)
    for byte in range(0, size, 37):
        assert segments.has(byte, byte + 1) == (byte in here)


def test_segments_come_in_ascending_order_after_the_urgent_one() -> None:
    segments = Segments(1000, urgent=(990, 1000))
    assert segments.has_urgent
    first, *rest = take_all(segments, 300)
    assert (first.start, first.end) == (990, 1000)
    assert [one.start for one in rest] == sorted(one.start for one in rest)
    assert not segments.has_urgent


def test_no_segment_is_a_crumb() -> None:
    assert [(one.start, one.end) for one in take_all(Segments(1060), 500)] == [
        (0, 500),
        (500, 1060),
    ]


def test_an_urgent_range_that_has_landed_is_not_asked_for() -> None:
    segments = Segments(1000, landed=[(900, 1000)], urgent=(950, 1000))
    assert not segments.has_urgent
    assert [(one.start, one.end) for one in take_all(segments, 2000)] == [(0, 900)]


def test_an_empty_blob_is_complete_at_once() -> None:
    segments = Segments(0)
    assert segments.is_complete
    assert segments.take(100) is None
