"""A cache gives out only right bytes, to any number of processes, and pruning harms none of them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import IntegrityError, StorageError
from ecr_async_pull.model.descriptor import OCI_MANIFEST, Descriptor
from ecr_async_pull.store.cache import BlobCache
from ecr_async_pull.store.cache_index import BlobFacts
from ecr_async_pull.store.cache_prune import RemovedKind
from ecr_async_pull.store.journal import journal_path

_SPAWN = multiprocessing.get_context("spawn")
_DAY_S = 86400.0


def content_of(name: str, size_bytes: int = 50_000) -> bytes:
    return random.Random(name).randbytes(size_bytes)


def put(cache: BlobCache, raw: bytes, facts: BlobFacts | None = None) -> Digest:
    """Bring one blob in as a pull does; fails if it was there."""
    digest = Digest.of(raw)

    async def ingest() -> None:
        async with cache.ingest(digest, len(raw)) as entry:
            assert not entry.is_present
            entry.path.write_bytes(raw)
            await entry.commit(facts)

    asyncio.run(ingest())
    return digest


def blob_path(directory: Path, digest: Digest) -> Path:
    return directory / "blobs" / digest.algorithm / digest.hex


def entry_path(directory: Path, digest: Digest) -> Path:
    return directory / "index" / digest.algorithm / f"{digest.hex}.json"


def age(path: Path, seconds: float) -> None:
    now_s = path.stat().st_mtime
    os.utime(path, (now_s - seconds, now_s - seconds))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(directory: Path) -> Iterator[BlobCache]:
    opened = BlobCache(directory)
    opened.open()
    with closing(opened):
        yield opened


def reopened(cache: BlobCache) -> BlobCache:
    """As the next run sees it; what the last one held is free."""
    cache.close()
    cache.open()
    return cache


def test_a_committed_blob_is_found_with_its_bytes_and_facts(cache: BlobCache, directory: Path) -> None:
    raw = content_of("layer")
    facts = BlobFacts(media_type="application/gzip", diff_id=Digest.of(b"tar"), tar_size_bytes=12345)
    digest = put(cache, raw, facts)
    path = cache.find(digest, len(raw))
    assert path == blob_path(directory, digest)
    assert path.read_bytes() == raw
    assert cache.find(digest, len(raw), verify=True) == path
    assert cache.facts(digest) == facts
    assert list((directory / "ingest").iterdir()) == []


def test_what_is_not_there_is_not_found(cache: BlobCache) -> None:
    digest = Digest.of(b"nothing")
    assert cache.find(digest, 7) is None
    assert cache.facts(digest) is None
    assert cache.get_document(digest) is None
    assert cache.recall_tag("registry.example/app:1") is None


def test_sha512_blobs_are_kept_as_well(cache: BlobCache) -> None:
    raw = b"text"
    digest = Digest.of(raw, "sha512")
    cache.put_document(digest, "text/plain", raw)
    assert cache.get_document(digest) == (raw, "text/plain")
    assert cache.find(digest, len(raw), verify=True) is not None


def test_a_blob_of_the_wrong_size_is_dropped(cache: BlobCache, directory: Path) -> None:
    raw = content_of("layer")
    digest = put(cache, raw)
    os.truncate(blob_path(directory, digest), 100)
    assert cache.find(digest, len(raw)) is None
    assert not blob_path(directory, digest).exists()


def test_a_wrong_size_in_the_question_does_not_cost_the_blob(cache: BlobCache, directory: Path) -> None:
    raw = content_of("layer")
    digest = put(cache, raw)
    assert cache.find(digest, len(raw) + 1) is None
    assert blob_path(directory, digest).exists()


def flip_a_byte(path: Path) -> None:
    """As a failing disk does it: the times tell nothing."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_blob_that_was_written_to_is_hashed_before_it_is_trusted(cache: BlobCache, directory: Path) -> None:
    raw = content_of("layer")
    good, bad = put(cache, raw), put(cache, raw + b"2")
    flip_a_byte(blob_path(directory, bad))
    assert cache.is_settled(bad)
    for digest in (good, bad):
        os.utime(blob_path(directory, digest))
        assert not cache.is_settled(digest)
    assert cache.find(good, len(raw)) is not None
    assert cache.is_settled(good)
    assert cache.find(bad, len(raw) + 1) is None


def test_a_flipped_bit_is_found_when_asked_to_verify_and_fetched_again(
    cache: BlobCache, directory: Path
) -> None:
    raw = content_of("layer")
    digest = put(cache, raw)
    flip_a_byte(blob_path(directory, digest))
    assert cache.find(digest, len(raw), verify=True) is None
    assert put(cache, raw) == digest
    assert cache.find(digest, len(raw), verify=True) is not None


