"""The names that engines shall give to an image."""

from __future__ import annotations


def names_of(given: list[str] | None, *, is_nameless: bool) -> tuple[str, ...] | None:
    """The `RepoTags` that were asked for; None for the reference's own. Raises `UsageError`."""
    from ..errors import ReferenceError as InvalidReferenceError
    from ..errors import UsageError
    from ..model.reference import ImageReference

    if is_nameless:
        if given:
            raise UsageError("--name and --no-name exclude each other; leave one out")
        return ()
    if not given:
        return None
    names = []
    for text in given:
        try:
            reference = ImageReference.parse(text)
        except InvalidReferenceError as error:
            raise UsageError(f"name {text}: {error}") from error
        if reference.digest is not None:
            raise UsageError(f"name {text}: engines take REPO:TAG as a name, without a digest")
        names.append(f"{reference.familiar_name}:{reference.tag}")
    return tuple(dict.fromkeys(names))
