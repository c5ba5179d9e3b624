"""The pack step: no layer that lies in its slot is written again, else all is put together anew."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from ecr_async_pull.archive.layout import BlobContent, Form, Member, MemberKind
from ecr_async_pull.archive.pack import BlobKey, pack
from ecr_async_pull.archive.tar import place
from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import StorageError
from ecr_async_pull.transfer.sinks import Extent

LAYERS = {"a/layer.tar": b"A" * 1000, "b/layer.tar": b"", "c/layer.tar": b"C" * 5120}


def file(name: str, content: bytes | BlobContent) -> Member:
    return Member(name=name, kind=MemberKind.FILE, mode=0o644, mtime_s=0, content=content)


def members() -> tuple[Member, ...]:
    layers = [
        file(name, BlobContent(digest=Digest.of(data), form=Form.TAR, size_bytes=len(data)))
        for name, data in LAYERS.items()
    ]
    link = Member(name="l", kind=MemberKind.SYMLINK, mode=0o777, mtime_s=0, link_target="a/layer.tar")
    folder = Member(name="d", kind=MemberKind.DIRECTORY, mode=0o755, mtime_s=0)
    return (folder, *layers, link, file("manifest.json", b"[]"))


def lay_out(partial: Path, elsewhere: frozenset[str] = frozenset(), junk: int = 0) -> dict[BlobKey, Extent]:
    blobs: dict[BlobKey, Extent] = {}
    partial.write_bytes(b"J" * junk)
    with partial.open("r+b") as archive:
        for one in place(members())[0]:
            if not isinstance(one.member.content, BlobContent):
                continue
            data = LAYERS[one.member.name]
            path, offset = partial, one.data_offset
            if one.member.name in elsewhere:
                path, offset = partial.with_name(one.member.name[0]), 7
                path.write_bytes(b"-" * offset + data)
            else:
                archive.seek(offset)
                archive.write(data)
            blobs[Digest.of(data), Form.TAR] = Extent(path=path, offset=offset, size_bytes=len(data))
    return blobs


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: file.read() for info in tar if info.isreg() and (file := tar.extractfile(info))}


@pytest.mark.parametrize("junk", [0, 3000, 100_000])
@pytest.mark.parametrize("elsewhere", [set(), {"a/layer.tar"}, {"b/layer.tar"}, set(LAYERS)])
def test_wherever_the_layers_lie_the_archive_has_the_same_bytes(
    tmp_path: Path, elsewhere: set[str], junk: int
) -> None:
    reference = tmp_path / "reference"
    pack(reference, members(), lay_out(reference))
    partial = tmp_path / "partial"
    size = pack(partial, members(), lay_out(partial, frozenset(elsewhere), junk))
    assert partial.read_bytes() == reference.read_bytes()
    assert size == partial.stat().st_size
    assert contents(partial) == {**LAYERS, "manifest.json": b"[]"}


def test_layers_in_their_slots_are_not_written_again(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    blobs = lay_out(partial)
    inode = partial.stat().st_ino
    pack(partial, members(), blobs)
    assert partial.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["partial"]


def test_a_half_assembled_archive_of_a_broken_run_does_not_shine_through(tmp_path: Path) -> None:
    reference, partial = tmp_path / "reference", tmp_path / "partial"
    pack(reference, members(), lay_out(reference))
    (tmp_path / "partial.assembled").write_bytes(b"old" * 50_000)
    pack(partial, members(), lay_out(partial, frozenset({"a/layer.tar"})))
    assert partial.read_bytes() == reference.read_bytes()


def test_an_archive_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't write"):
        pack(tmp_path / "missing" / "partial", (file("f", b"x"),), {})


def test_what_is_written_ends_with_two_zero_blocks(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    pack(partial, (file("f", b"x" * 512),), {})
    data = partial.read_bytes()
    assert len(data) == 512 * 4
    assert data[-1024:] == bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["f"]
