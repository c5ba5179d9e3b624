"""JSON as Go's `encoding/json` reads it, part one: the syntax.

`parse` keeps every scalar as the bytes that stood in the text, so that what is never looked at costs nothing,
repeated keys stay in their order, and a time can still be told from a time written with escapes.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias

from ..errors import UnsupportedImageError

MAX_DEPTH = 10_000
"""Go's `maxNestingDepth`."""


class Members(list["tuple[bytes, Node]"]):
    """An object: its members in order, keys as quoted tokens, repeated ones included."""

    __slots__ = ()


Node: TypeAlias = "bytes | list[Node] | Members"
"""A scalar's token as written, an array, or an object."""

_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SCALAR = rb"(" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"

_START = re.compile(_SPACE)
_ROOT = re.compile(_SCALAR)
_OPEN = re.compile(_SPACE + rb"([\[{])" + _SPACE + rb"([\]}])?" + _SPACE)
_MEMBER = re.compile(
    rb"("
    + _STRING
    + rb")"
    + _SPACE
    + rb":"
    + _SPACE
    + rb"(?:"
    + _SCALAR
    + _SPACE
    + rb"([,}])"
    + _SPACE
    + rb")?"
)
_ELEMENT = re.compile(_SCALAR + _SPACE + rb"([,\]])" + _SPACE)
_AFTER = re.compile(_SPACE + rb"([,\]}])" + _SPACE)

_NOT_UNICODE = re.compile("[\ud800-\udfff]")


def parse(raw: bytes, *, what: str) -> Node:
    """The text's one value. `what` names the text in errors; raises `UnsupportedImageError`.

    Refused as Go refuses: trailing bytes, a byte order mark, control characters in strings, NaN, and more
    than `MAX_DEPTH` open brackets. No recursion.
    """
    position = _match_end(_START, raw, 0)
    scalar = _ROOT.match(raw, position)
    if scalar is not None:
        _demand_end(raw, _match_end(_START, raw, scalar.end()), what)
        return scalar[1]
    return _parse_container(raw, position, what)


def _parse_container(raw: bytes, position: int, what: str) -> Node:
    member_at, element_at = _MEMBER.match, _ELEMENT.match
    open_containers: list[list[Node] | Members] = []
    current: list[Node] | Members | None = None
    key: bytes | None = None
    while True:
        opened = _OPEN.match(raw, position)
        if opened is None:
            raise _syntax_error(raw, position, what)
        bracket, closer = opened[1], opened[2]
        fresh: list[Node] | Members = Members() if bracket == b"{" else []
        if isinstance(current, Members):
            assert key is not None
            current.append((key, fresh))
        elif current is not None:
            current.append(fresh)
        if current is not None:
            open_containers.append(current)
        current = fresh
        position = opened.end()
        if len(open_containers) >= MAX_DEPTH:
            raise UnsupportedImageError(f"{what} is nested more than {MAX_DEPTH} deep; engines refuse it")
        is_closed = closer is not None
        if closer is not None and closer != (b"}" if bracket == b"{" else b"]"):
            raise _syntax_error(raw, opened.start(2), what)
        while True:
            if is_closed:
                if not open_containers:
                    _demand_end(raw, position, what)
                    return current
                current = open_containers.pop()
                after = _AFTER.match(raw, position)
                if after is None or (
                    after[1] != b"," and after[1] != (b"}" if isinstance(current, Members) else b"]")
                ):
                    raise _syntax_error(raw, position, what)
                position = after.end()
                is_closed = after[1] != b","
                continue
            if isinstance(current, Members):
                member = member_at(raw, position)
                if member is None:
                    raise _syntax_error(raw, position, what)
                position = member.end()
                key, value, delimiter = member.groups()
                if delimiter is None:
                    break
                current.append((key, value))
            else:
                element = element_at(raw, position)
                if element is None:
                    break
                position = element.end()
                value, delimiter = element.groups()
                current.append(value)
            is_closed = delimiter != b","


def unquote(token: bytes) -> str:
    """The string that a quoted token stands for.

    Each byte that is no UTF-8 becomes one U+FFFD (not one a sequence), so does each `\\uD8xx` escape that
    forms no pair.
    """
    text = token.decode("utf-8", "surrogateescape")
    text = json.loads(text) if b"\\" in token else text[1:-1]
    return text if text.isascii() else _NOT_UNICODE.sub("\ufffd", text)


def fold(key: str) -> str:
    """`key` as Go compares field names: case aside, U+017F equal to `s`, U+212A equal to `k`."""
    return key.replace("\u017f", "s").replace("\u212a", "k").lower() if not key.isascii() else key.lower()


def kind_of(node: Node) -> str:
    """What a node is, in the words of an error message."""
    if isinstance(node, Members):
        return "an object"
    if isinstance(node, list):
        return "an array"
    return {b'"': "a string", b"t": "a boolean", b"f": "a boolean", b"n": "null"}.get(node[:1], "a number")


def _match_end(pattern: re.Pattern[bytes], raw: bytes, position: int) -> int:
    match = pattern.match(raw, position)
    return position if match is None else match.end()


def _demand_end(raw: bytes, position: int, what: str) -> None:
    if position != len(raw):
        raise _syntax_error(raw, position, what)


def _syntax_error(raw: bytes, position: int, what: str) -> UnsupportedImageError:
    if position >= len(raw):
        return UnsupportedImageError(f"{what} is not valid JSON: it ends too early, after {len(raw)} bytes")
    return UnsupportedImageError(
        f"{what} is not valid JSON: {raw[position : position + 12]!r} at byte {position} is out of place"
    )
