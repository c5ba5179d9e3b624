"""Every worker computes the same split, each image in exactly one part."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import UsageError
from ecr_async_pull.model.shard import Shard, ShardItem, assign

MIB = 1 << 20


def blob(name: str) -> Digest:
    return Digest.of(name.encode())


def image(key: str, **sizes_mib: int) -> ShardItem:
    return ShardItem(key=key, blobs={blob(name): size * MIB for name, size in sizes_mib.items()})


_BLOBS = [blob(str(number)) for number in range(12)]
_IMAGES = st.lists(
    st.dictionaries(st.sampled_from(_BLOBS), st.just(0), max_size=6).map(
        lambda chosen: {digest: (int(digest.hex[:6], 16) + 1) for digest in chosen}
    ),
    max_size=14,
).map(lambda all_blobs: [ShardItem(key=f"image-{n}", blobs=blobs) for n, blobs in enumerate(all_blobs)])


@given(images=_IMAGES, count=st.integers(1, 9), seed=st.integers(0, 1000))
def test_each_image_is_in_exactly_one_shard_whatever_the_order(
    images: list[ShardItem], count: int, seed: int
) -> None:
    shards = assign(images, count)
    assert len(shards) == count
    assert sorted(key for shard in shards for key in shard) == sorted(item.key for item in images)
    shuffled = [ShardItem(key=i.key, blobs=dict(reversed(list(i.blobs.items())))) for i in images]
    random.Random(seed).shuffle(shuffled)
    assert assign(shuffled, count) == shards


def test_an_image_that_is_listed_twice_is_pulled_once() -> None:
    shards = assign([image("a", x=1), image("a", x=1), image("b", y=1)], 3)
    assert sorted(key for shard in shards for key in shard) == ["a", "b"]


def test_images_with_a_common_base_stay_together() -> None:
    images = [
        image(f"team-{team}/app-{app}", **{f"base-{team}": 100, f"own-{team}-{app}": 10})
        for app in range(5)
        for team in range(4)
    ]
    for shard in assign(images, 4):
        assert len({key.split("/")[0] for key in shard}) == 1
        assert len(shard) == 5


def test_one_common_base_does_not_leave_the_other_workers_idle() -> None:
    images = [image(f"app-{n}", base=100, **{f"own-{n}": 60}) for n in range(8)]
    shards = assign(images, 4)
    assert [len(shard) for shard in shards] == [2, 2, 2, 2]


def test_bytes_are_balanced() -> None:
    rng = random.Random(7)
    images = [image(f"app-{n}", **{f"layer-{n}": rng.randint(1, 500)}) for n in range(200)]
    sizes = {item.key: item.size_bytes for item in images}
    loads = [sum(sizes[key] for key in shard) for shard in assign(images, 8)]
    assert max(loads) <= 1.15 * sum(loads) / 8


def test_more_workers_than_images_leaves_some_without_work() -> None:
    shards = assign([image("a", x=1), image("b", y=1)], 5)
    assert sorted(len(shard) for shard in shards) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("text", "index", "count"), [("0/1", 0, 1), ("2/8", 2, 8), (" 7/8 ", 7, 8)])
def test_shards_are_written_index_and_count(text: str, index: int, count: int) -> None:
    shard = Shard.parse(text)
    assert (shard.index, shard.count, str(shard)) == (index, count, text.strip())


@pytest.mark.parametrize("text", ["8/8", "1/0", "0/0", "1", "1/2/3", "-1/2", "a/b", "1/", "", "٢/٨"])
def test_there_is_no_shard_at_or_past_the_count(text: str) -> None:
    with pytest.raises(UsageError, match="from 0"):
        Shard.parse(text)