def test_a_damaged_blob_found_on_the_way_to_fetching_it_is_replaced(
    cache: BlobCache, directory: Path
) -> None:
    raw = content_of("layer")
    digest = put(cache, raw)
    os.truncate(blob_path(directory, digest), 100)
    put(cache, raw)
    assert cache.find(digest, len(raw), verify=True) is not None


@pytest.mark.parametrize("entry", ["other boot", "no entry", "garbage"])
def test_a_blob_from_another_boot_is_hashed_before_it_is_trusted(
    cache: BlobCache, directory: Path, entry: str
) -> None:
    """After a power cut, or copied from elsewhere, a file of the right size may hold anything."""
    raw = content_of("layer")
    good, bad = put(cache, raw), put(cache, raw + b"2")
    flip_a_byte(blob_path(directory, bad))
    assert cache.find(bad, len(raw) + 1) is not None, "in this boot it is trusted"
    for digest in (good, bad):
        path = entry_path(directory, digest)
        if entry == "other boot":
            path.write_text(json.dumps(json.loads(path.read_text()) | {"written_in_boot": "another"}))
        elif entry == "no entry":
            path.unlink()
        else:
            path.write_bytes(b"\xff{")
    assert cache.find(bad, len(raw) + 1, caller_hashes=True) is not None
    assert cache.find(bad, len(raw) + 1) is None
    assert cache.find(good, len(raw)) is not None
    assert "another" not in entry_path(directory, good).read_text(), "verified once in this boot is enough"


def test_facts_add_up_and_survive_the_trouble_of_one_entry(cache: BlobCache, directory: Path) -> None:
    digest = Digest.of(b"layer")
    cache.record(digest, BlobFacts(tar_size_bytes=10))
    cache.record(digest, BlobFacts(diff_id=Digest.of(b"tar")))
    cache.record(digest, BlobFacts())
    assert cache.facts(digest) == BlobFacts(tar_size_bytes=10, diff_id=Digest.of(b"tar"))
    entry_path(directory, digest).write_bytes(b"{")
    assert cache.facts(digest) is None
    cache.record(digest, BlobFacts(tar_size_bytes=11))
    assert cache.facts(digest) == BlobFacts(tar_size_bytes=11)


def test_documents_are_verified_on_the_way_in_and_out(cache: BlobCache, directory: Path) -> None:
    raw = b'{"schemaVersion": 2}'
    digest = Digest.of(raw)
    with pytest.raises(IntegrityError):
        cache.put_document(Digest.of(b"other"), OCI_MANIFEST, raw)
    cache.put_document(digest, OCI_MANIFEST, raw)
    assert cache.get_document(digest) == (raw, OCI_MANIFEST)
    blob_path(directory, digest).write_bytes(raw[:-1] + b" ")
    assert cache.get_document(digest) is None
    assert not blob_path(directory, digest).exists()


def test_tags_lead_to_what_they_meant_last(cache: BlobCache) -> None:
    first = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"1"), size_bytes=1)
    second = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"2"), size_bytes=2)
    cache.remember_tag("registry.example/app:1", first)
    cache.remember_tag("registry.example/app:1", second)
    assert reopened(cache).recall_tag("registry.example/app:1") == second
    assert cache.recall_tag("registry.example/app:2") is None


def test_a_broken_fetch_is_resumed_from_its_journal(cache: BlobCache) -> None:
    raw = content_of("layer")
    digest = Digest.of(raw)

    async def first_half() -> None:
        async with cache.ingest(digest, len(raw)) as entry:
            entry.path.write_bytes(raw[:20_000])
            entry.journal.add(0, 20_000)
            raise ConnectionError

    async def second_half() -> None:
        async with cache.ingest(digest, len(raw)) as entry:
            assert entry.journal.missing() == ((20_000, len(raw)),)
            with entry.path.open("r+b") as file:
                file.seek(20_000)
                file.write(raw[20_000:])
            await entry.commit()

    with pytest.raises(ConnectionError):
        asyncio.run(first_half())
    assert cache.find(digest, len(raw)) is None
    asyncio.run(second_half())
    assert cache.find(digest, len(raw), verify=True) is not None


def test_a_partial_file_that_is_too_long_is_cut(cache: BlobCache, directory: Path) -> None:
    raw = content_of("layer")
    digest = Digest.of(raw)
    (directory / "ingest" / f"sha256-{digest.hex}").write_bytes(raw + b"tail")
    put(cache, raw)
    assert cache.find(digest, len(raw), verify=True) is not None


