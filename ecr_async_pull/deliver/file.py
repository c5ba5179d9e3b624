"""A finished archive gets its final name, whole or not at all. Blocking: call through a thread."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ..errors import StorageError, UsageError, storage_errors


def check_target(path: Path) -> Path:
    """The path that will be written, links followed; refuses early what could not be written later.

    Raises `StorageError` for a directory that is missing or can't be written, `UsageError` for what is
    there and no regular file.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise StorageError(f"there is no directory {real.parent}; make it, or name another output with -o")
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise StorageError(f"no permission to write into {real.parent}; name another output with -o")
    if real.exists() and not stat.S_ISREG(real.stat().st_mode):
        kind = "a directory" if real.is_dir() else "no regular file"
        raise UsageError(f"{path} is {kind}; name a file to write with -o")
    return real


def commit_file(partial: Path, final: Path) -> None:
    """Rename the finished, verified `partial` on the same file system to `final`; replaces what was there.

    The file gets the mode that the umask gives. Raises `StorageError`.
    """
    with storage_errors("write", final):
        partial.chmod(0o666 & ~current_umask())
        try:
            partial.replace(final)
        except OSError as error:
            if error.errno == errno.EISDIR:
                raise UsageError(f"{final} became a directory; name a file to write with -o") from error
            raise


def current_umask() -> int:
    """The process's umask, read without changing it for other threads where the system tells it."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
