"""JSON as Go's `encoding/json` reads it, part two: decoding into typed fields, and writing those again.

A type's `decode` gets what the field holds already, because a repeated key is decoded over the first.
Errors are `UnsupportedImageError` and name the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from ..errors import UnsupportedImageError
from . import go_text
from .go_json import Members, Node, fold, kind_of, unquote
from .go_text import Escapes
from .go_time import ZERO_TIME, GoTime, parse_time

T = TypeVar("T")
_NULL = b"null"
_INT64 = range(-(2**63), 2**63)


class GoType(Generic[T]):
    """One type of field. `is_empty` is what `omitempty` leaves out."""

    def zero(self) -> T:
        raise NotImplementedError

    def decode(self, node: Node, old: T, path: str) -> T:
        raise NotImplementedError

    def encode(self, value: T, escapes: Escapes) -> str:
        raise NotImplementedError

    def is_empty(self, value: T) -> bool:
        return not value


class String(GoType[str]):
    def zero(self) -> str:
        return ""

    def decode(self, node: Node, old: str, path: str) -> str:
        if node == _NULL:
            return old
        return unquote(_scalar(node, b'"', path, "a string"))

    def encode(self, value: str, escapes: Escapes) -> str:
        return go_text.quote(value, escapes)


class Bool(GoType[bool]):
    def zero(self) -> bool:
        return False

    def decode(self, node: Node, old: bool, path: str) -> bool:
        if node == _NULL:
            return old
        return _scalar(node, b"tf", path, "a boolean") == b"true"

    def encode(self, value: bool, escapes: Escapes) -> str:
        return "true" if value else "false"


class Int64(GoType[int]):
    def zero(self) -> int:
        return 0

    def decode(self, node: Node, old: int, path: str) -> int:
        if node == _NULL:
            return old
        digits = _scalar(node, b"-0123456789", path, "a whole number")
        if len(digits) > 20 or not digits.removeprefix(b"-").isdigit() or int(digits) not in _INT64:
            raise _refused(path, "a whole number of 64 bits", digits[:24].decode())
        return int(digits)

    def encode(self, value: int, escapes: Escapes) -> str:
        return str(value)


class Time(GoType[GoTime]):
    def zero(self) -> GoTime:
        return ZERO_TIME

    def decode(self, node: Node, old: GoTime, path: str) -> GoTime:
        if node == _NULL:
            return old
        token = _scalar(node, b'"', path, "a time")
        time = parse_time(token)
        if time is None:
            raise _refused(path, "a time like 2024-05-06T07:08:09Z", token[:48].decode(errors="replace"))
        return time

    def encode(self, value: GoTime, escapes: Escapes) -> str:
        return f'"{value.text}"'


class Pointer(GoType[T | None]):
    """null is nil; otherwise what it points to, decoded over what it pointed to."""

    def __init__(self, target: GoType[T]) -> None:
        self._target = target

    def zero(self) -> T | None:
        return None

    def decode(self, node: Node, old: T | None, path: str) -> T | None:
        if node == _NULL:
            return None
        return self._target.decode(node, self._target.zero() if old is None else old, path)

    def encode(self, value: T | None, escapes: Escapes) -> str:
        return "null" if value is None else self._target.encode(value, escapes)

    def is_empty(self, value: T | None) -> bool:
        return value is None


@dataclass(frozen=True, slots=True)
class SliceValue(Generic[T]):
    """`backing` may be longer than `length`: Go shortens a slice and finds the old elements there again."""

    backing: tuple[T, ...]
    length: int

    @property
    def items(self) -> tuple[T, ...]:
        return self.backing[: self.length]


class Slice(GoType[SliceValue[T] | None]):
    """null is nil. An element is decoded over what stood at its place: a null one keeps it."""

    def __init__(self, element: GoType[T]) -> None:
        self._element = element

    def zero(self) -> SliceValue[T] | None:
        return None

    def decode(self, node: Node, old: SliceValue[T] | None, path: str) -> SliceValue[T] | None:
        if node == _NULL:
            return None
        if isinstance(node, (bytes, Members)):
            raise _refused(path, "an array", kind_of(node))
        if not node:
            return SliceValue((), 0)
        before = old.backing if old is not None else ()
        decode, zero = self._element.decode, self._element.zero
        backing = [
            decode(item, before[place] if place < len(before) else zero(), f"{path}[]")
            for place, item in enumerate(node)
        ]
        return SliceValue((*backing, *before[len(backing) :]), len(backing))

    def encode(self, value: SliceValue[T] | None, escapes: Escapes) -> str:
        if value is None:
            return "null"
        return "[" + ",".join([self._element.encode(item, escapes) for item in value.items]) + "]"

    def is_empty(self, value: SliceValue[T] | None) -> bool:
        return value is None or value.length == 0


class Argv(Slice[str]):
    """Docker's `StrSlice`: always decoded afresh; one string stands for an array of one."""

    def __init__(self) -> None:
        super().__init__(String())

    def decode(self, node: Node, old: SliceValue[str] | None, path: str) -> SliceValue[str] | None:
        if isinstance(node, bytes) and node[:1] == b'"':
            return SliceValue((unquote(node),), 1)
        return super().decode(node, None, path)


