"""A staging directory is found again, is private to one process, and is nobody's trap."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import StorageError
from ecr_async_pull.store.journal import Journal, journal_path
from ecr_async_pull.store.staging import Staging, hold_staging, remove_stale, stale

REQUEST = b"registry.example/app:1 linux/amd64 docker"
_SPAWN = multiprocessing.get_context("spawn")


def fill(staging: Staging, name: str, size_bytes: int = 5000) -> Digest:
    digest = Digest.of(name.encode())
    partial = staging.partial_blob_path(digest)
    partial.write_bytes(bytes(size_bytes))
    journal = Journal.open(partial, size_bytes=size_bytes, identity=str(digest))
    journal.add(0, size_bytes)
    journal.close()
    return digest


def test_the_same_request_finds_its_bytes_again(tmp_path: Path) -> None:
    first = Staging.open(tmp_path, REQUEST)
    digest = fill(first, "layer")
    archive = first.archive_path("app")
    archive.write_bytes(b"half")
    first.close()

    second = Staging.open(tmp_path, REQUEST)
    assert second.path == first.path
    assert second.partial_blob_path(digest).stat().st_size == 5000
    assert second.archive_path("app") == archive
    assert archive.read_bytes() == b"half"
    second.remove()


def test_the_directory_is_private_and_named_after_the_request(tmp_path: Path) -> None:
    staging = Staging.open(tmp_path, REQUEST)
    other = Staging.open(tmp_path, REQUEST + b"2")
    assert staging.path.name == f".ecr-async-pull-{Digest.of(REQUEST).hex[:16]}"
    assert staging.path.stat().st_mode & 0o777 == 0o700
    assert other.path != staging.path
    staging.remove()
    other.remove()
    assert list(tmp_path.iterdir()) == []


def test_without_resume_it_begins_empty(tmp_path: Path) -> None:
    first = Staging.open(tmp_path, REQUEST)
    digest = fill(first, "layer")
    first.close()
    second = Staging.open(tmp_path, REQUEST, resumes=False)
    assert second.path == first.path
    assert not second.partial_blob_path(digest).exists()
    second.remove()


def _hold(parent: str, pipe: Connection) -> None:
    staging = Staging.open(Path(parent), REQUEST)
    fill(staging, "theirs")
    pipe.send(str(staging.path))
    pipe.recv()


def test_a_directory_in_use_is_never_shared_and_is_resumed_after_a_kill(tmp_path: Path) -> None:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_hold, args=(str(tmp_path), theirs))
    process.start()
    try:
        taken = Path(ours.recv())
        mine = Staging.open(tmp_path, REQUEST)
        assert mine.path != taken
        assert mine.path.parent == tmp_path
        assert mine.path.name.startswith(taken.name + "-")
        assert mine.kept_bytes() == 0
        assert stale(tmp_path) == []
        assert not remove_stale(taken)
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()
    mine.remove()
    assert [entry.path for entry in stale(tmp_path)] == [taken]
    resumed = Staging.open(tmp_path, REQUEST)
    assert resumed.path == taken
    assert resumed.kept_bytes() > 5000
    resumed.remove()


def test_stale_directories_are_named_with_size_and_age_and_removable(tmp_path: Path) -> None:
    for name, age_s in ((b"old", 5000.0), (b"older", 9000.0)):
        staging = Staging.open(tmp_path, name)
        fill(staging, "layer", 100_000)
        staging.close()
        now = staging.path.stat().st_mtime
        for path in (staging.path, *staging.path.rglob("*")):
            os.utime(path, (now - age_s, now - age_s))
    (tmp_path / ".ecr-async-pull-notes").mkdir()
    (tmp_path / "image.tar").touch()

    entries = stale(tmp_path)
    assert [round(entry.age_s, -3) for entry in entries] == [9000, 5000]
    assert all(100_000 <= entry.size_bytes < 110_000 for entry in entries)
    assert all(remove_stale(entry.path) for entry in entries)
    assert stale(tmp_path) == []
    assert not remove_stale(tmp_path / ".ecr-async-pull-notes")
    assert {path.name for path in tmp_path.iterdir()} == {".ecr-async-pull-notes", "image.tar"}


def test_prune_keeps_only_the_named_blobs_with_their_journals(tmp_path: Path) -> None:
    staging = Staging.open(tmp_path, REQUEST)
    kept, gone = fill(staging, "kept"), fill(staging, "gone", 200_000)
    assert 200_000 <= staging.prune({kept, Digest.of(b"not here")}) < 201_000
    left = {path.name for path in (staging.path / "blobs").iterdir()}
    partial = staging.partial_blob_path(kept)
    assert left == {partial.name, journal_path(partial).name}
    assert not staging.partial_blob_path(gone).exists()
    staging.remove()


def test_holes_are_not_counted_as_kept(tmp_path: Path) -> None:
    staging = Staging.open(tmp_path, REQUEST)
    path = staging.archive_path("app")
    path.touch()
    os.truncate(path, 1 << 30)
    assert staging.kept_bytes() < 1 << 20
    staging.remove()


@pytest.mark.parametrize("trap", ["symlink", "open", "foreign", "file"])
def test_what_is_not_our_private_directory_is_left_alone(tmp_path: Path, trap: str) -> None:
    if trap == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can make another user's directory")
    place = tmp_path / f".ecr-async-pull-{Digest.of(REQUEST).hex[:16]}"
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    if trap == "symlink":
        place.symlink_to(target)
    elif trap == "file":
        place.write_text("mine")
    else:
        place.mkdir(mode=0o700)
        place.chmod(0o777 if trap == "open" else 0o700)
        if trap == "foreign":
            os.chown(place, 65534, 65534)
    staging = Staging.open(tmp_path, REQUEST)
    assert staging.path.name.startswith(place.name + "-")
    assert list(target.iterdir()) == []
    assert trap == "file" or list(place.iterdir()) == []
    assert all(entry.path != place for entry in stale(tmp_path))
    assert not remove_stale(place)
    staging.remove()
    assert place.is_symlink() or place.exists()


def test_a_planted_lock_link_is_not_followed(tmp_path: Path) -> None:
    staging = Staging.open(tmp_path, REQUEST)
    staging.close()
    (staging.path / "lock").unlink()
    (staging.path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="symbolic link"):
        Staging.open(tmp_path, REQUEST)
    assert not (tmp_path / "victim").exists()


def test_a_missing_parent_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="staging"):
        Staging.open(tmp_path / "nowhere", REQUEST)


def test_holding_lets_go_at_the_end_of_the_block_and_keeps_the_bytes(tmp_path: Path) -> None:
    async def scenario() -> Path:
        async with hold_staging(tmp_path, REQUEST) as staging:
            await asyncio.to_thread(fill, staging, "layer")
            return staging.path

    path = asyncio.run(scenario())
    assert [entry.path for entry in stale(tmp_path)] == [path]


def _open_and_remove(parent: str, rounds: int) -> None:
    for _ in range(rounds):
        staging = Staging.open(Path(parent), REQUEST)
        marker = staging.path / "archives" / "inside"
        with marker.open("x"):
            pass
        staging.remove()


def test_processes_that_begin_and_end_at_once_never_meet_inside(tmp_path: Path) -> None:
    processes = [_SPAWN.Process(target=_open_and_remove, args=(str(tmp_path), 100)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []
