"""The image's JSON config (image-spec config.md), read by the rules of Go's decoder as engines do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ..digest import Digest
from ..errors import IntegrityError, UnsupportedImageError
from .go_json import Node, parse
from .go_time import GoTime, parse_time
from .go_types import GoType, Pointer, Slice, SliceValue, String, Struct, StructValue, field
from .platform import Platform

WHAT = "the image's config"


class _LenientTime(GoType["GoTime | None"]):
    """A time that is None where it isn't one: containerd's store takes such images, and so do we."""

    def zero(self) -> GoTime | None:
        return None

    def decode(self, node: Node, old: GoTime | None, path: str) -> GoTime | None:
        return parse_time(node) if isinstance(node, bytes) else None


_CONFIG = Struct(
    field("created", _LenientTime),
    field("architecture", String),
    field("variant", String),
    field("os", String),
    field("os.version", String),
    field("os.features", Slice(String())),
    field("rootfs", Pointer(Struct(field("type", String), field("diff_ids", Slice(String()))))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """`raw` is the bytes as they came, `digest` (the image ID) theirs.

    `created_s` is whole Unix seconds, None if absent or no time.
    """

    raw: bytes
    digest: Digest
    platform: Platform
    diff_ids: tuple[Digest, ...]
    created_s: int | None

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Raises `UnsupportedImageError`, naming the field, for a config that every engine refuses.

        That is: no JSON, no `rootfs`, or a wrong type in what an engine must know. What Docker alone refuses
        (elsewhere in the config) is for the writers of Docker's archives to refuse.
        """
        value = _CONFIG.decode(parse(raw, what=WHAT), _CONFIG.zero(), "")
        rootfs = cast("StructValue | None", value["rootfs"])
        if rootfs is None:
            raise UnsupportedImageError(
                f"{WHAT} has no 'rootfs' field, so this is not a container image; pull another reference"
            )
        features = cast("SliceValue[str] | None", value["os.features"])
        created = cast("GoTime | None", value["created"])
        return cls(
            raw=raw,
            digest=Digest.of(raw),
            platform=Platform(
                os=cast("str", value["os"]),
                architecture=cast("str", value["architecture"]),
                variant=cast("str", value["variant"]),
                os_version=cast("str", value["os.version"]),
                os_features=features.items if features is not None else (),
            ),
            diff_ids=_diff_ids(cast("SliceValue[str] | None", rootfs["diff_ids"])),
            created_s=created.unix_s if created is not None else None,
        )


def _diff_ids(value: SliceValue[str] | None) -> tuple[Digest, ...]:
    diff_ids = []
    for place, text in enumerate(value.items if value is not None else ()):
        try:
            diff_ids.append(Digest.parse(text))
        except IntegrityError as error:
            raise UnsupportedImageError(f"field 'rootfs.diff_ids[{place}]' of {WHAT}: {error}") from error
    return tuple(diff_ids)