def test_an_incomplete_file_cannot_be_committed(cache: BlobCache, directory: Path) -> None:
    digest = Digest.of(b"layer")

    async def ingest() -> None:
        async with cache.ingest(digest, 5) as entry:
            entry.path.write_bytes(b"lay")
            await entry.commit()

    with pytest.raises(IntegrityError, match="3 bytes are here where 5 were promised"):
        asyncio.run(ingest())
    assert not blob_path(directory, digest).exists()


def test_two_who_want_one_blob_fetch_it_once(directory: Path) -> None:
    raw = content_of("layer")
    digest = Digest.of(raw)

    async def want(fetches: list[int]) -> None:
        async with BlobCache(directory) as cache, cache.ingest(digest, len(raw), poll_s=0.001) as entry:
            if not entry.is_present:
                fetches.append(1)
                for _ in range(10):
                    await asyncio.sleep(0)
                entry.path.write_bytes(raw)
                await entry.commit()
            assert entry.path.read_bytes() == raw

    async def scenario() -> list[int]:
        fetches: list[int] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(want(fetches))
        return fetches

    assert asyncio.run(scenario()) == [1]


def test_a_cancelled_wait_for_a_blob_leaves_it_to_the_others(cache: BlobCache) -> None:
    digest = Digest.of(b"layer")

    async def scenario() -> None:
        async with cache.ingest(digest, 5) as first:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), cache.ingest(digest, 5, poll_s=0.001):
                    pytest.fail("got in")
            first.path.write_bytes(b"layer")
            await first.commit()
        async with cache.ingest(digest, 5) as third:
            assert third.is_present

    asyncio.run(scenario())


# Several processes


def note(log: str, line: str) -> None:
    with open(log, "a") as lines:
        lines.write(f"{line}\n")


def _pull_all(directory: str, log: str, seed: int) -> None:
    """One of eight runs: all the blobs, in an order of its own; each fetch is a line in the server's log."""
    rng = random.Random(seed)

    async def pull(cache: BlobCache, name: str) -> None:
        raw = content_of(name)
        digest = Digest.of(raw)
        await asyncio.sleep(rng.random() / 100)
        async with cache.ingest(digest, len(raw), poll_s=0.005) as entry:
            if not entry.is_present:
                note(log, name)
                with entry.path.open("r+b") as file:
                    for start in range(0, len(raw), 5000):
                        file.write(raw[start : start + 5000])
                        entry.journal.add(start, start + 5000)
                        await asyncio.sleep(0)
                await entry.commit(BlobFacts(tar_size_bytes=len(raw)))
            assert entry.path.read_bytes() == raw

    async def scenario() -> None:
        async with BlobCache(Path(directory)) as cache:
            names = [f"blob-{number}" for number in range(12)]
            rng.shuffle(names)
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(pull(cache, name))

    asyncio.run(scenario())


def test_eight_processes_on_one_cache_fetch_each_blob_once(
    cache: BlobCache, directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    processes = [_SPAWN.Process(target=_pull_all, args=(str(directory), str(log), seed)) for seed in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert sorted(log.read_text().split()) == sorted(f"blob-{number}" for number in range(12))
    assert cache.verify() == []
    assert cache.info().blobs == 12
    assert list((directory / "ingest").iterdir()) == []


def _fetch_half_and_stay(directory: str, pipe: Connection) -> None:
    raw = content_of("layer")

    async def scenario() -> None:
        async with BlobCache(Path(directory)) as cache, cache.ingest(Digest.of(raw), len(raw)) as entry:
            with entry.path.open("r+b", buffering=0) as file:
                file.write(raw[:30_000])
            entry.journal.add(0, 30_000)
            pipe.send("half")
            pipe.recv()

    asyncio.run(scenario())


def test_a_killed_process_leaves_its_bytes_and_no_lock(cache: BlobCache, directory: Path) -> None:
    raw = content_of("layer")
    digest = Digest.of(raw)
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_fetch_half_and_stay, args=(str(directory), theirs))
    process.start()
    try:
        assert ours.recv() == "half"
        assert cache.prune(max_size_bytes=0) == [], "somebody fetches it"
        process.kill()
        process.join()

        async def go_on() -> tuple[tuple[int, int], ...]:
            async with cache.ingest(digest, len(raw), poll_s=0.001) as entry:
                return entry.journal.missing()

        assert asyncio.run(go_on()) == ((30_000, 50_000),)
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


def _find_and_stay(directory: str, names: list[str], pipe: Connection) -> None:
    cache = BlobCache(Path(directory))
    cache.open()
    paths = [cache.find(Digest.of(content_of(name)), 50_000) for name in names]
    pipe.send(all(paths))
    pipe.recv()
    pipe.send(
        [path.read_bytes() == content_of(name) for path, name in zip(paths, names, strict=True) if path]
    )
    cache.close()


def test_prune_takes_the_least_recently_used_first_and_nothing_in_use(
    cache: BlobCache, directory: Path
) -> None:
    names = ["a", "b", "c", "d"]
    digests = {name: put(cache, content_of(name)) for name in names}
    reopened(cache)
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_find_and_stay, args=(str(directory), ["a"], theirs))
    process.start()
    try:
        assert ours.recv() is True
        for days, name in enumerate(reversed(names), start=1):
            age(entry_path(directory, digests[name]), days * _DAY_S)
        planned = cache.prune(max_size_bytes=100_000, dry_run=True)
        assert [entry.digest for entry in planned] == [digests["b"], digests["c"]]
        assert all(blob_path(directory, digest).exists() for digest in digests.values())
        assert cache.prune(max_size_bytes=100_000) == planned
        ours.send("read")
        assert ours.recv() == [True]
        process.join()
        assert [entry.digest for entry in cache.prune(older_than_s=2 * _DAY_S)] == [digests["a"]]
        assert cache.find(digests["d"], 50_000) is not None
        assert cache.info().blobs == 1
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


def test_what_this_run_found_or_committed_is_not_pruned_by_itself(cache: BlobCache) -> None:
    put(cache, content_of("a"))
    assert cache.prune(max_size_bytes=0) == []
    assert [entry.kind for entry in reopened(cache).prune(max_size_bytes=0)] == [RemovedKind.BLOB]


def test_a_use_makes_a_blob_recent(cache: BlobCache, directory: Path) -> None:
    first, second = put(cache, content_of("a")), put(cache, content_of("b"))
    for digest in (first, second):
        age(entry_path(directory, digest), 5 * _DAY_S)
    assert cache.find(first, 50_000) is not None
    assert [entry.digest for entry in reopened(cache).prune(older_than_s=_DAY_S)] == [second]


def test_prune_sweeps_what_leads_nowhere(cache: BlobCache, directory: Path) -> None:
    manifest = Digest.of(b"{}")
    cache.put_document(manifest, OCI_MANIFEST, b"{}")
    cache.remember_tag("kept:1", Descriptor(media_type=OCI_MANIFEST, digest=manifest, size_bytes=2))
    cache.remember_tag("gone:1", Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"gone"), size_bytes=2))
    orphan, young = Digest.of(b"orphan"), Digest.of(b"young")
    for digest in (orphan, young):
        cache.record(digest, BlobFacts(tar_size_bytes=1))
    stale_partial = directory / "ingest" / f"sha256-{Digest.of(b'stale').hex}"
    fresh_partial = directory / "ingest" / f"sha256-{Digest.of(b'fresh').hex}"
    leftover = directory / "index" / "sha256" / ".x.tmp"
    dead_lock = directory / "ingest" / f"sha256-{Digest.of(b'lock').hex}.lock"
    for path in (stale_partial, fresh_partial, leftover, dead_lock, journal_path(stale_partial)):
        path.write_bytes(b"x")
    for path in (
        entry_path(directory, orphan),
        stale_partial,
        journal_path(stale_partial),
        leftover,
        dead_lock,
    ):
        age(path, 2 * _DAY_S)

    removed = cache.prune()
    assert [(entry.digest, entry.kind) for entry in removed] == [(Digest.of(b"stale"), RemovedKind.PARTIAL)]
    assert cache.facts(orphan) is None
    assert cache.facts(young) is not None
    assert cache.recall_tag("kept:1") is not None
    assert cache.recall_tag("gone:1") is None
    assert {path.name for path in (directory / "ingest").iterdir()} == {fresh_partial.name}
    assert not leftover.exists()


