"""The image's config by the rules of the engines."""

from __future__ import annotations

import time

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import UnsupportedImageError
from ecr_async_pull.model.image_config import ImageConfig
from ecr_async_pull.model.platform import Platform

A, B = Digest.of(b"a"), Digest.of(b"b")
ROOTFS = f'"rootfs":{{"type":"layers","diff_ids":["{A}","{B}"]}}'


def test_the_fields_that_matter_are_found_and_the_bytes_kept() -> None:
    raw = (
        '{"architecture":"arm64","os":"linux","variant":"v8","os.version":"1","os.features":["x"],'
        f'"created":"1970-01-01T00:01:00.9+00:00",{ROOTFS},"other":[1.5,{{}}]}}\n'
    ).encode()
    config = ImageConfig.parse(raw)
    assert config.raw == raw
    assert config.digest == Digest.of(raw)
    assert config.diff_ids == (A, B)
    assert config.created_s == 60
    assert config.platform == Platform(
        os="linux", architecture="arm64", variant="v8", os_version="1", os_features=("x",)
    )


def test_keys_are_found_as_go_finds_them() -> None:
    raw = (
        '{"OS":"linux","o\\u017f":null,"Architecture":"a","architecture":"amd64",'
        + ROOTFS.replace("rootfs", "rootf\u017f")
        + "}"
    )
    config = ImageConfig.parse(raw.encode())
    assert config.platform == Platform(os="linux", architecture="amd64")
    assert config.diff_ids == (A, B)


def test_missing_fields_are_empty() -> None:
    config = ImageConfig.parse(b'{"rootfs":{}}')
    assert config.diff_ids == ()
    assert config.created_s is None
    assert config.platform == Platform(os="", architecture="")


@pytest.mark.parametrize("created", ["null", '""', "5", '"2024-05-06T07:08:09\\u005a"', '"yesterday"', "{}"])
def test_a_time_that_is_none_does_not_matter_here(created: str) -> None:
    assert ImageConfig.parse(f'{{"created":{created},{ROOTFS}}}'.encode()).created_s is None


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("{}", "rootfs"),
        ('{"rootfs":null}', "rootfs"),
        ('{"rootfs":[]}', "rootfs"),
        ('{"rootfs":{"diff_ids":{}}}', r"rootfs\.diff_ids"),
        ('{"rootfs":{"diff_ids":["sha256:1"]}}', r"rootfs\.diff_ids\[0\]"),
        ('{"os":5,"rootfs":{}}', "os"),
        ('{"os.features":"x","rootfs":{}}', r"os\.features"),
    ],
)
def test_what_engines_refuse_is_refused_by_the_fields_name(raw: str, field: str) -> None:
    with pytest.raises(UnsupportedImageError, match=f"'{field}'"):
        ImageConfig.parse(raw.encode())


@pytest.mark.parametrize("raw", ["", "[]", "null", "nonsense", '{"rootfs":{}} {}'])
def test_what_is_no_json_object_is_refused(raw: str) -> None:
    with pytest.raises(UnsupportedImageError, match="the image's config"):
        ImageConfig.parse(raw.encode())


def test_four_mebibytes_take_less_than_a_second() -> None:
    labels = ",".join(f'"key{number}":"value \\u003c {number}"' for number in range(130_000))
    raw = f'{{"config":{{"Labels":{{{labels}}}}},{ROOTFS}}}'.encode()
    assert len(raw) > 3 * 2**20
    began = time.process_time()
    assert ImageConfig.parse(raw).diff_ids == (A, B)
    assert time.process_time() - began < 1
