"""The image builder, held against tarfile, gzip and hashlib: what it says of its bytes is so."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import sys
import tarfile
from pathlib import Path

import pytest

from tests.standin import machine_image
from tests.standin.documents import make_attestation, make_index, make_schema1
from tests.standin.images import BuiltImage, BuiltLayer, ImageBuilder, make_layer, sha256
from tests.standin.layers import Compression
from tests.standin.zoo import loadable, zoo

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = [("etc/", b""), ("etc/motd", b"welcome\n" * 3000), ("motd -> etc/motd", b"")]


def inflate(layer: BuiltLayer) -> bytes:
    stored = layer.stored()
    for magic, unpack in (
        (b"\x1f\x8b", gzip.decompress),
        (b"\x28\xb5\x2f\xfd", zstd.decompress),
        (b"BZh", bz2.decompress),
        (b"\xfd7zXZ", lzma.decompress),
    ):
        if stored.startswith(magic):
            return unpack(stored)
    return stored


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("compression", ["gzip", "none", "zstd", "bzip2", "xz"])
def test_a_layer_inflates_to_a_tar_of_its_files(compression: Compression, members: int) -> None:
    layer = make_layer(FILES, compression=compression, members=members)
    tar = inflate(layer)
    assert (sha256(tar), len(tar)) == (layer.diff_id, layer.tar_size_bytes)
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        assert opened.getnames() == ["etc", "etc/motd", "motd"]
        motd = opened.extractfile("motd")
        assert motd is not None
        assert motd.read() == FILES[1][1]


@pytest.mark.parametrize("name", sorted(zoo()))
def test_every_digest_and_size_in_the_zoo_is_of_the_bytes_that_it_names(name: str) -> None:
    check(zoo()[name])


def check(image: BuiltImage) -> None:
    document = json.loads(image.manifest_raw)
    assert image.digest == "sha256:" + hashlib.sha256(image.manifest_raw).hexdigest()
    if image.children:
        listed = [(each["digest"], each["size"], each["mediaType"]) for each in document["manifests"]]
        assert listed == [(each.digest, len(each.manifest_raw), each.media_type) for each in image.children]
        for child in image.children:
            check(child)
        return
    for layer in image.layers:
        stored = layer.stored()
        assert (sha256(stored), len(stored)) == (layer.digest, layer.size_bytes)
        assert sha256(inflate(layer)) == layer.diff_id or "tar+gzip" not in layer.media_type
    if document["schemaVersion"] == 2:
        assert document["mediaType"] == image.media_type
        assert document["config"]["digest"] == sha256(image.config_raw)
        assert document["config"]["size"] == len(image.config_raw)
        assert [each["digest"] for each in document["layers"]] == [each.digest for each in image.layers]


@pytest.mark.parametrize("name", sorted(loadable()))
def test_a_config_lists_the_diff_ids_of_the_manifests_layers(name: str) -> None:
    image = loadable()[name]
    config = {key.lower(): value for key, value in json.loads(image.config_raw).items()}
    rootfs = {key.lower(): value for key, value in config["rootfs"].items()}
    assert rootfs["diff_ids"] == [layer.diff_id for layer in image.layers]


def test_the_zoo_is_the_same_at_each_call() -> None:
    assert zoo() == zoo()


def test_odd_configs_keep_their_bytes() -> None:
    animals = zoo()
    assert rb"\u003cy\u003e" in animals["json-escapes"].config_raw
    assert b"a && b > c" in animals["json-escapes"].config_raw
    assert "\u2028".encode() in animals["line-separators"].config_raw
    assert rb"\u2028" in animals["line-separators"].config_raw
    assert "日本語".encode() in animals["non-ascii"].config_raw
    assert animals["spaced-out"].config_raw.startswith(b"\n{ ")


def test_empty_layers_inflate_to_as_many_zeros_as_they_say() -> None:
    sizes = [layer.tar_size_bytes for layer in zoo()["empty-layers"].layers]
    assert sizes[1:] == [1024, 10240, 0]


def test_a_config_given_as_bytes_is_kept_but_for_the_diff_ids() -> None:
    image = ImageBuilder().layer(FILES).config(b'{ "x":"\\u003c", "d":@DIFF_IDS@ }').build()
    assert image.config_raw == b'{ "x":"\\u003c", "d":["%s"] }' % image.layers[0].diff_id.encode()


def test_a_config_key_set_to_none_is_left_out() -> None:
    config = json.loads(ImageBuilder().config({"history": None, "author": "me"}).build().config_raw)
    assert "history" not in config
    assert config["author"] == "me"


def test_a_layer_with_urls_is_foreign() -> None:
    layer = make_layer(FILES, urls=["https://elsewhere.example.com/x"])
    assert "foreign" in layer.media_type
    assert layer.descriptor()["urls"] == ["https://elsewhere.example.com/x"]


def test_an_index_names_platforms_and_attestations() -> None:
    image = ImageBuilder(oci=True, platform="linux/arm/v7").layer(FILES).build()
    document = json.loads(make_index([image, make_attestation(image)]).manifest_raw)
    first, second = document["manifests"]
    assert first["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert second["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert second["annotations"]["vnd.docker.reference.digest"] == image.digest


def test_schema_1_lists_the_top_layer_first() -> None:
    image = zoo()["plain"]
    document = json.loads(make_schema1(image).manifest_raw)
    assert [each["blobSum"] for each in document["fsLayers"]] == [each.digest for each in image.layers[::-1]]


def test_a_machine_image_has_the_shape_that_was_asked_for(tmp_path: Path) -> None:
    shape = machine_image.Shape(total_tar_bytes=6 * machine_image.MIB, layers=4, largest_share=0.6)
    image = machine_image.build(tmp_path, shape)
    sizes = [layer.tar_size_bytes for layer in image.layers]
    assert len(sizes) == 4
    assert sum(sizes) == pytest.approx(shape.total_tar_bytes, rel=0.1)
    assert max(sizes) == pytest.approx(0.6 * shape.total_tar_bytes, rel=0.1)
    check(image)
    with tarfile.open(fileobj=io.BytesIO(inflate(image.layers[1]))) as tar:
        assert all(member.isreg() and not member.name.startswith("/") for member in tar)


def test_a_machine_image_is_found_again_and_shares_nothing_with_another_seeds(
    tmp_path: Path,
) -> None:
    shape = machine_image.Shape(total_tar_bytes=2 * machine_image.MIB, layers=3)
    image = machine_image.build(tmp_path, shape)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert machine_image.build(tmp_path, shape) == image
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    other = machine_image.build(
        tmp_path, machine_image.Shape(total_tar_bytes=2 * machine_image.MIB, layers=3, seed=1)
    )
    assert not {layer.diff_id for layer in image.layers} & {layer.diff_id for layer in other.layers}


def test_a_damaged_machine_image_is_built_again(tmp_path: Path) -> None:
    shape = machine_image.Shape(total_tar_bytes=machine_image.MIB, layers=1)
    image = machine_image.build(tmp_path, shape)
    data = image.layers[0].data
    assert isinstance(data, Path)
    data.write_bytes(b"cut")
    check(machine_image.build(tmp_path, shape))