def test_prune_and_pulls_at_once_never_show_a_reader_a_missing_blob(directory: Path) -> None:
    """A blob that was found stays readable however often somebody prunes to nothing meanwhile."""
    names = [f"blob-{number}" for number in range(4)]
    is_done = threading.Event()

    def prune_all_the_time() -> None:
        pruner = BlobCache(directory)
        pruner.open()
        while not is_done.is_set():
            pruner.prune(max_size_bytes=0)
        pruner.close()

    async def pull(cache: BlobCache, name: str) -> None:
        raw = content_of(name, 2000)
        digest = Digest.of(raw)
        async with cache.ingest(digest, len(raw), poll_s=0.001) as entry:
            if not entry.is_present:
                entry.path.write_bytes(raw)
                await entry.commit()
        assert entry.path.read_bytes() == raw

    async def pull_all() -> None:
        for _ in range(25):
            async with BlobCache(directory) as cache, asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(pull(cache, name))

    pruner = threading.Thread(target=prune_all_the_time)
    BlobCache(directory).open()
    pruner.start()
    try:
        asyncio.run(pull_all())
    finally:
        is_done.set()
        pruner.join()


def test_info_counts_blobs_and_what_is_on_its_way(cache: BlobCache, directory: Path) -> None:
    assert cache.info().oldest_use_s is None
    digest = put(cache, content_of("a"))
    put(cache, content_of("b"))
    age(entry_path(directory, digest), _DAY_S)
    (directory / "ingest" / f"sha256-{Digest.of(b'x').hex}").write_bytes(bytes(8192))
    info = cache.info()
    assert (info.blobs, info.size_bytes, info.ingest_bytes) == (2, 100_000, 8192)
    assert info.oldest_use_s is not None
    assert info.newest_use_s is not None
    assert info.newest_use_s - info.oldest_use_s == pytest.approx(_DAY_S, abs=60)


def test_verify_names_the_damage_and_repairs_when_asked(cache: BlobCache, directory: Path) -> None:
    good, bad = put(cache, content_of("a")), put(cache, content_of("b"))
    flip_a_byte(blob_path(directory, bad))
    seen: list[Digest] = []
    (problem,) = cache.verify(on_blob=lambda digest, _: seen.append(digest))
    assert (problem.digest, problem.was_dropped) == (bad, False)
    assert sorted(seen) == sorted([good, bad])
    assert blob_path(directory, bad).exists()
    (problem,) = cache.verify(repair=True)
    assert problem.was_dropped
    assert cache.verify() == []
    assert cache.find(good, 50_000) is not None


def test_a_directory_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(StorageError, match="remove it or choose another directory"):
            BlobCache(place).open()


# Several users

_GROUP = 54321
_needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")


def as_user(user: int, act: Callable[[], None]) -> int:
    """Run `act` in a fork as this user, in the common group, with the usual umask; returns the exit code."""

    def child() -> None:
        os.setgroups([])
        os.setgid(_GROUP)
        os.setuid(user)
        os.umask(0o022)
        act()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture
def group_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent) / "cache"
        directory.mkdir()
        os.chown(directory, 0, _GROUP)
        directory.chmod(0o2775)
        yield directory


@_needs_root
def test_users_of_one_group_share_a_cache_whatever_their_umask(group_directory: Path) -> None:
    raw, other = content_of("layer"), content_of("other")
    digest = Digest.of(raw)

    def begins() -> None:
        cache = BlobCache(group_directory)
        cache.open()
        put(cache, other)

        async def half() -> None:
            async with cache.ingest(digest, len(raw)) as entry:
                entry.path.write_bytes(raw[:20_000])
                entry.journal.add(0, 20_000)

        asyncio.run(half())

    def finishes() -> None:
        cache = BlobCache(group_directory)
        cache.open()
        assert cache.find(Digest.of(other), len(other), verify=True) is not None

        async def rest() -> None:
            async with cache.ingest(digest, len(raw)) as entry:
                assert entry.journal.missing() == ((20_000, len(raw)),)
                with entry.path.open("r+b") as file:
                    file.seek(20_000)
                    file.write(raw[20_000:])
                await entry.commit(BlobFacts(tar_size_bytes=1))

        asyncio.run(rest())

    def prunes() -> None:
        cache = BlobCache(group_directory)
        cache.open()
        assert len(cache.prune(max_size_bytes=0)) == 2

    assert [as_user(60001, begins), as_user(60002, finishes), as_user(60001, prunes)] == [0, 0, 0]
    status = (group_directory / "blobs" / "sha256").stat()
    assert (status.st_gid, status.st_mode & 0o7777) == (_GROUP, 0o2775)


@_needs_root
def test_a_cache_that_this_user_may_not_write_says_so(group_directory: Path) -> None:
    group_directory.chmod(0o755)

    def opens() -> None:
        with pytest.raises(StorageError, match="give this user write permission"):
            BlobCache(group_directory).open()

    assert as_user(60001, opens) == 0
    BlobCache(group_directory).open()
    assert as_user(60001, opens) == 0
