"""One tree: exit codes by who must act, and the disk's refusals in words."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ecr_async_pull import errors


def all_errors() -> list[type[errors.PullError]]:
    found, todo = list[type[errors.PullError]](), [errors.PullError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return found


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.ReferenceError, 2),
        (errors.AuthError, 3),
        (errors.RegistryError, 4),
        (errors.NotFoundError, 4),
        (errors.TransientError, 4),
        (errors.PlatformError, 4),
        (errors.UnsupportedImageError, 4),
        (errors.IntegrityError, 5),
        (errors.StorageError, 6),
    ],
)
def test_exit_codes_say_who_must_act(kind: type[errors.PullError], code: int) -> None:
    assert kind.exit_code == code


def test_only_what_another_try_may_mend_is_transient() -> None:
    transient = {kind for kind in all_errors() if kind.is_transient}
    assert transient == {kind for kind in all_errors() if issubclass(kind, errors.TransientError)}
    assert errors.TransientError in transient


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_the_disks_refusal_is_one_line_with_advice(number: int) -> None:
    with pytest.raises(errors.StorageError) as caught, errors.storage_errors("write", Path("/some/where")):
        raise OSError(number, "because")
    message = str(caught.value)
    assert message.startswith("can't write /some/where: because; ")
    assert "\n" not in message
    assert isinstance(caught.value.__cause__, OSError)


def test_our_own_errors_pass_through_the_disks() -> None:
    with pytest.raises(errors.IntegrityError), errors.storage_errors("write", Path("x")):
        raise errors.IntegrityError("not the disk")
