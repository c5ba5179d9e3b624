"""The worker behind the front: two digests and the tar in one pass, in any steps, on one thread or two."""

from __future__ import annotations

import gzip
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import IntegrityError
from ecr_async_pull.transfer.follower import Follower, FollowPlan
from ecr_async_pull.transfer.sinks import SlotSink

TAR = random.Random(3).randbytes(700_000) + bytes(1_500_000)
STORED = gzip.compress(TAR, 1)


def plan(
    path: Path,
    stored: bytes = STORED,
    *,
    offset: int = 0,
    digest: Digest | None = None,
    diff_id: Digest | None = None,
    inflates: bool = True,
) -> FollowPlan:
    path.write_bytes(bytes(offset) + stored)
    return FollowPlan(
        path=path,
        offset=offset,
        size_bytes=len(stored),
        digest=digest or Digest.of(stored),
        checks_stored=True,
        inflates=inflates,
        diff_id=diff_id or Digest.of(TAR),
    )


def sink(directory: Path, *, name: str = "archive", offset: int = 1000) -> SlotSink:
    return SlotSink(
        archive=directory / name,
        offset=offset,
        slot_bytes=len(TAR),
        spill=directory / f"{name}.s",
        turn=threading.Lock(),
    )


@pytest.mark.parametrize("step", [999, 100_000, 1 << 30])
@pytest.mark.parametrize("is_split", [False, True])
def test_the_tar_lies_in_every_slot(tmp_path: Path, step: int, is_split: bool) -> None:
    sinks = [sink(tmp_path), sink(tmp_path, name="other", offset=0)]
    follower = Follower(plan(tmp_path / "blob", offset=77), sinks)
    with ThreadPoolExecutor(1) as pool:
        while follower.processed_bytes < len(STORED):
            follower.advance(min(len(STORED), follower.processed_bytes + step), pool if is_split else None)
        follower.finish()
        follower.close()
    assert follower.tar_size_bytes == len(TAR)
    assert (tmp_path / "archive").read_bytes() == bytes(1000) + TAR
    assert (tmp_path / "other").read_bytes() == TAR


def process(follower: Follower, pool: ThreadPoolExecutor | None = None) -> None:
    try:
        follower.advance(follower.plan.size_bytes, pool)
        follower.finish()
    finally:
        follower.close()


@pytest.mark.parametrize("inflates", [True, False])
def test_bytes_that_are_not_their_digest_are_refused(tmp_path: Path, inflates: bool) -> None:
    wrong = Digest.of(b"something else")
    with pytest.raises(IntegrityError, match="arrived with digest"):
        process(Follower(plan(tmp_path / "blob", digest=wrong, inflates=inflates), []))


def test_a_tar_that_is_not_its_diff_id_is_refused_even_with_no_sink(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="inflates to"):
        process(Follower(plan(tmp_path / "blob", diff_id=Digest.of(b"other")), []))


@pytest.mark.parametrize("is_split", [False, True])
def test_a_stream_that_ends_early_is_refused(tmp_path: Path, is_split: bool) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(IntegrityError, match="ends too early"):
        process(Follower(plan(tmp_path / "blob", STORED[:-9]), []), pool if is_split else None)


def test_a_file_shorter_than_the_blob_is_refused(tmp_path: Path) -> None:
    made = plan(tmp_path / "blob")
    (tmp_path / "blob").write_bytes(STORED[:-100])
    with pytest.raises(IntegrityError, match="bytes short"):
        process(Follower(made, []))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("is_split", [False, True])
def test_a_disk_that_takes_no_more_ends_both_threads(tmp_path: Path, is_split: bool) -> None:
    full = SlotSink(
        archive=Path("/dev/full"), offset=0, slot_bytes=len(TAR), spill=tmp_path / "s", turn=threading.Lock()
    )
    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match=r"."):
        process(Follower(plan(tmp_path / "blob"), [full]), pool if is_split else None)


@pytest.mark.timeout(20)
def test_damage_found_by_the_inflater_ends_the_writing_thread(tmp_path: Path) -> None:
    broken = bytearray(STORED)
    broken[400_000] ^= 255
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(IntegrityError):
            process(Follower(plan(tmp_path / "blob", bytes(broken)), [sink(tmp_path)]), pool)
        assert pool.submit(lambda: 1).result(timeout=5) == 1


def test_an_empty_blob_is_a_layer_too(tmp_path: Path) -> None:
    empty = SlotSink(
        archive=tmp_path / "a", offset=5, slot_bytes=0, spill=tmp_path / "s", turn=threading.Lock()
    )
    follower = Follower(plan(tmp_path / "blob", b"", diff_id=Digest.of(b"")), [empty])
    process(follower)
    assert empty.extent.size_bytes == 0


def test_closing_twice_closes_once(tmp_path: Path) -> None:
    follower = Follower(plan(tmp_path / "blob"), [sink(tmp_path)])
    process(follower)
    follower.close()