class Map(GoType[dict[str, T] | None]):
    """null is nil; a repeated object is merged key by key, each value decoded afresh."""

    def __init__(self, value: GoType[T]) -> None:
        self._value = value

    def zero(self) -> dict[str, T] | None:
        return None

    def decode(self, node: Node, old: dict[str, T] | None, path: str) -> dict[str, T] | None:
        if node == _NULL:
            return None
        if not isinstance(node, Members):
            raise _refused(path, "an object", kind_of(node))
        decode, zero = self._value.decode, self._value.zero
        fresh = {unquote(key): decode(value, zero(), f"{path}{{}}") for key, value in node}
        return fresh if old is None else old | fresh

    def encode(self, value: dict[str, T] | None, escapes: Escapes) -> str:
        if value is None:
            return "null"
        return go_text.mapping(
            {key: self._value.encode(item, escapes) for key, item in value.items()}, escapes
        )


StructValue: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True)
class Field:
    """`is_optional` leaves an empty value out (`omitempty`)."""

    name: str
    type: GoType[object]
    is_optional: bool = False


class Struct(GoType[StructValue]):
    """Keys that name no field are dropped; a repeated object is merged by field; null changes nothing."""

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        self._exact = {field.name: field for field in fields}
        self._folded = {fold(field.name): field for field in fields}

    def zero(self) -> StructValue:
        return {field.name: field.type.zero() for field in self.fields}

    def decode(self, node: Node, old: StructValue, path: str) -> StructValue:
        if node == _NULL:
            return old
        if not isinstance(node, Members):
            raise _refused(path, "an object", kind_of(node))
        value = dict(old)
        for token, item in node:
            key = unquote(token)
            field = self._exact.get(key) or self._folded.get(fold(key))
            if field is not None:
                inner = f"{path}.{field.name}" if path else field.name
                value[field.name] = field.type.decode(item, value[field.name], inner)
        return value

    def encode(self, value: StructValue, escapes: Escapes) -> str:
        return go_text.struct(self.encode_fields(value, escapes))

    def encode_fields(self, value: StructValue, escapes: Escapes) -> list[tuple[str, str]]:
        """The fields that are written, in order, each value as JSON."""
        return [
            (field.name, field.type.encode(value[field.name], escapes))
            for field in self.fields
            if not (field.is_optional and field.type.is_empty(value[field.name]))
        ]

    def is_empty(self, value: StructValue) -> bool:
        return False


def field(name: str, kind: Callable[[], GoType[T]] | GoType[T], *, is_optional: bool = False) -> Field:
    """A field of a type, or of a class of types that takes no arguments."""
    instance = kind if isinstance(kind, GoType) else kind()
    return Field(name, instance, is_optional)  # type: ignore[arg-type]  # a struct holds fields of many types


def _scalar(node: Node, first: bytes, path: str, expected: str) -> bytes:
    if isinstance(node, bytes) and node[0] in first:
        return node
    raise _refused(path, expected, kind_of(node))


def _refused(path: str, expected: str, found: str) -> UnsupportedImageError:
    where = f"field {path!r} of the image's config" if path else "the image's config"
    return UnsupportedImageError(
        f"{where} must be {expected}, not {found}; engines refuse it, the image must be rebuilt"
    )
