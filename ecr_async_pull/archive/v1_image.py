"""Docker's v1 images: what `docker save` makes of a config for every layer (moby, image/v1, CreateID)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ..digest import Digest
from ..errors import UnsupportedImageError
from ..model import go_text
from ..model.go_json import Node, parse
from ..model.go_text import Escapes
from ..model.go_time import UNIX_EPOCH, ZERO_TIME, GoTime
from ..model.go_types import (
    Argv,
    Bool,
    GoType,
    Int64,
    Map,
    Pointer,
    Slice,
    SliceValue,
    String,
    Struct,
    StructValue,
    Time,
    field,
)
from ..model.image_config import WHAT, ImageConfig

_LAST_UNIX_S = 2**63 // 10**9
"""Docker sets later times, which don't fit into 64 bits of nanoseconds, to 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class V1Layer:
    """`id` is bare hex; `json` is the layer's `json` file."""

    id: str
    json: bytes
    diff_id: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class V1Image:
    """The layers, lowest first; `mtime_s` is the config's `created` as Docker sets it on files."""

    layers: tuple[V1Layer, ...]
    mtime_s: int


class Profile:
    """One generation of Docker's structs. `name` is the archive format in errors."""

    def __init__(
        self, *, name: str, escapes: Escapes, created: GoType[GoTime | None], has_start_interval: bool
    ) -> None:
        self.name = name
        self._escapes = escapes
        self._image = _image_struct(created, has_start_interval=has_start_interval)
        self._v1 = Struct(*(entry for entry in self._image.fields if entry.name not in _NOT_IN_V1))

    def v1_image(self, config: ImageConfig) -> V1Image:
        """Decode the config as Docker does and calculate every layer's id.

        Raises `UnsupportedImageError`, naming the field and the format, for what Docker refuses.
        """
        try:
            return self._v1_image(config)
        except UnsupportedImageError as error:
            raise UnsupportedImageError(f"no {self.name} can be written of this image: {error}") from error

    def _v1_image(self, config: ImageConfig) -> V1Image:
        decoded = self._image.decode(parse(config.raw, what=WHAT), self._image.zero(), "")
        self._demand_savable(decoded, config)
        created = cast("GoTime | None", decoded["created"])
        top = decoded | {"id": "", "parent": ""}
        below = self._image.zero() | {"created": UNIX_EPOCH}
        layers: list[V1Layer] = []
        chain, parent = "", ""
        for place, diff_id in enumerate(config.diff_ids):
            is_top = place == len(config.diff_ids) - 1
            image = top if is_top else below
            chain = str(Digest.of(f"{chain} {diff_id}".encode())) if chain else str(diff_id)
            hashed = dict(self._fields(image)) | {"layer_id": go_text.quote(chain)}
            if parent:
                hashed["parent"] = go_text.quote(f"sha256:{parent}")
            layer_id = Digest.of(go_text.mapping(hashed).encode()).hex
            saved = image | {"id": layer_id, "parent": parent, "os": decoded["os"]}
            layers.append(
                V1Layer(id=layer_id, json=go_text.struct(self._fields(saved)).encode(), diff_id=diff_id)
            )
            parent = layer_id
        return V1Image(layers=tuple(layers), mtime_s=_mtime_s(created))

    def _fields(self, image: StructValue) -> list[tuple[str, str]]:
        return self._v1.encode_fields(image, self._escapes)

    def _demand_savable(self, decoded: StructValue, config: ImageConfig) -> None:
        if not config.diff_ids:
            raise UnsupportedImageError(
                "field 'rootfs.diff_ids' of the image's config is empty, and Docker can't save an image with"
                " no layers; use --format oci-archive"
            )
        for place, diff_id in enumerate(config.diff_ids):
            if diff_id.algorithm != "sha256":
                raise UnsupportedImageError(
                    f"field 'rootfs.diff_ids[{place}]' of the image's config is a {diff_id.algorithm} digest,"
                    " and Docker knows sha256 only; use --format oci-archive"
                )
        created = cast("GoTime | None", decoded["created"])
        if created is not None and not created.is_writable:
            raise UnsupportedImageError(
                f"field 'created' of the image's config is {created.text!r}, whose offset of a day or more"
                " Docker can't write; use --format oci-archive"
            )
        history = cast("SliceValue[StructValue] | None", decoded["history"])
        filled = sum(not entry["empty_layer"] for entry in history.items) if history is not None else 0
        if filled > len(config.diff_ids):
            raise UnsupportedImageError(
                f"field 'history' of the image's config tells of {filled} layers, 'rootfs.diff_ids' of"
                f" {len(config.diff_ids)}, and docker load refuses that; use --format oci-archive"
            )


