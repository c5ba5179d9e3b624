"""One wrong byte anywhere, and there is no file: exit code 5, whatever is written."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from ecr_async_pull.errors import IntegrityError
from tests.pulling import EVERY_FORMAT, Site
from tests.standin import faults
from tests.standin.images import DOCKER_CONFIG, BuiltImage, ImageBuilder, compact, make_layer, seal
from tests.standin.layers import Compression


def one_layer(compression: Compression, size: int = 1_500_000, seed: object = 7) -> BuiltImage:
    """Half noise, half text, so that every byte of the stored form counts."""
    data = random.Random(str(seed)).randbytes(size // 2) + b"text and more text " * (size // 38)
    return ImageBuilder(oci=True).layer([("f", data)], compression=compression, level=1).build()


def refused(site: Site, reference: str, form: str) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        site.pull(reference, form)
    assert site.left() == set()
    assert "\n" not in str(caught.value)
    return caught.value


@EVERY_FORMAT
@pytest.mark.parametrize("compression", ["gzip", "none", "zstd"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_bit_of_a_layer_leaves_no_file(
    site: Site, form: str, compression: Compression, where: float
) -> None:
    image = one_layer(compression)
    reference = site.add(image)
    offset = int((image.layers[0].size_bytes - 1) * where)
    digest = image.layers[0].digest
    rule = site.standin.faults.add(faults.Flip(offset), server="storage", digest=digest, covers=offset)
    refused(site, reference, form)
    assert rule.fired


@EVERY_FORMAT
def test_a_flipped_bit_of_the_config_leaves_no_file(site: Site, form: str) -> None:
    image = one_layer("gzip", 4000)
    reference = site.add(image)
    site.standin.faults.add(faults.Flip(30), server="storage", digest=image.config_digest)
    refused(site, reference, form)


@EVERY_FORMAT
def test_a_flipped_bit_of_a_manifest_that_was_asked_for_by_digest_leaves_no_file(
    site: Site, form: str
) -> None:
    image = one_layer("gzip", 4000)
    reference = site.add(image, tag=None)
    site.standin.faults.add(faults.Flip(len(image.manifest_raw) - 9), server="registry", path="/manifests/")
    refused(site, reference, form)


def with_diff_ids(image: BuiltImage, diff_ids: list[str]) -> BuiltImage:
    config = json.loads(image.config_raw)
    config["rootfs"]["diff_ids"] = diff_ids
    return seal(compact(config), DOCKER_CONFIG, image.layers, oci=False, platform="linux/amd64")


@EVERY_FORMAT
@pytest.mark.parametrize("wrong", [0, 1])
def test_a_layer_that_is_not_its_diff_id_leaves_no_file(site: Site, form: str, wrong: int) -> None:
    image = ImageBuilder().layer([("a", b"a" * 3000)]).layer([("b", b"b" * 3000)]).build()
    diff_ids = [layer.diff_id for layer in image.layers]
    diff_ids[wrong] = "sha256:" + "ab" * 32
    reference = site.add(with_diff_ids(image, diff_ids))
    assert "config" in str(refused(site, reference, form))


@EVERY_FORMAT
@pytest.mark.parametrize("wrong", [0, 1])
def test_a_layer_listed_twice_has_to_be_its_diff_id_both_times(site: Site, form: str, wrong: int) -> None:
    layer = make_layer([("a", b"a" * 3000)])
    image = ImageBuilder().add(layer, layer).build()
    diff_ids = [layer.diff_id, layer.diff_id]
    diff_ids[wrong] = "sha256:" + "ab" * 32
    reference = site.add(with_diff_ids(image, diff_ids))
    refused(site, reference, form)


@pytest.mark.parametrize("form", ["docker-archive", "keep-compressed"])
@pytest.mark.parametrize("size", [5000, 1_500_000])
@pytest.mark.parametrize("by", [-1, 1, -600, 700_000])
def test_a_blob_of_another_size_than_promised_leaves_no_file(
    site: Site, form: str, size: int, by: int
) -> None:
    image = one_layer("gzip", size, seed=(form, size, by))
    layer = image.layers[0]
    stored = layer.stored()
    actual = stored[:by] if by < 0 else stored + bytes(by)
    served = replace(image, layers=(replace(layer, data=actual),))
    refused(site, site.add(served), form)


@EVERY_FORMAT
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_stream_cut_short_with_a_digest_that_is_right_leaves_no_file(
    site: Site, form: str, compression: Compression
) -> None:
    whole = make_layer(
        [("a", b"a%d" % random.Random(1).getrandbits(4000))], compression=compression, oci=True
    )
    cut = make_layer(whole.stored()[:-9], compression="none", media_type=whole.media_type)
    image = ImageBuilder(oci=True).add(replace(cut, diff_id=whole.diff_id)).build()
    refused(site, site.add(image), form)


def test_what_was_kept_and_is_wrong_is_fetched_again_once(site: Site) -> None:
    image = one_layer("gzip")
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(faults.Status(500), server="storage", digest=digest, covers=700_000)
    report = site.pull_all([site.output(reference)], site.settings(transfer={"attempts": 2}))
    (kept,) = report.kept
    blob = next(path for path in (kept / "blobs").iterdir() if not path.name.endswith(".journal"))
    with blob.open("r+b") as file:
        file.seek(4000)
        file.write(b"damaged on the disk")
    site.standin.faults.clear()
    site.pull(reference)
    assert site.left() == {"out"}
