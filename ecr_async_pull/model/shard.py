"""Splitting a list of images between workers that don't talk to each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..digest import Digest
from ..errors import UsageError

_GRAMMAR = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Worker `index` of `count`.

    The index counts from 0, as Kubernetes and AWS Batch number the workers of a job.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise UsageError(
                f"there is no shard {self.index}/{self.count}: the index counts from 0, so that the last"
                f" of {self.count} is {max(self.count - 1, 0)}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse `INDEX/COUNT`, such as `0/8` to `7/8`; raises `UsageError`."""
        match = _GRAMMAR.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"{text!r} is no shard; write INDEX/COUNT with the index from 0, such as 2/8")
        return cls(index=int(match[1]), count=int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardItem:
    """One image to be assigned: `key` names it in the list, `blobs` gives the stored size of each of its
    blobs, in bytes.
    """

    key: str
    blobs: Mapping[Digest, int]

    @property
    def size_bytes(self) -> int:
        return sum(self.blobs.values())


@dataclass(slots=True)
class _Bin:
    """What one worker has been given so far; `size_bytes` counts each blob once."""

    size_bytes: int = 0
    blobs: set[Digest] = field(default_factory=set)
    keys: list[str] = field(default_factory=list)

    def added_bytes(self, item: ShardItem) -> int:
        return sum(size for digest, size in item.blobs.items() if digest not in self.blobs)

    def add(self, item: ShardItem) -> None:
        self.size_bytes += self.added_bytes(item)
        self.blobs.update(item.blobs)
        self.keys.append(item.key)


def assign(images: Sequence[ShardItem], count: int) -> tuple[tuple[str, ...], ...]:
    """The keys of each of `count` shards, sorted; each key exactly once, some shards perhaps empty.

    The result depends on the images alone, not on their order, so that every worker computes the same.
    Greedy, largest image first: an image goes where it adds the fewest bytes, among the shards that it
    doesn't lift over the limit of an even share (or the largest image, if that is more) and an eighth; where
    it would lift them all, to the one that ends up smallest. So images with a common base stay together as
    long as that costs no worker time.
    """
    distinct = {item.key: item for item in sorted(images, key=lambda item: (item.key, item.size_bytes))}
    blobs = {digest: size for item in distinct.values() for digest, size in item.blobs.items()}
    even = -(-sum(blobs.values()) // count)
    limit = max([even, *(item.size_bytes for item in distinct.values())])
    limit += limit // 8
    bins = [_Bin() for _ in range(count)]
    for item in sorted(distinct.values(), key=lambda item: (-item.size_bytes, item.key)):
        costs = [
            (bin_.added_bytes(item), bin_.size_bytes, len(bin_.keys), place)
            for place, bin_ in enumerate(bins)
        ]
        fitting = [cost for cost in costs if cost[0] + cost[1] <= limit]
        best = min(fitting) if fitting else min(costs, key=lambda cost: (cost[0] + cost[1], *cost[2:]))
        bins[best[-1]].add(item)
    return tuple(tuple(sorted(bin_.keys)) for bin_ in bins)
