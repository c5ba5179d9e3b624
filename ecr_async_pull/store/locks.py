"""Locks between processes, which the kernel lets go of when their holder ends, however it ends.

Built on `fcntl` itself: filelock's `FileLock` has no shared mode, and its read/write lock is a SQLite
database, which can't be taken for thousands of blobs at once. Made for local file systems.

The files are opened for reading where they exist, so that users who share only a group can lock files that
another one of them made.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
from pathlib import Path

from ..errors import storage_errors
from ..transfer.offload import in_thread

# struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid, padded to 8.
_FLOCK = struct.Struct("hhqqi0q")


class ProcessLock:
    """One lock file (flock), shared or exclusive. Two objects exclude each other also within one process.

    `mode`: exact permissions of a lock file made here; None follows the umask (0666).
    """

    def __init__(self, path: Path, *, mode: int | None = None) -> None:
        self._path = path
        self._mode = mode
        self._descriptor = -1
        self._is_held = False

    @property
    def is_held(self) -> bool:
        return self._is_held

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if that is possible now.

        Blocks for file work only (`asyncio.to_thread`); `StorageError`.
        """
        assert not self._is_held
        while True:
            self._open()
            if self._take(shared=shared):
                return True
            if self._descriptor >= 0:
                self.release()
                return False

    async def acquire(self, *, shared: bool = False, poll_s: float = 0.05) -> None:
        """Take the lock, asking again every `poll_s` seconds; no thread waits meanwhile.

        Raises `StorageError`.
        """
        assert not self._is_held
        try:
            while True:
                if self._descriptor < 0:
                    await in_thread(None, self._open)
                if self._take(shared=shared):
                    return
                if self._descriptor >= 0:
                    await asyncio.sleep(poll_s)
        except BaseException:
            self.release()
            raise

    def release(self, *, removes_file: bool = False) -> None:
        """Idempotent. `removes_file`: unlink the lock file first, which only the exclusive holder may do."""
        if self._descriptor < 0:
            return
        try:
            if removes_file and self._is_held:
                with storage_errors("remove the lock", self._path):
                    self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            self._is_held = False

    def _open(self) -> None:
        with storage_errors("lock", self._path):
            self._descriptor = _open_or_create(self._path, os.O_RDONLY, self._mode)

    def _take(self, *, shared: bool) -> bool:
        """One attempt on the open file, without touching the disk.

        A file that was unlinked meanwhile is closed.
        """
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        with storage_errors("lock", self._path):
            try:
                fcntl.flock(self._descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if os.fstat(self._descriptor).st_nlink == 0:
                os.close(self._descriptor)
                self._descriptor = -1
                return False
        self._is_held = True
        return True


class ByteLocks:
    """Any number of shared or exclusive locks in one open file: open file description locks on single bytes.

    Keys are byte offsets from 0 to 2**63 - 2. Two objects exclude each other also within one process; within
    one object the last call on a key decides. All blocking is for file work only.
    """

    def __init__(self, path: Path, *, mode: int | None = None) -> None:
        self._path = path
        self._mode = mode
        self._descriptor = -1

    def open(self) -> None:
        """Raises `StorageError`. Without write permission only shared locks can be taken."""
        with storage_errors("lock", self._path):
            try:
                self._descriptor = _open_or_create(self._path, os.O_RDWR, self._mode)
            except PermissionError:
                self._descriptor = _open_or_create(self._path, os.O_RDONLY, self._mode)

    def try_acquire(self, key: int, *, shared: bool) -> bool:
        return self._set(key, fcntl.F_RDLCK if shared else fcntl.F_WRLCK)

    def release(self, key: int) -> None:
        self._set(key, fcntl.F_UNLCK)

    def close(self) -> None:
        """Releases every lock; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _set(self, key: int, kind: int) -> bool:
        with storage_errors("lock", self._path):
            try:
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, key, 1, 0))
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EACCES}:
                    return False
                raise
        return True


def _open_or_create(path: Path, access: int, mode: int | None) -> int:
    flags = access | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        except FileExistsError:
            continue
        if mode is not None:
            os.fchmod(descriptor, mode)
        return descriptor
