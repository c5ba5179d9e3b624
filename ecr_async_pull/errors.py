"""One tree of errors, branched by who must act.

Every message is one line that says what is wrong and what to do next. `exit_code` is what the command
line ends with; `is_transient` says whether the same call may well succeed if it is made again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PullError(Exception):
    """Root of every error that this package raises on purpose."""

    exit_code = 1
    is_transient = False


class UsageError(PullError):
    """The caller asked for something that can't be done as asked: change the command or the call."""

    exit_code = 2


class ReferenceError(UsageError):  # noqa: A001 - the field's word; always used through this module's name
    """A text is not an image reference. `text` is what was given."""

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text


class AuthError(PullError):
    """We are not who we should be: credentials, a login or a permission is missing or has expired."""

    exit_code = 3


class RegistryError(PullError):
    """A registry or its storage host refused, failed or is out of reach.

    `status` is the HTTP status where there was an answer, `code` the registry's own error code
    (distribution-spec, "Error Codes").
    """

    exit_code = 4

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NotFoundError(RegistryError):
    """The registry has no such repository, tag, digest or blob."""


class TransientError(RegistryError):
    """A fault that another try may not meet: reset, short body, idle body, 408, 429, 5xx.

    `retry_after_s` is what the server asked for, in seconds, where it asked. `is_throttle` marks 429,
    503 and SlowDown: the answer to those is fewer connections.
    """

    is_transient = True

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        is_throttle: bool = False,
    ) -> None:
        super().__init__(message, status=status, code=code)
        self.retry_after_s = retry_after_s
        self.is_throttle = is_throttle


class PlatformError(RegistryError):
    """An index has no image for the wanted platform; `available` lists those that it has."""

    def __init__(self, message: str, *, available: tuple[str, ...]) -> None:
        super().__init__(message)
        self.available = available


class UnsupportedImageError(RegistryError):
    """What the reference names can't become the archive asked for: schema 1, artifact, encrypted."""


class IntegrityError(PullError):
    """Bytes are not what their digest or size says. Nothing of them is kept."""

    exit_code = 5


class StorageError(PullError):
    """The local disk refused: no space, no permission, no such directory."""

    exit_code = 6


_ADVICE = {
    errno.ENOSPC: "free space there or choose another directory; what was fetched is kept",
    errno.EDQUOT: "this user's quota is used up: free space there or choose another directory",
    errno.EACCES: "give this user write permission there or choose another directory",
    errno.EPERM: "give this user write permission there or choose another directory",
    errno.EROFS: "choose a directory on a file system that can be written",
    errno.ENOTDIR: "a file is in the way: remove it or choose another directory",
    errno.EEXIST: "a file is in the way: remove it or choose another directory",
    errno.ELOOP: "a symbolic link is in the way: remove it or choose another directory",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


@contextmanager
def storage_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` of the body into `StorageError`: "can't `doing` `path`: why; what to do"."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check this directory or choose another one")
        reason = error.strerror or type(error).__name__
        raise StorageError(f"can't {doing} {path}: {reason}; {advice}") from error
