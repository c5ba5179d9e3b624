"""JSON as Go reads and writes it, where that differs from other readers and writers."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecr_async_pull.errors import UnsupportedImageError
from ecr_async_pull.model import go_text
from ecr_async_pull.model.go_json import MAX_DEPTH, Members, Node, fold, parse, unquote
from ecr_async_pull.model.go_text import Escapes
from ecr_async_pull.model.go_time import parse_time
from ecr_async_pull.model.go_types import Argv, Int64, Map, Slice, String, Struct, field

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


def decoded(node: Node) -> object:
    if isinstance(node, bytes):
        return unquote(node) if node[:1] == b'"' else json.loads(node)
    if isinstance(node, Members):
        return {unquote(key): decoded(value) for key, value in node}
    return [decoded(item) for item in node]


@given(TEXT, st.sampled_from(Escapes))
def test_a_written_string_reads_back_and_holds_no_character_go_escapes(text: str, escapes: Escapes) -> None:
    written = go_text.quote(text, escapes)
    assert json.loads(written) == text
    assert unquote(written.encode()) == text
    assert not set(written) & set("<>&\u2028\u2029")


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_what_another_writer_wrote_is_read_alike(value: object, indent: int | None, is_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    assert decoded(parse(text.encode(), what="it")) == value


@given(
    st.binary(max_size=12) | st.text(alphabet='{}[]",:\\u0019eE.-+ntrufalse \n', max_size=14).map(str.encode)
)
def test_exactly_the_texts_that_another_reader_takes_are_taken(raw: bytes) -> None:
    def refuse(_: str) -> None:
        raise ValueError

    try:
        # latin-1: any byte above 127 is a character to both, wherever it stands
        json.loads(raw.decode("latin-1"), parse_constant=refuse)
        expected = True
    except ValueError:
        expected = False
    try:
        parse(raw, what="it")
        taken = True
    except UnsupportedImageError:
        taken = False
    assert taken == expected


@pytest.mark.parametrize(
    ("text", "escapes", "expected"),
    [
        ('"\\/\x7f', Escapes.SINCE_GO_1_22, '"\\"\\\\/\x7f"'),
        ("\n\r\t\x00\x1f", Escapes.SINCE_GO_1_22, '"\\n\\r\\t\\u0000\\u001f"'),
        ("\b\f", Escapes.SINCE_GO_1_22, '"\\b\\f"'),
        ("\b\f", Escapes.BEFORE_GO_1_22, '"\\u0008\\u000c"'),
        (
            "<é>&\u2028\u2029\ufffd\U0001f600",
            Escapes.SINCE_GO_1_22,
            '"\\u003cé\\u003e\\u0026\\u2028\\u2029\ufffd\U0001f600"',
        ),
    ],
)
def test_strings_are_escaped_as_go_does(text: str, escapes: Escapes, expected: str) -> None:
    assert go_text.quote(text, escapes) == expected


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (b'"\xff\xfe"', "\ufffd\ufffd"),
        (b'"\xe2\x82"', "\ufffd\ufffd"),
        (b'"\xf0\x80\x80a"', "\ufffd\ufffd\ufffda"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
        (b'"\xe2\x82\xc3\xa9"', "\ufffd\ufffdé"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83dx"', "\ufffdx"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (b'"\\ud83d\xff"', "\ufffd\ufffd"),
    ],
)
def test_each_bad_byte_and_each_lone_surrogate_becomes_one_replacement(token: bytes, expected: str) -> None:
    assert unquote(token) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xef\xbb\xbf{}",
        b"{} x",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":+1}',
        b'{"a":1,}',
        b"[1 2]",
        b'{"a"}',
        b"{1:2}",
        b"[}",
        b"{]",
        b'"\x01"',
        b'"\\x"',
        b'"\\u12g4"',
        b'"open',
        b"[[]",
        b'{"a":[1}',
        b"nul",
        b"\x0c{}",
    ],
)
def test_what_go_calls_a_syntax_error_is_refused(raw: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="the thing is not valid JSON"):
        parse(raw, what="the thing")


def test_depth_ends_where_gos_does_and_never_in_a_recursion_error() -> None:
    parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, what="it")
    with pytest.raises(UnsupportedImageError, match="nested"):
        parse(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), what="it")
    with pytest.raises(UnsupportedImageError, match="nested"):
        parse(b'{"a":' * (MAX_DEPTH + 1), what="it")


def test_repeated_keys_stay_in_order() -> None:
    assert parse(b'{"a":1, "b":[], "a":{"c":null}}', what="it") == [
        (b'"a"', b"1"),
        (b'"b"', []),
        (b'"a"', [(b'"c"', b"null")]),
    ]


@pytest.mark.parametrize("key", ["rootfs", "ROOTFS", "rootf\u017f", "RootF\u017f"])
def test_keys_fold_with_the_long_s(key: str) -> None:
    assert fold(key) == "rootfs"


def test_keys_fold_with_the_kelvin_sign_and_no_other_letter() -> None:
    assert fold("doc\u212aer") == "docker"
    assert fold("\uff4b") != "k"
    assert fold("\u0131d") != "id"


def _struct_of(raw: str) -> str:
    struct = Struct(
        field("Text", String),
        field("Number", Int64),
        field("List", Slice(String())),
        field("Argv", Argv),
        field("Map", Map(String())),
        field("Inner", Struct(field("A", String), field("B", String))),
    )
    value = struct.decode(parse(raw.encode(), what="it"), struct.zero(), "")
    return struct.encode(value, Escapes.SINCE_GO_1_22)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"Text":"a","text":"b","Text":null}', {"Text": "b"}),
        ('{"Number":-0}', {"Number": 0}),
        ('{"Number":-9223372036854775808}', {"Number": -(2**63)}),
        ('{"List":["a","b"],"List":[null,"c",null]}', {"List": ["a", "c", ""]}),
        ('{"List":["a","b"],"List":["c"],"List":["d",null]}', {"List": ["d", "b"]}),
        ('{"List":["a","b"],"List":[],"List":[null]}', {"List": [""]}),
        ('{"List":["a"],"List":null}', {"List": None}),
        ('{"Argv":["a"],"Argv":[null]}', {"Argv": [""]}),
        ('{"Argv":""}', {"Argv": [""]}),
        ('{"Map":{"a":"1","b":"2"},"Map":{"b":null,"c":"3"}}', {"Map": {"a": "1", "b": "", "c": "3"}}),
        ('{"Map":{"a":"1"},"Map":null,"Map":{}}', {"Map": {}}),
        ('{"Inner":{"A":"1"},"inner":{"b":"2"},"Inner":null}', {"Inner": {"A": "1", "B": "2"}}),
        ('{"\\u0054ext":"a","Text ":"b"}', {"Text": "a"}),
    ],
)
def test_fields_are_decoded_over_what_is_there(raw: str, expected: dict[str, object]) -> None:
    zero = {"Text": "", "Number": 0, "List": None, "Argv": None, "Map": None, "Inner": {"A": "", "B": ""}}
    assert json.loads(_struct_of(raw)) == zero | expected


@given(st.dictionaries(TEXT, TEXT))
def test_maps_are_written_in_the_order_of_their_utf8(items: dict[str, str]) -> None:
    written = go_text.mapping({key: go_text.quote(value) for key, value in items.items()})
    keys = [unquote(key) for key, _ in _members(written)]
    assert keys == sorted(items, key=str.encode)
    assert json.loads(written) == items


def _members(text: str) -> Members:
    node = parse(text.encode(), what="it")
    assert isinstance(node, Members)
    return node


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ('{"Text":1}', "Text"),
        ('{"Number":1.0}', "Number"),
        ('{"Number":1e3}', "Number"),
        ('{"Number":9223372036854775808}', "Number"),
        ('{"Number":"1"}', "Number"),
        ('{"List":"a"}', "List"),
        ('{"List":["a",1]}', "List"),
        ('{"Argv":{}}', "Argv"),
        ('{"Map":[]}', "Map"),
        ('{"Map":{"a":{}}}', "Map"),
        ('{"Inner":{"a":[]}}', "Inner.A"),
    ],
)
def test_a_wrong_type_is_refused_by_its_path(raw: str, path: str) -> None:
    with pytest.raises(UnsupportedImageError, match=f"field '{path}"):
        _struct_of(raw)


@pytest.mark.parametrize(
    ("token", "text", "unix_s"),
    [
        ("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.123456789Z", 1714979289),
        ("2024-05-06T07:08:09.1234567899Z", "2024-05-06T07:08:09.123456789Z", 1714979289),
        ("2024-05-06T07:08:09.100Z", "2024-05-06T07:08:09.1Z", 1714979289),
        ("2024-05-06T07:08:09.000Z", "2024-05-06T07:08:09Z", 1714979289),
        ("2024-05-06T7:08:09,5Z", "2024-05-06T07:08:09.5Z", 1714979289),
        ("2024-05-06T07:08:09+05:30", "2024-05-06T07:08:09+05:30", 1714959489),
        ("2024-05-06T07:08:09-00:00", "2024-05-06T07:08:09Z", 1714979289),
        ("2024-05-06T07:08:09+00:60", "2024-05-06T07:08:09+01:00", 1714975689),
        ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z", -62162121600),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", -62135596800),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_times_are_rewritten_as_go_writes_them(token: str, text: str, unix_s: int) -> None:
    time = parse_time(f'"{token}"'.encode())
    assert time is not None
    assert (time.text, time.unix_s) == (text, unix_s)


@pytest.mark.parametrize(
    "token",
    [
        '""',
        '"2023-02-29T00:00:00Z"',
        '"2024-13-01T00:00:00Z"',
        '"2024-05-06T24:00:00Z"',
        '"2024-05-06T07:08:60Z"',
        '"2024-05-06T07:08:09"',
        '"2024-05-06 07:08:09Z"',
        '"2024-05-06T07:08:09+0530"',
        '"2024-05-06T07:08:09+25:00"',
        '"2024-05-06T07:08:09.Z"',
        '"2024-05-06T07:08:09\\u005a"',
        "1714979289",
    ],
)
def test_what_go_finds_no_time_in_is_none(token: str) -> None:
    assert parse_time(token.encode()) is None


@given(st.datetimes(), st.text(string.digits, max_size=12))
def test_unix_seconds_agree_with_the_calendar(moment: object, fraction: str) -> None:
    from datetime import UTC, datetime

    assert isinstance(moment, datetime)
    text = moment.replace(microsecond=0).isoformat() + (f".{fraction}" if fraction else "")
    time = parse_time(f'"{text}Z"'.encode())
    assert time is not None
    assert time.unix_s == int(
        (moment.replace(microsecond=0, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    )
