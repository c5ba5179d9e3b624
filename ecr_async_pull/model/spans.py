"""Sets of half-open byte intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

Interval = tuple[int, int]


class Spans:
    """A set of half-open byte intervals, kept merged and sorted. Neighbours that touch become one."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in intervals:
            self.add(start, end)

    def add(self, start: int, end: int) -> bool:
        """Returns False where all of it was there already."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            if self._starts[first] <= start and end <= self._ends[first]:
                return False
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        return True

    def intervals(self) -> tuple[Interval, ...]:
        return tuple(zip(self._starts, self._ends, strict=True))

    def gaps(self, size: int) -> tuple[Interval, ...]:
        """What of [0, size) isn't in the set."""
        edges = zip([0, *self._ends], [*self._starts, size], strict=True)
        return tuple((start, end) for start, end in edges if start < end)

    def total(self) -> int:
        return sum(self._ends) - sum(self._starts)

    @property
    def front(self) -> int:
        """Everything before this offset is in the set."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    def has(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is in the set."""
        place = bisect_right(self._starts, start) - 1
        return start >= end or (place >= 0 and end <= self._ends[place])
