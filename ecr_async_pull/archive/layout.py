"""What an archive consists of, as values: members in order, and where each byte of them goes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..digest import Digest


class Form(enum.Enum):
    """STORED: the blob as the registry has it (digest = blob digest). TAR: inflated (digest = diff_id)."""

    STORED = "stored"
    TAR = "tar"


class MemberKind(enum.Enum):
    FILE = "0"
    SYMLINK = "2"
    DIRECTORY = "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobContent:
    """Bytes that the engine writes. `size_bytes` is exact or, before they arrived, a guess."""

    digest: Digest
    form: Form
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One tar member. `content`: bytes, a blob, or None for directories and links. `mode`: the header's."""

    name: str
    kind: MemberKind
    mode: int
    mtime_s: int
    content: bytes | BlobContent | None = None
    link_target: str = ""

    @property
    def size_bytes(self) -> int:
        if self.content is None:
            return 0
        return len(self.content) if isinstance(self.content, bytes) else self.content.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A member at its place in bytes: `header` (with its pax records) at `header_offset`, then its data."""

    member: Member
    header: bytes
    header_offset: int
    data_offset: int
