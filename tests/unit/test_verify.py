"""`verify` on archives built by hand from bytes: right ones of every writer, and each kind of wrong."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecr_async_pull.archive.verify import VerifyReport, verify
from ecr_async_pull.errors import UsageError

NAME = "registry.example.com/team/app:1.2"
OCI = "application/vnd.oci.image"
Files = dict[str, Any]
"""Member name -> its bytes; a str is a symbolic link's target, None a directory."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def layer_tar(text: str, size_bytes: int = 700_000) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("etc/file")
        info.size = size_bytes
        tar.addfile(info, io.BytesIO((text * (size_bytes // len(text) + 1)).encode()[:size_bytes]))
    return stream.getvalue()


LAYERS = (layer_tar("lower "), layer_tar("upper "))


def config_of(layers: tuple[bytes, ...] = LAYERS, **extra: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{sha(layer)}" for layer in layers]}
    return as_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **extra})


def legacy_files(layers: tuple[bytes, ...] = LAYERS) -> Files:
    """As `docker save` up to 24 writes it, but with made-up ids: verifying doesn't depend on them."""
    config = config_of(layers)
    files: Files = {f"{sha(config)}.json": config}
    ids = [sha(f"id {position}".encode()) for position in range(len(layers))]
    first: dict[bytes, str] = {}
    for position, (layer_id, layer) in enumerate(zip(ids, layers, strict=True)):
        parent = {"parent": ids[position - 1]} if position else {}
        files[layer_id] = None
        files[f"{layer_id}/VERSION"] = b"1.0"
        files[f"{layer_id}/json"] = as_json({"id": layer_id, **parent, "created": "1970-01-01T00:00:00Z"})
        files[f"{layer_id}/layer.tar"] = f"../{first[layer]}/layer.tar" if layer in first else layer
        first.setdefault(layer, layer_id)
    files["manifest.json"] = as_json(
        [
            {
                "Config": f"{sha(config)}.json",
                "RepoTags": [NAME],
                "Layers": [f"{layer_id}/layer.tar" for layer_id in ids],
            }
        ]
    )
    files["repositories"] = as_json({NAME.rpartition(":")[0]: {"1.2": ids[-1]}})
    return files


def crane_files() -> Files:
    config = config_of()
    blobs = [gzip.compress(layer, mtime=0) for layer in LAYERS]
    files: Files = {f"sha256:{sha(config)}": config}
    files.update({f"{sha(blob)}.tar.gz": blob for blob in blobs})
    names = [f"{sha(blob)}.tar.gz" for blob in blobs]
    files["manifest.json"] = as_json(
        [{"Config": f"sha256:{sha(config)}", "RepoTags": [NAME], "Layers": names}]
    )
    return files


def descriptor(data: bytes, media_type: str, **extra: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha(data)}", "size": len(data), **extra}


def put(files: Files, data: bytes) -> str:
    name = f"blobs/sha256/{sha(data)}"
    files[name] = data
    return name


def add_image(
    files: Files, layers: tuple[bytes, ...], compress: Callable[[bytes], bytes], layer_type: str
) -> tuple[bytes, str, list[str]]:
    """Put an image's blobs; returns its manifest, its config's name and its layers' names."""
    config = config_of(layers)
    blobs = [compress(layer) for layer in layers]
    manifest = as_json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(config, f"{OCI}.config.v1+json"),
            "layers": [descriptor(blob, layer_type) for blob in blobs],
        }
    )
    put(files, manifest)
    return manifest, put(files, config), [put(files, blob) for blob in blobs]


def oci_files(
    layers: tuple[bytes, ...] = LAYERS, compress: Callable[[bytes], bytes] = gzip.compress
) -> Files:
    files: Files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"})}
    manifest, _, _ = add_image(files, layers, compress, f"{OCI}.layer.v1.tar+gzip")
    named = {"annotations": {"org.opencontainers.image.ref.name": "1.2"}}
    files["index.json"] = as_json(
        {"schemaVersion": 2, "manifests": [descriptor(manifest, f"{OCI}.manifest.v1+json", **named)]}
    )
    return files


def docker_oci_files(*, wraps_in_index: bool = False) -> Files:
    """As Docker 25 and later save it: an image layout with a manifest.json."""
    files: Files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"})}
    manifest, config, layers = add_image(files, LAYERS, bytes, f"{OCI}.layer.v1.tar")
    v1_json = as_json({"id": sha(b"v1"), "created": "1970-01-01T00:00:00Z"})
    put(files, v1_json)
    target = descriptor(manifest, f"{OCI}.manifest.v1+json")
    if wraps_in_index:
        absent = descriptor(b"not here", f"{OCI}.manifest.v1+json")
        absent["platform"] = {"os": "linux", "architecture": "arm64", "variant": "v8"}
        index = as_json(
            {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [target, absent]}
        )
        put(files, index)
        target = descriptor(index, f"{OCI}.index.v1+json")
    target["annotations"] = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1.2"}
    files["index.json"] = as_json({"schemaVersion": 2, "manifests": [target]})
    files["manifest.json"] = as_json([{"Config": config, "RepoTags": [NAME], "Layers": layers}])
    files["repositories"] = as_json({NAME.rpartition(":")[0]: {"1.2": layers[-1].rpartition("/")[2]}})
    return files


def add_member(tar: tarfile.TarFile, name: str, content: bytes | str | None) -> None:
    info = tarfile.TarInfo(name)
    if content is None:
        info.type = tarfile.DIRTYPE
    elif isinstance(content, str):
        info.type, info.linkname = tarfile.SYMTYPE, content
    else:
        info.size = len(content)
    tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)


