"""Layout L: what `docker save` of Docker 24 and before writes, a directory for each layer named by its v1 id.

Times that a daemon takes from its clock (directories whose layer is a link) are 0 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..digest import Digest
from ..model import go_text
from ..model.image import ResolvedImage
from .images import SavedImage, merge
from .layout import BlobContent, Form, Member, MemberKind
from .naming import repo_tags, repositories
from .v1_image import DOCKER_24, V1Image, V1Layer

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_LINK_MODE = 0o777
_CLOCK_S = 0


@dataclass(slots=True)
class _Save:
    """One save: what has been written so far. A later layer of the same content links to the first."""

    tar_sizes: Mapping[Digest, int]
    members: dict[str, Member] = field(default_factory=dict)
    first_paths: dict[Digest, str] = field(default_factory=dict)

    def add_layer(self, layer: V1Layer, mtime_s: int) -> None:
        directory = f"{layer.id}/"
        if directory in self.members:
            return
        path = f"{directory}layer.tar"
        first_path = self.first_paths.setdefault(layer.diff_id, path)
        content: BlobContent | None = None
        if first_path == path:
            content = BlobContent(
                digest=layer.diff_id, form=Form.TAR, size_bytes=self.tar_sizes[layer.diff_id]
            )
        else:
            mtime_s = _CLOCK_S
        self._add(directory, MemberKind.DIRECTORY, mtime_s)
        self._add(f"{directory}VERSION", MemberKind.FILE, mtime_s, b"1.0")
        self._add(f"{directory}json", MemberKind.FILE, mtime_s, layer.json)
        if content is not None:
            self._add(path, MemberKind.FILE, mtime_s, content)
        else:
            self._add(path, MemberKind.SYMLINK, mtime_s, link_target=f"../{first_path}")

    def add_document(self, name: str, raw: bytes, mtime_s: int) -> None:
        self._add(name, MemberKind.FILE, mtime_s, raw)

    def _add(
        self,
        name: str,
        kind: MemberKind,
        mtime_s: int,
        content: bytes | BlobContent | None = None,
        link_target: str = "",
    ) -> None:
        mode = {MemberKind.DIRECTORY: _DIRECTORY_MODE, MemberKind.SYMLINK: _LINK_MODE}.get(kind, _FILE_MODE)
        self.members[name] = Member(
            name=name, kind=kind, mode=mode, mtime_s=mtime_s, content=content, link_target=link_target
        )

    def sorted_members(self) -> tuple[Member, ...]:
        """As a walk of directories finds them: by name, level by level."""
        return tuple(self.members[name] for name in sorted(self.members, key=lambda name: name.split("/")))


def members(images: Sequence[ResolvedImage], tar_sizes: Mapping[Digest, int]) -> tuple[Member, ...]:
    """The members of one archive of all `images`, in the order in which Docker writes them.

    Raises `UnsupportedImageError` for a config that Docker refuses.
    """
    save = _Save(tar_sizes)
    entries: list[str] = []
    tops: list[tuple[str, str]] = []
    for image in merge(images, DOCKER_24.name):
        v1_image = DOCKER_24.v1_image(image.config)
        for layer in v1_image.layers:
            save.add_layer(layer, v1_image.mtime_s)
        config_name = f"{image.config.digest.hex}.json"
        save.add_document(config_name, image.config.raw, v1_image.mtime_s)
        entries.append(_manifest_entry(image, v1_image, config_name))
        tops.extend((name, v1_image.layers[-1].id) for name in image.names)
    save.add_document("manifest.json", f"[{','.join(entries)}]\n".encode(), 0)
    if tops:
        save.add_document("repositories", repositories(tops), 0)
    return save.sorted_members()


def _manifest_entry(image: SavedImage, v1_image: V1Image, config_name: str) -> str:
    return go_text.struct(
        [
            ("Config", go_text.quote(config_name)),
            ("RepoTags", repo_tags(image.names)),
            ("Layers", go_text.strings(f"{layer.id}/layer.tar" for layer in v1_image.layers)),
        ]
    )