_NOT_IN_V1 = ("rootfs", "history", "os.version", "os.features")


def _mtime_s(created: GoTime | None) -> int:
    return created.unix_s if created is not None and 0 <= created.unix_s <= _LAST_UNIX_S else 0


def _config_struct(*, has_start_interval: bool) -> Struct:
    """Docker's `container.Config`: fields in the order in which they are written."""
    optional = True
    empty_object = Struct()
    start_interval = [field("StartInterval", Int64, is_optional=optional)] if has_start_interval else []
    healthcheck = Struct(
        field("Test", Slice(String()), is_optional=optional),
        field("Interval", Int64, is_optional=optional),
        field("Timeout", Int64, is_optional=optional),
        field("StartPeriod", Int64, is_optional=optional),
        *start_interval,
        field("Retries", Int64, is_optional=optional),
    )
    return Struct(
        field("Hostname", String),
        field("Domainname", String),
        field("User", String),
        field("AttachStdin", Bool),
        field("AttachStdout", Bool),
        field("AttachStderr", Bool),
        field("ExposedPorts", Map(empty_object), is_optional=optional),
        field("Tty", Bool),
        field("OpenStdin", Bool),
        field("StdinOnce", Bool),
        field("Env", Slice(String())),
        field("Cmd", Argv),
        field("Healthcheck", Pointer(healthcheck), is_optional=optional),
        field("ArgsEscaped", Bool, is_optional=optional),
        field("Image", String),
        field("Volumes", Map(empty_object)),
        field("WorkingDir", String),
        field("Entrypoint", Argv),
        field("NetworkDisabled", Bool, is_optional=optional),
        field("MacAddress", String, is_optional=optional),
        field("OnBuild", Slice(String())),
        field("Labels", Map(String())),
        field("StopSignal", String, is_optional=optional),
        field("StopTimeout", Pointer(Int64()), is_optional=optional),
        field("Shell", Argv, is_optional=optional),
    )


def _image_struct(created: GoType[GoTime | None], *, has_start_interval: bool) -> Struct:
    """Docker's `image.Image`: the v1 image's fields in order, then those that are only checked."""
    optional = True
    config = _config_struct(has_start_interval=has_start_interval)
    history = Struct(
        field("created", created),
        field("author", String),
        field("created_by", String),
        field("comment", String),
        field("empty_layer", Bool),
    )
    return Struct(
        field("id", String, is_optional=optional),
        field("parent", String, is_optional=optional),
        field("comment", String, is_optional=optional),
        field("created", created),
        field("container", String, is_optional=optional),
        field("container_config", config),
        field("docker_version", String, is_optional=optional),
        field("author", String, is_optional=optional),
        field("config", Pointer(config), is_optional=optional),
        field("architecture", String, is_optional=optional),
        field("variant", String, is_optional=optional),
        field("os", String, is_optional=optional),
        field("Size", Int64, is_optional=optional),
        field("rootfs", Pointer(Struct(field("type", String), field("diff_ids", Slice(String()))))),
        field("history", Slice(history)),
        field("os.version", String),
        field("os.features", Slice(String())),
    )


class _TimeValue(GoType["GoTime | None"]):
    """A time that is never null, as up to Docker 24: null changes nothing."""

    def zero(self) -> GoTime | None:
        return ZERO_TIME

    def decode(self, node: Node, old: GoTime | None, path: str) -> GoTime | None:
        return Time().decode(node, old or ZERO_TIME, path)

    def encode(self, value: GoTime | None, escapes: Escapes) -> str:
        return Time().encode(value or ZERO_TIME, escapes)


DOCKER_24 = Profile(
    name="docker-legacy archive",
    escapes=Escapes.BEFORE_GO_1_22,
    created=_TimeValue(),
    has_start_interval=False,
)
DOCKER_28 = Profile(
    name="docker-archive",
    escapes=Escapes.SINCE_GO_1_22,
    created=Pointer(Time()),
    has_start_interval=True,
)
