"""Locks hold between processes and end with them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ecr_async_pull.errors import StorageError
from ecr_async_pull.store.locks import ByteLocks, ProcessLock

_SPAWN = multiprocessing.get_context("spawn")


def _hold(path: str, shared: bool, pipe: Connection) -> None:
    """In another process: take the lock, say whether that went, hold it until told to stop."""
    lock = ProcessLock(Path(path))
    pipe.send(lock.try_acquire(shared=shared))
    pipe.recv()
    lock.release()
    pipe.send("released")


@contextmanager
def held_elsewhere(path: Path, *, shared: bool = False) -> Iterator[tuple[Connection, int]]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_hold, args=(str(path), shared, theirs))
    process.start()
    try:
        assert ours.recv() is True
        assert process.pid is not None
        yield ours, process.pid
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_an_exclusive_lock_keeps_other_processes_out_until_it_is_released(path: Path) -> None:
    lock = ProcessLock(path)
    with held_elsewhere(path) as (pipe, _):
        assert not lock.try_acquire()
        assert not lock.try_acquire(shared=True)
        pipe.send("stop")
        assert pipe.recv() == "released"
        assert lock.try_acquire()
        lock.release()


def test_shared_holders_keep_only_the_exclusive_one_out(path: Path) -> None:
    lock = ProcessLock(path)
    with held_elsewhere(path, shared=True):
        assert not lock.try_acquire()
        assert lock.try_acquire(shared=True)
        lock.release()


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    lock = ProcessLock(path)
    with held_elsewhere(path) as (_, pid):
        os.kill(pid, signal.SIGKILL)
        asyncio.run(lock.acquire(poll_s=0.01))
        assert lock.is_held
        lock.release()


def test_acquire_waits_without_blocking_the_loop(path: Path) -> None:
    async def scenario() -> None:
        first, second = ProcessLock(path), ProcessLock(path)
        await first.acquire()
        waiting = asyncio.ensure_future(second.acquire(poll_s=0.001))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await waiting
        assert second.is_held
        second.release()

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_nothing_held(path: Path) -> None:
    async def scenario() -> None:
        first, second, third = ProcessLock(path), ProcessLock(path), ProcessLock(path)
        await first.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await second.acquire(poll_s=0.001)
        first.release()
        assert not second.is_held
        assert third.try_acquire()
        third.release()

    asyncio.run(scenario())


def test_who_waited_on_a_lock_file_that_was_removed_takes_the_new_one(path: Path) -> None:
    """Else two processes would each hold "the" lock: one the old file, one the new."""

    async def scenario() -> None:
        first, second, third = ProcessLock(path), ProcessLock(path), ProcessLock(path)
        await first.acquire()
        waiting = asyncio.ensure_future(second.acquire(poll_s=0.001))
        while not second._descriptor >= 0:  # noqa: ASYNC110 - until it waits on the file that we remove
            await asyncio.sleep(0.001)
        first.release(removes_file=True)
        await waiting
        assert path.exists()
        assert not third.try_acquire()
        second.release(removes_file=True)
        assert not path.exists()

    asyncio.run(scenario())


def test_a_lock_file_of_somebody_else_that_we_may_only_read_can_be_locked(path: Path) -> None:
    path.touch(mode=0o444)
    lock = ProcessLock(path)
    assert lock.try_acquire()
    lock.release()


def test_lock_files_follow_the_umask_or_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, mode in (("plain", None), ("shared", 0o664)):
            lock = ProcessLock(tmp_path / name, mode=mode)
            assert lock.try_acquire()
            lock.release()
    finally:
        os.umask(before)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o664


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="lock"):
        ProcessLock(tmp_path / "nowhere" / "lock").try_acquire()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="symbolic link"):
        ProcessLock(tmp_path / "link").try_acquire()
    assert not (tmp_path / "victim").exists()


def test_byte_locks_are_independent_of_each_other(path: Path) -> None:
    one, other = ByteLocks(path), ByteLocks(path)
    one.open()
    other.open()
    try:
        assert one.try_acquire(7, shared=True)
        assert one.try_acquire(8, shared=True)
        assert other.try_acquire(7, shared=True)
        assert other.try_acquire(2**60, shared=False)
        assert not other.try_acquire(8, shared=False)
        assert not one.try_acquire(2**60, shared=True)
        one.release(8)
        assert other.try_acquire(8, shared=False)
        one.close()
        other.release(7)
        assert other.try_acquire(7, shared=False)
    finally:
        one.close()
        other.close()


def _hold_byte(path: str, pipe: Connection) -> None:
    locks = ByteLocks(Path(path))
    locks.open()
    pipe.send(locks.try_acquire(5, shared=True))
    pipe.recv()


def test_byte_locks_end_with_their_process(path: Path) -> None:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_hold_byte, args=(str(path), theirs))
    process.start()
    locks = ByteLocks(path)
    locks.open()
    try:
        assert ours.recv() is True
        assert not locks.try_acquire(5, shared=False)
        process.kill()
        process.join()
        assert locks.try_acquire(5, shared=False)
    finally:
        process.kill()
        process.join()
        locks.close()
        ours.close()
        theirs.close()


def _count_up(directory: str, rounds: int) -> None:
    """Read, yield to the others, write back: any two inside at once lose a count."""
    root = Path(directory)

    async def scenario() -> None:
        for _ in range(rounds):
            lock = ProcessLock(root / "lock")
            await lock.acquire(poll_s=0.001)
            count = int((root / "count").read_text())
            os.sched_yield()
            (root / "count").write_text(str(count + 1))
            lock.release(removes_file=True)

    asyncio.run(scenario())


def test_four_processes_never_are_inside_at_once_though_the_file_comes_and_goes(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    processes = [_SPAWN.Process(target=_count_up, args=(str(tmp_path), 100)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert (tmp_path / "count").read_text() == "400"
