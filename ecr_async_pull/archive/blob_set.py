"""The `blobs/` directory of an image layout (image-spec, image-layout.md), and descriptors as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..digest import Digest
from ..model import go_text
from ..model.descriptor import OCI_INDEX
from .layout import BlobContent, Member, MemberKind
from .naming import blob_path

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644


class BlobSet:
    """Blobs, each once: who adds a digest first decides its time. `mode` is every blob's."""

    def __init__(self, *, mode: int) -> None:
        self._mode = mode
        self._blobs: dict[str, Member] = {}

    def add(self, digest: Digest, content: bytes | BlobContent, mtime_s: int = 0) -> bool:
        """Whether the digest was new."""
        path = blob_path(digest)
        if path in self._blobs:
            return False
        self._blobs[path] = Member(
            name=path, kind=MemberKind.FILE, mode=self._mode, mtime_s=mtime_s, content=content
        )
        return True

    def add_document(self, raw: bytes, mtime_s: int = 0) -> bool:
        return self.add(Digest.of(raw), raw, mtime_s)

    def members(
        self,
        files: Mapping[str, bytes],
        *,
        blobs_mtime_s: int = 0,
        file_modes: Mapping[str, int] | None = None,
    ) -> tuple[Member, ...]:
        """Directories, blobs and the top level's `files` (0644 unless said, time 0), sorted by name."""
        modes = file_modes or {}
        algorithms = {path.split("/")[1] for path in self._blobs}
        directories = [("blobs/", blobs_mtime_s), *((f"blobs/{algorithm}/", 0) for algorithm in algorithms)]
        members = [
            Member(name=name, kind=MemberKind.DIRECTORY, mode=_DIRECTORY_MODE, mtime_s=mtime_s)
            for name, mtime_s in directories
        ]
        members += self._blobs.values()
        members += [
            Member(
                name=name, kind=MemberKind.FILE, mode=modes.get(name, _FILE_MODE), mtime_s=0, content=content
            )
            for name, content in files.items()
        ]
        return tuple(sorted(members, key=lambda member: member.name))


def descriptor(
    media_type: str, digest: Digest, size_bytes: int, annotations: Mapping[str, str] | None = None
) -> str:
    """A descriptor as Go writes it; the values of `annotations` are JSON already."""
    fields = [
        ("mediaType", go_text.quote(media_type)),
        ("digest", go_text.quote(str(digest))),
        ("size", str(size_bytes)),
    ]
    if annotations:
        fields.append(("annotations", go_text.mapping(annotations)))
    return go_text.struct(fields)


def index_document(descriptors: Iterable[str]) -> bytes:
    """`index.json` of descriptors that are JSON already."""
    return go_text.struct(
        [
            ("schemaVersion", "2"),
            ("mediaType", go_text.quote(OCI_INDEX)),
            ("manifests", f"[{','.join(descriptors)}]"),
        ]
    ).encode()