def write_tar(path: Path, *parts: Files) -> Path:
    """Several `parts` make an archive with members of the same name."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for files in parts:
            for name, content in files.items():
                add_member(tar, name, content)
    return path


def write_directory(path: Path, files: Files) -> Path:
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def texts(report: VerifyReport) -> list[str]:
    return [str(finding) for finding in report.findings]


def check_right(report: VerifyReport) -> None:
    assert texts(report) == []


def the_only_finding(report: VerifyReport) -> str:
    assert len(report.findings) == 1, texts(report)
    return texts(report)[0]


def edited(files: Files, name: str, edit: Callable[[Any], None]) -> Files:
    """`files` with the JSON of one member edited in place."""
    document = json.loads(files[name])
    edit(document)
    return {**files, name: as_json(document)}


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (legacy_files(), "docker-legacy"),
        (legacy_files((LAYERS[0], LAYERS[1], LAYERS[0])), "docker-legacy"),
        (crane_files(), "docker-archive"),
        (docker_oci_files(), "docker-archive"),
        (docker_oci_files(wraps_in_index=True), "docker-archive"),
        (oci_files(), "oci-archive"),
    ],
    ids=["docker 24", "a layer twice by link", "crane", "docker 28", "an index", "oci"],
)
def test_right_archives_of_every_writer_are_right(tmp_path: Path, files: Files, kind: str) -> None:
    report = verify(write_tar(tmp_path / "image.tar", files))
    check_right(report)
    assert report.kind == kind
    assert len(report.images) == 1
    image = report.images[0]
    assert image.platform == "linux/amd64"
    assert image.image_id.startswith("sha256:")
    assert image.names in {(NAME,), ("1.2",)}
    assert image.tar_bytes == image.layers * len(LAYERS[0])


def test_an_oci_directory_is_right_and_is_known_as_one(tmp_path: Path) -> None:
    report = verify(write_directory(tmp_path / "layout", oci_files()))
    check_right(report)
    assert report.kind == "oci"
    assert report.images[0].stored_bytes < report.images[0].tar_bytes


def zstd_compress(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.compress(data)


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstd_compress,
        lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]),
    ],
    ids=["none", "gzip", "bzip2", "xz", "zstd", "two gzip members"],
)
def test_layers_are_inflated_by_their_first_bytes_whatever_the_media_type_says(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    files = oci_files(compress=compress)
    check_right(verify(write_tar(tmp_path / "image.tar", files)))
    other = config_of((LAYERS[1], LAYERS[0]))
    files = oci_files(compress=compress)
    index = json.loads(files["index.json"])
    manifest_name = f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"
    manifest = json.loads(files[manifest_name])
    manifest["config"] = descriptor(other, f"{OCI}.config.v1+json")
    put(files, other)
    files["index.json"] = as_json(
        {"schemaVersion": 2, "manifests": [descriptor(as_json(manifest), f"{OCI}.manifest.v1+json")]}
    )
    put(files, as_json(manifest))
    report = verify(write_tar(tmp_path / "swapped.tar", files))
    assert len(report.findings) == 2
    assert f"inflates to sha256:{sha(LAYERS[0])}" in texts(report)[0]
    assert "layer 2 of image" in texts(report)[1]


def test_empty_layers_are_layers(tmp_path: Path) -> None:
    layers = (b"", b"\0" * 1024, LAYERS[0])
    check_right(verify(write_tar(tmp_path / "a.tar", oci_files(layers))))
    check_right(verify(write_tar(tmp_path / "b.tar", legacy_files(layers))))


@pytest.mark.parametrize("make", [legacy_files, crane_files, docker_oci_files, oci_files])
def test_one_flipped_byte_in_any_file_that_has_a_digest_is_found(
    tmp_path: Path, make: Callable[[], Files]
) -> None:
    right = make()
    for name, content in right.items():
        if not isinstance(content, bytes) or name in {"manifest.json", "repositories", "index.json"}:
            continue
        if name.endswith("/json"):
            continue  # a v1 json of Docker's has no digest
        wrong = {**right, name: flipped(content, len(content) // 2)}
        report = verify(write_tar(tmp_path / "wrong.tar", wrong))
        assert name in {finding.where for finding in report.findings}, name


def test_a_flipped_byte_in_a_header_is_found(tmp_path: Path) -> None:
    data = write_tar(tmp_path / "right.tar", legacy_files()).read_bytes()
    with tarfile.open(tmp_path / "right.tar") as tar:
        offsets = [member.offset for member in tar][1:]
    for offset in offsets:
        (tmp_path / "wrong.tar").write_bytes(flipped(data, offset + 140))
        report = verify(tmp_path / "wrong.tar")
        assert any("damaged: no member's header" in text for text in texts(report)), offset


def test_a_truncated_archive_is_found_wherever_it_ends(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", legacy_files()).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        ends = [member.offset_data + member.size // 2 for member in tar if member.size > 1]
        ends += [member.offset + 100 for member in tar][1:]
        # Not before the last, `repositories`: an archive without it and without end blocks loads.
        ends += [member.offset for member in tar][1:-1]
    for end in ends:
        (tmp_path / "cut.tar").write_bytes(whole[:end])
        try:
            report = verify(tmp_path / "cut.tar")
        except UsageError:
            continue  # cut before manifest.json at a member's end: nothing tells what it was
        assert not report.is_right, end


def test_missing_end_blocks_are_a_note_as_loaders_accept_them(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "image.tar", legacy_files())
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + (last.size + 511) // 512 * 512
    path.write_bytes(path.read_bytes()[:end])
    report = verify(path)
    check_right(report)
    assert "no end blocks" in str(report.notes[0])


def test_bytes_after_the_end_are_a_note(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "image.tar", legacy_files())
    with path.open("ab") as file:
        file.write(b"garbage")
    report = verify(path)
    check_right(report)
    assert "follow the archive's end" in str(report.notes[0])


def test_a_missing_layer_is_named_with_who_names_it(tmp_path: Path) -> None:
    files = crane_files()
    name = next(name for name in files if name.endswith(".gz"))
    del files[name]
    assert the_only_finding(verify(write_tar(tmp_path / "a.tar", files))) == (
        f"{name}: it is missing; manifest.json names it"
    )


def test_a_member_that_is_there_twice_is_wrong_unless_both_are_the_same(tmp_path: Path) -> None:
    files = crane_files()
    report = verify(write_tar(tmp_path / "same.tar", files, {"manifest.json": files["manifest.json"]}))
    check_right(report)
    assert "twice, with the same bytes" in str(report.notes[0])
    other = edited(files, "manifest.json", lambda document: document[0].update(RepoTags=["app:2"]))
    report = verify(write_tar(tmp_path / "other.tar", files, {"manifest.json": other["manifest.json"]}))
    assert "twice, with different bytes" in the_only_finding(report)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_names_that_lead_out_of_the_archive_are_wrong(tmp_path: Path, name: str) -> None:
    report = verify(write_tar(tmp_path / "a.tar", {**crane_files(), name: b"x"}))
    assert "leads out of the archive" in the_only_finding(report)


def test_links_that_lead_out_of_the_archive_are_wrong_and_not_followed(tmp_path: Path) -> None:
    files = legacy_files()
    layer = next(name for name in files if name.endswith("layer.tar"))
    (tmp_path / "outside").write_bytes(files[layer])
    files[layer] = str(tmp_path / "outside")
    report = verify(write_tar(tmp_path / "a.tar", files))
    assert any("leads out of the archive" in text for text in texts(report))
    assert any("missing" in text for text in texts(report))


def test_links_that_lead_to_each_other_end(tmp_path: Path) -> None:
    files = legacy_files()
    first, second = (name for name in files if name.endswith("layer.tar"))
    files[first], files[second] = f"../{second}", f"../{first}"
    report = verify(write_tar(tmp_path / "a.tar", files))
    assert any(first in text and "missing" in text for text in texts(report))


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["registry.example.com/Team/app:1"], "lower case"),
        ([f"app@sha256:{'a' * 64}"], "digest"),
        (["registry.example.com/team/app"], "no tag"),
        ([""], "RepoTags"),
        (["app:a b"], "no tag"),
    ],
)
def test_names_that_loaders_refuse_are_wrong(tmp_path: Path, names: list[str], word: str) -> None:
    files = edited(crane_files(), "manifest.json", lambda document: document[0].update(RepoTags=names))
    finding = the_only_finding(verify(write_tar(tmp_path / "a.tar", files)))
    assert finding.startswith("manifest.json: RepoTags")
    assert word in finding


@pytest.mark.parametrize("names", [None, []])
def test_an_image_without_names_is_right(tmp_path: Path, names: list[str] | None) -> None:
    files = edited(crane_files(), "manifest.json", lambda document: document[0].update(RepoTags=names))
    check_right(verify(write_tar(tmp_path / "a.tar", files)))


def test_more_layers_than_diff_ids_are_wrong(tmp_path: Path) -> None:
    files = edited(crane_files(), "manifest.json", lambda document: document[0]["Layers"].pop())
    assert "it has 2 diff_ids; manifest.json names 1 layers" in the_only_finding(
        verify(write_tar(tmp_path / "a.tar", files))
    )


def test_a_config_without_rootfs_is_wrong(tmp_path: Path) -> None:
    config = as_json({"architecture": "amd64", "os": "linux"})
    files = {
        f"{sha(config)}.json": config,
        "manifest.json": as_json([{"Config": f"{sha(config)}.json", "RepoTags": None, "Layers": []}]),
    }
    assert "rootfs" in the_only_finding(verify(write_tar(tmp_path / "a.tar", files)))


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"{}", b'[{"Layers": 5}]', b"[" * 100_000, b"\xff\xfe"]
)
def test_a_manifest_json_that_is_none_is_a_finding(tmp_path: Path, content: bytes) -> None:
    report = verify(write_tar(tmp_path / "a.tar", {**crane_files(), "manifest.json": content}))
    assert texts(report)[0].startswith("manifest.json: ")


def test_repositories_must_point_at_the_top_layer(tmp_path: Path) -> None:
    files = legacy_files()
    lower, upper = (name.partition("/")[0] for name in files if name.endswith("layer.tar"))
    repository = NAME.rpartition(":")[0]

    def with_top(tags: dict[str, str]) -> VerifyReport:
        return verify(write_tar(tmp_path / "a.tar", {**files, "repositories": as_json({repository: tags})}))

    check_right(with_top({"1.2": upper}))
    assert "its top layer is" in the_only_finding(with_top({"1.2": lower}))
    assert "which isn't here" in the_only_finding(with_top({"1.2": "0" * 64}))
    assert "which manifest.json doesn't" in the_only_finding(with_top({"1.3": upper}))


def test_the_v1_chain_must_be_whole(tmp_path: Path) -> None:
    files = legacy_files()
    lower, upper = (name.partition("/")[0] for name in files if name.endswith("layer.tar"))

    def with_json(layer_id: str, **fields: str) -> str:
        changed = edited(files, f"{layer_id}/json", lambda document: document.update(fields))
        return the_only_finding(verify(write_tar(tmp_path / "a.tar", changed)))

    assert "isn't here" in with_json(upper, parent="f" * 64)
    assert "not its directory's name" in with_json(lower, id="f" * 64)
    assert "leads back to itself" in with_json(lower, parent=upper)
    changed = {**files, f"{lower}/VERSION": b"2.0"}
    assert "not 1.0" in the_only_finding(verify(write_tar(tmp_path / "a.tar", changed)))
    del changed[f"{lower}/VERSION"]
    assert f"{lower}/VERSION: it is missing" in the_only_finding(
        verify(write_tar(tmp_path / "a.tar", changed))
    )


def test_manifest_json_and_index_json_must_agree(tmp_path: Path) -> None:
    files = docker_oci_files()
    renamed = edited(files, "manifest.json", lambda document: document[0].update(RepoTags=["app:2"]))
    del renamed["repositories"]
    report = verify(write_tar(tmp_path / "a.tar", renamed))
    assert texts(report) == [
        f"manifest.json: RepoTags has no {NAME}, which index.json gives this image",
        "index.json: it has no app:2, which manifest.json gives this image",
    ]
    empty = {**files, "index.json": as_json({"schemaVersion": 2, "manifests": []})}
    report = verify(write_tar(tmp_path / "a.tar", empty))
    assert "tools that read index.json miss it" in the_only_finding(report)


def test_platforms_of_an_index_that_are_not_here_are_a_note(tmp_path: Path) -> None:
    report = verify(write_tar(tmp_path / "a.tar", docker_oci_files(wraps_in_index=True)))
    check_right(report)
    assert "also lists what isn't here: linux/arm64/v8" in str(report.notes[0])


def test_an_index_of_which_nothing_is_here_is_wrong(tmp_path: Path) -> None:
    files: Files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"})}
    gone = [descriptor(text, f"{OCI}.manifest.v1+json") for text in (b"one", b"two")]
    index = as_json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": gone})
    put(files, index)
    files["index.json"] = as_json(
        {"schemaVersion": 2, "manifests": [descriptor(index, f"{OCI}.index.v1+json")]}
    )
    report = verify(write_tar(tmp_path / "a.tar", files))
    assert "none of the 2 manifests" in the_only_finding(report)


@pytest.mark.parametrize("part", ["config", "layers"])
def test_sizes_in_a_manifest_are_checked(tmp_path: Path, part: str) -> None:
    files = oci_files()
    digest = json.loads(files["index.json"])["manifests"][0]["digest"]
    manifest = json.loads(files[f"blobs/sha256/{digest[7:]}"])
    (manifest["config"] if part == "config" else manifest["layers"][0])["size"] += 1
    put(files, as_json(manifest))
    files["index.json"] = as_json(
        {"schemaVersion": 2, "manifests": [descriptor(as_json(manifest), f"{OCI}.manifest.v1+json")]}
    )
    assert "says" in the_only_finding(verify(write_tar(tmp_path / "a.tar", files)))


def test_files_that_nothing_refers_to_are_a_note(tmp_path: Path) -> None:
    files = {**oci_files(), "README": b"x"}
    extra = put(files, b"a blob of nobody")
    report = verify(write_tar(tmp_path / "a.tar", files))
    check_right(report)
    assert "README" in str(report.notes[0])
    assert extra in str(report.notes[0])


def test_foreign_layers_may_be_elsewhere(tmp_path: Path) -> None:
    files: Files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"})}
    config = config_of(LAYERS[:1])
    foreign = descriptor(b"x", f"{OCI}.layer.nondistributable.v1.tar+gzip", urls=["https://example.com/x"])
    manifest = as_json(
        {"schemaVersion": 2, "config": descriptor(config, f"{OCI}.config.v1+json"), "layers": [foreign]}
    )
    put(files, config)
    put(files, manifest)
    files["index.json"] = as_json(
        {"schemaVersion": 2, "manifests": [descriptor(manifest, f"{OCI}.manifest.v1+json")]}
    )
    report = verify(write_tar(tmp_path / "a.tar", files))
    check_right(report)
    assert "foreign layer" in str(report.notes[0])


def test_a_layer_of_several_images_is_counted_for_each_and_right(tmp_path: Path) -> None:
    first, second = crane_files(), crane_files()
    config = config_of(LAYERS, author="another")
    second.pop(next(name for name in second if name.startswith("sha256:")))
    documents = json.loads(first["manifest.json"])
    documents.append({**documents[0], "Config": f"sha256:{sha(config)}", "RepoTags": ["app:2"]})
    files = {**first, f"sha256:{sha(config)}": config, "manifest.json": as_json(documents)}
    report = verify(write_tar(tmp_path / "a.tar", files))
    check_right(report)
    assert [image.names for image in report.images] == [(NAME,), ("app:2",)]


def test_gnu_tars_with_dot_names_are_read(tmp_path: Path) -> None:
    files = {f"./{name}": content for name, content in docker_oci_files().items()}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in {"./": None, **files}.items():
            add_member(tar, name, content)
    check_right(verify(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a tar archive"),
        (b"hello, world" * 1000, "not a tar archive"),
        (gzip.compress(b"x" * 5000), "gunzip"),
        (bz2.compress(b"x" * 5000), "bunzip2"),
    ],
)
def test_a_file_that_is_no_archive_is_refused_with_advice(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match=word):
        verify(tmp_path / "file")


def test_a_tar_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither manifest"):
        verify(write_tar(tmp_path / "a.tar", {"etc/passwd": b"x"}))


def test_paths_that_are_not_there_or_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        verify(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"no index\.json"):
        verify(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        verify(tmp_path / "pipe")


def test_control_characters_of_an_archive_never_reach_the_report(tmp_path: Path) -> None:
    report = verify(write_tar(tmp_path / "a.tar", {**crane_files(), "../\x1b[2Jevil\nline": b"x"}))
    assert "\x1b" not in the_only_finding(report)
    assert "\n" not in the_only_finding(report)


def test_a_bomb_of_a_layer_is_inflated_in_bounded_memory(tmp_path: Path) -> None:
    """1 GiB of zeros in 1 MB: with a limit of memory far below that."""
    squeezed = gzip.compress(b"\0" * (16 << 20)) * 64
    files = oci_files((LAYERS[0],))
    index = json.loads(files["index.json"])
    manifest = json.loads(files[f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"])
    manifest["layers"] = [descriptor(squeezed, f"{OCI}.layer.v1.tar+gzip")]
    put(files, squeezed)
    files["index.json"] = as_json(
        {"schemaVersion": 2, "manifests": [descriptor(as_json(manifest), f"{OCI}.manifest.v1+json")]}
    )
    put(files, as_json(manifest))
    path = write_tar(tmp_path / "a.tar", files)
    program = (
        "import sys, pathlib; from ecr_async_pull.archive.verify import verify;"
        "report = verify(pathlib.Path(sys.argv[1])); assert len(report.findings) == 1, report.findings;"
        "assert report.images[0].tar_bytes == 1 << 30;"
        "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    result = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True)
    assert int(result.stdout) < 120 * 1024  # KiB
