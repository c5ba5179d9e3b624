"""Small files that are there whole or not at all. Blocking: call through `asyncio.to_thread`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def write_atomic(
    path: Path, data: bytes, *, mode: int | None = None, temporary_in: Path | None = None
) -> None:
    """Write `data` to `path` through a temporary file and a rename; raises `OSError`.

    `mode` is set exactly; None follows the umask (0666). `temporary_in` is the directory of the temporary
    file, on the same file system; None means beside `path`. Not synced: a power cut may lose the file or
    leave it empty, so readers check what they read.
    """
    directory = temporary_in or path.parent
    temporary = directory / f".{path.name[:80]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode & 0o600)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
