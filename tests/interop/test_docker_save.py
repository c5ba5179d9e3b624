"""The legacy layout, whole file, against what the daemon saves after pulling the same image itself.

Debian's daemon (20.10) is older than the one whose bytes we write (24): it sets the file type's bits in
`mode`, and fills in `uname` and `gname`. And the members of a directory whose layer is a link carry the time
of the save, where ours have 0. Those fields are rewritten in the daemon's tar, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standin.images import BuiltImage
from tests.standin.zoo import loadable

from .consumers import Docker
from .rig import Rig

BLOCK = 512
MODE, SIZE, MTIME, CHECKSUM = slice(100, 108), slice(124, 136), slice(136, 148), slice(148, 156)
OWNER_NAMES, TYPE = slice(265, 329), 156

NOT_PULLED_BY_DOCKER_20 = {
    "zstd": "knows no zstd",
    "docker-zstd": "knows no zstd",
    "mislabelled": "knows no zstd",
    "many-layers": "takes 125 layers at most",
    "foreign-layer": "asks the registry for it, except on Windows",
}


def same_image() -> dict[str, BuiltImage]:
    return {name: image for name, image in loadable().items() if name not in NOT_PULLED_BY_DOCKER_20}


def members(tar: bytes) -> Iterator[tuple[int, str]]:
    """(offset of the header, name) of each member up to the zero blocks."""
    at = 0
    while tar[at : at + BLOCK].strip(b"\0"):
        header = tar[at : at + BLOCK]
        yield at, header[:100].rstrip(b"\0").decode()
        at += BLOCK + -(-int(header[SIZE].rstrip(b"\0"), 8) // BLOCK) * BLOCK


def as_docker_24(tar: bytes) -> bytes:
    result = bytearray(tar)
    headers = {name: at for at, name in members(tar)}
    linked = {name.split("/")[0] for name, at in headers.items() if tar[at + TYPE] == ord("2")}
    for name, at in headers.items():
        header = bytearray(tar[at : at + BLOCK])
        header[MODE] = b"%07o\0" % (int(header[MODE].rstrip(b"\0"), 8) & 0o777)
        assert header[OWNER_NAMES] == b"root".ljust(32, b"\0") * 2
        header[OWNER_NAMES] = bytes(64)
        if name.split("/")[0] in linked:
            header[MTIME] = b"%011o\0" % 0
        header[CHECKSUM] = b" " * 8
        header[CHECKSUM] = b"%06o\0 " % sum(header)
        result[at : at + BLOCK] = header
    return bytes(result)


def first_difference(ours: bytes, theirs: bytes) -> str:
    """Where two tars part, in words: a diff of megabytes helps nobody."""
    mine, others = list(members(ours)), list(members(theirs))
    if [name for _, name in mine] != [name for _, name in others]:
        return f"members: {[name for _, name in mine]} against {[name for _, name in others]}"
    at = next(at for at in range(max(len(ours), len(theirs))) if ours[at : at + 1] != theirs[at : at + 1])
    header, name = max(each for each in mine if each[0] <= at)
    return f"{name} at {at - header}: {ours[at - 80 : at + 80]!r} against {theirs[at - 80 : at + 80]!r}"


@pytest.fixture(scope="module")
def ours(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our archives of all images, from one command."""
    directory = tmp_path_factory.mktemp("ours") / "work"
    directory.mkdir()
    for name, image in same_image().items():
        rig.publish(image, f"save/{name}", "1.0")
    references = [rig.reference(f"save/{name}", "1.0") for name in same_image()]
    result = rig.run_cli("pull", *references, "--format", "docker-legacy", "-o", directory, cwd=directory)
    assert result.returncode == 0, result.stderr
    return directory


@pytest.mark.parametrize("name", sorted(same_image()))
def test_docker_save_after_docker_pull_gives_our_bytes(
    rig: Rig, docker: Docker, ours: Path, tmp_path: Path, name: str
) -> None:
    reference = rig.reference(f"save/{name}", "1.0")
    docker.forget_all()
    docker.output("--config", rig.docker_config, "pull", "--quiet", reference)
    docker.output("save", "--output", tmp_path / "theirs.tar", reference)
    theirs = as_docker_24((tmp_path / "theirs.tar").read_bytes())
    mine = (ours / f"{name}-1.0.tar").read_bytes()
    if mine != theirs:
        pytest.fail(first_difference(mine, theirs), pytrace=False)


def test_the_comparison_sees_one_wrong_byte(rig: Rig, docker: Docker, ours: Path) -> None:
    mine = (ours / "plain-1.0.tar").read_bytes()
    at = mine.index(b'"created"')
    assert "json at" in first_difference(mine, mine[:at] + b"'" + mine[at + 1 :])
