"""Small images, each with one oddity that a reader, a writer or an engine may trip over."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from .documents import make_artifact, make_attestation, make_helm_chart, make_index, make_schema1
from .images import BuiltImage, BuiltLayer, ImageBuilder, make_layer
from .odd_configs import ODD_CONFIGS

FOREIGN_HOST = "foreign-layers.example.com"

_ZOO: dict[str, Callable[[], BuiltImage]] = {}


def zoo() -> dict[str, BuiltImage]:
    """Every animal by its name; the same bytes at each call."""
    configs = {name: _with_config(text) for name, text in ODD_CONFIGS.items()}
    return configs | {name: make() for name, make in _ZOO.items()}


def loadable() -> dict[str, BuiltImage]:
    """Those that are one image (no index, artifact or old manifest) of linux/amd64."""
    return {name: image for name, image in zoo().items() if image.config_raw and name not in _NOT_IMAGES}


_NOT_IMAGES = {"helm-chart", "artifact"}


def _animal(make: Callable[[], BuiltImage]) -> Callable[[], BuiltImage]:
    _ZOO[make.__name__.strip("_").replace("_", "-")] = make
    return make


def _base(*, oci: bool = False) -> BuiltLayer:
    return make_layer([("bin/", b""), ("bin/sh", b"#!/bin/false\n" * 300), ("bin/ash -> sh", b"")], oci=oci)


def _app(*, oci: bool = False) -> BuiltLayer:
    return make_layer([("app/", b""), ("app/main.py", b"print('hello')\n" * 200)], oci=oci)


def _with_config(raw: str) -> BuiltImage:
    return ImageBuilder().add(_base(), _app()).config(raw.encode()).build()


@_animal
def _plain() -> BuiltImage:
    return ImageBuilder().add(_base(), _app()).build()


@_animal
def _oci() -> BuiltImage:
    return ImageBuilder(oci=True).add(_base(oci=True), _app(oci=True)).build()


@_animal
def _one_layer() -> BuiltImage:
    return ImageBuilder().add(_base()).build()


@_animal
def _before_1970() -> BuiltImage:
    return ImageBuilder().add(_base()).config({"created": "0001-01-01T00:00:00Z"}).build()


@_animal
def _no_history() -> BuiltImage:
    return ImageBuilder().add(_base(), _app()).config({"history": None}).build()


@_animal
def _no_created() -> BuiltImage:
    return ImageBuilder().add(_base(), _app()).config({"created": None}).build()


@_animal
def _history_without_layers() -> BuiltImage:
    """Entries that made no layer, between those that did."""
    entries = [
        {"created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "ADD x"},
        {"created_by": "USER 1", "empty_layer": True},
        {"created_by": "COPY y"},
        {"created_by": "CMD z", "empty_layer": True},
    ]
    return ImageBuilder().add(_base(), _app()).config({"history": entries}).build()


@_animal
def _same_layer_twice() -> BuiltImage:
    return ImageBuilder().add(_base(), _app(), _base(), _app(), _app()).build()


@_animal
def _same_tar_twice() -> BuiltImage:
    """One diff_id stored in two compressions, so as two blobs."""
    files = [("etc/", b""), ("etc/motd", b"welcome\n" * 500)]
    return ImageBuilder().layer(files, level=1).layer(files, level=9).build()


@_animal
def _empty_layers() -> BuiltImage:
    """The tars of nothing: 1024 zeros as Docker writes, 10240 as tar(1) writes, and no byte at all."""
    return ImageBuilder().add(_base()).layer(bytes(1024)).layer(bytes(10240)).layer(b"").build()


@_animal
def _uncompressed() -> BuiltImage:
    builder = ImageBuilder(oci=True).layer([("a", b"plain " * 400)], compression="none")
    return builder.layer([("b", b"packed " * 400)]).build()


@_animal
def _zstd() -> BuiltImage:
    builder = ImageBuilder(oci=True).layer([("a", b"zstd " * 4000)], compression="zstd", level=3)
    return builder.layer([("b", b"frames " * 4000)], compression="zstd", members=3).build()


@_animal
def _docker_zstd() -> BuiltImage:
    """The media type that the Docker family has no official name for."""
    return ImageBuilder().layer([("a", b"zstd " * 4000)], compression="zstd").build()


@_animal
def _multi_member_gzip() -> BuiltImage:
    builder = ImageBuilder().layer([("a", bytes(range(256)) * 900)], members=7)
    return builder.layer([("b", b"stored " * 900)], level=0).layer([("c", b"hard " * 900)], level=9).build()


@_animal
def _bzip2_and_xz() -> BuiltImage:
    builder = ImageBuilder(oci=True).layer([("a", b"bz " * 4000)], compression="bzip2")
    return builder.layer([("b", b"xz " * 4000)], compression="xz").build()


@_animal
def _mislabelled() -> BuiltImage:
    """The media type says gzip; the bytes say zstd and plain tar."""
    gzip_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    builder = ImageBuilder(oci=True).layer([("a", b"x" * 5000)], compression="zstd", media_type=gzip_type)
    return builder.layer([("b", b"y" * 5000)], compression="none", media_type=gzip_type).build()


@_animal
def _many_layers() -> BuiltImage:
    """As many as overlay2 mounts."""
    builder = ImageBuilder()
    for position in range(127):
        builder.layer([(f"layer-{position:03}", b"%03d " % position * (1 + position * 8))])
    return builder.build()


@_animal
def _annotations() -> BuiltImage:
    builder = ImageBuilder(oci=True).layer([("a", b"a" * 999)], annotations={"org.example.layer": "<a>"})
    return builder.manifest(
        annotations={"org.opencontainers.image.title": "Zoë & co", "z": "", "a": "1"}
    ).build()


@_animal
def _foreign_layer() -> BuiltImage:
    """Its bytes are not in the registry but at the URL (the stand-in answers for that host)."""
    layer = make_layer([("Files/", b""), ("Files/big.dll", b"MZ" * 2000)])
    url = f"https://{FOREIGN_HOST}/layers/{layer.digest}"
    foreign = make_layer(layer_tar(layer), urls=[url], is_served=False)
    return ImageBuilder().add(foreign, _app()).build()


@_animal
def _two_platforms() -> BuiltImage:
    """What `docker buildx build --platform linux/amd64,linux/arm64` pushes."""
    images = [_for("linux/amd64"), _for("linux/arm64")]
    return make_index([*images, *map(make_attestation, images)])


@_animal
def _manifest_list() -> BuiltImage:
    """Docker's own list, with variants of arm."""
    platforms = ("linux/amd64", "linux/arm/v7", "linux/arm64/v8", "linux/386")
    return make_index([_for(platform, oci=False) for platform in platforms], oci=False)


@_animal
def _nested_index() -> BuiltImage:
    inner = make_index([_for("linux/arm64"), _for("linux/s390x")])
    return make_index([inner, make_index([_for("linux/amd64")])], annotations={"org.example.kind": "nested"})


@_animal
def _helm_chart() -> BuiltImage:
    return make_helm_chart()


@_animal
def _artifact() -> BuiltImage:
    return make_artifact()


@_animal
def _schema1() -> BuiltImage:
    return make_schema1(_plain())


def _for(platform: str, *, oci: bool = True) -> BuiltImage:
    own = make_layer([("etc/", b""), ("etc/platform", platform.encode())], oci=oci)
    return ImageBuilder(oci=oci, platform=platform).add(_base(oci=oci), own).build()


def layer_tar(layer: BuiltLayer) -> bytes:
    """The tar of a small gzip layer."""
    return gzip.decompress(layer.stored())
