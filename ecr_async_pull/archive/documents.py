"""The JSON files that Docker's archives have beside manifests and configs, as values."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..errors import IntegrityError

_T = TypeVar("_T")


class LayoutDocument(msgspec.Struct, frozen=True):
    """`oci-layout` (image-spec image-layout.md)."""

    version: str = msgspec.field(name="imageLayoutVersion")


class DockerImageDocument(msgspec.Struct, frozen=True):
    """One entry of `manifest.json`."""

    config: str = msgspec.field(name="Config")
    names: list[str] | None = msgspec.field(name="RepoTags", default=None)
    layers: list[str] | None = msgspec.field(name="Layers", default=None)


class V1Document(msgspec.Struct, frozen=True):
    """A layer's v1 `json`; the other fields are Docker's own."""

    id: str = ""
    parent: str | None = None


def decode(raw: bytes, kind: type[_T]) -> _T:
    """Raises `IntegrityError`, naming the field, for what isn't such a document."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"its JSON can't be read: {error}") from error
