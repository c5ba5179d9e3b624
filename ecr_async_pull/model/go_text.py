"""JSON as Go's `encoding/json` writes it (`encode.go`, `appendString`, with HTML escaping on)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping


class Escapes(enum.Enum):
    """How backspace and form feed are written: `\\u0008` by Go before 1.22, `\\b` since."""

    BEFORE_GO_1_22 = "before 1.22"
    SINCE_GO_1_22 = "since 1.22"


_SPECIAL = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029]')
_OLD_TABLE = {code: f"\\u{code:04x}" for code in (*range(0x20), *map(ord, "<>&\u2028\u2029"))} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}
_TABLES = {
    Escapes.BEFORE_GO_1_22: _OLD_TABLE,
    Escapes.SINCE_GO_1_22: _OLD_TABLE | {0x08: "\\b", 0x0C: "\\f"},
}


def quote(text: str, escapes: Escapes = Escapes.SINCE_GO_1_22) -> str:
    """`text` as a JSON string. It must hold no lone surrogates."""
    if _SPECIAL.search(text) is None:
        return f'"{text}"'
    return f'"{text.translate(_TABLES[escapes])}"'


def strings(items: Iterable[str], escapes: Escapes = Escapes.SINCE_GO_1_22) -> str:
    """An array of strings."""
    return f"[{','.join([quote(item, escapes) for item in items])}]"


def struct(fields: Iterable[tuple[str, str]]) -> str:
    """An object whose fields stay in order; values are JSON already."""
    return "{" + ",".join([f"{quote(name)}:{value}" for name, value in fields]) + "}"


def mapping(items: Mapping[str, str], escapes: Escapes = Escapes.SINCE_GO_1_22) -> str:
    """An object made from a map: keys sorted by their UTF-8; values are JSON already."""
    return "{" + ",".join([f"{quote(key, escapes)}:{items[key]}" for key in sorted(items)]) + "}"
