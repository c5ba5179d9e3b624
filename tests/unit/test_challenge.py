"""WWW-Authenticate headers."""

from __future__ import annotations

import pytest

from ecr_async_pull.auth.challenge import parse_challenges, pick_challenge


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Basic realm="https://x/",service="ecr.amazonaws.com"',
            [("basic", {"realm": "https://x/", "service": "ecr.amazonaws.com"})],
        ),
        ("Basic", [("basic", {})]),
        (
            'Bearer realm="https://a/token",service="a",scope="repository:x/y:pull,push"',
            [("bearer", {"realm": "https://a/token", "service": "a", "scope": "repository:x/y:pull,push"})],
        ),
        (
            'Bearer Realm = "q\\"uo\\\\te" , error=invalid_token',
            [("bearer", {"realm": 'q"uo\\te', "error": "invalid_token"})],
        ),
        (
            'Negotiate abc/+d==, Basic realm="r", Bearer realm="s"',
            [("negotiate", {}), ("basic", {"realm": "r"}), ("bearer", {"realm": "s"})],
        ),
        ("", []),
        (' , "', []),
    ],
)
def test_schemes_and_quoted_parameters_are_read(
    header: str, expected: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(found.scheme, dict(found.parameters)) for found in parse_challenges([header])] == expected


def test_bearer_is_answered_before_basic_and_unknown_schemes_never() -> None:
    picked = pick_challenge(['Negotiate, Basic realm="r"', 'Bearer realm="https://s"'])
    assert picked is not None
    assert picked.scheme == "bearer"
    assert pick_challenge(["Negotiate"]) is None
    assert pick_challenge(['Bearer service="no realm"']) is None
