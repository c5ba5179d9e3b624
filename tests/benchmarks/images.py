"""The images that are pulled: this machine's own files, packed once and kept; small layers out of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.standin.images import DOCKER_CONFIG, BuiltImage, BuiltLayer, ImageBuilder, compact, seal
from tests.standin.machine_image import MIB, Shape, build

LEVEL = 3
PART_TAR_BYTES = 1000 * MIB
PART_LAYERS = 4


def many_layers(directory: Path, *, tar_bytes: int) -> BuiltImage:
    """Twelve layers, the largest with three tenths of all."""
    return build(directory, Shape(total_tar_bytes=tar_bytes, layers=12, largest_share=0.3, level=LEVEL))


def one_layer(directory: Path, *, tar_bytes: int) -> BuiltImage:
    return build(directory, Shape(total_tar_bytes=tar_bytes, layers=1, level=LEVEL, seed=1))


def split(directory: Path, *, tar_bytes: int, layers: int) -> BuiltImage:
    """Layers whose sizes fall off as one, a half, a third ..."""
    shape = Shape(total_tar_bytes=tar_bytes, layers=layers, largest_share=1 / layers, level=LEVEL, seed=2)
    return build(directory, shape)


def parts(directory: Path, count: int, *, tar_bytes: int = PART_TAR_BYTES) -> BuiltImage:
    """`count` images of four layers each, as one image; an image of fewer parts shares its layers."""
    built = [
        build(
            directory,
            Shape(
                total_tar_bytes=tar_bytes, layers=PART_LAYERS, largest_share=0.4, level=LEVEL, seed=10 + at
            ),
        )
        for at in range(count)
    ]
    return _joined([layer for image in built for layer in image.layers])


def tiny_layers(count: int) -> BuiltImage:
    """Layers of a few kB each, which no two have in common."""
    builder = ImageBuilder()
    for at in range(count):
        lines = "".join(
            f"{at} {line} {(at + 1) * (line + 7919) * 2654435761 % 2**32:08x}\n" for line in range(200)
        )
        builder.layer([(f"layer-{at}", lines.encode())])
    return builder.build()


def _joined(layers: Sequence[BuiltLayer]) -> BuiltImage:
    config = {
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/sh"]},
        "created": "2024-05-06T07:08:09Z",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
    }
    return seal(compact(config), DOCKER_CONFIG, layers, oci=False, platform="linux/amd64")
