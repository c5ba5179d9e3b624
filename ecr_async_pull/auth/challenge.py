"""`WWW-Authenticate` headers (RFC 9110, 11.6.1; distribution's token authentication). Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*')
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=\s|,|\Z)")
_TOKEN68 = re.compile(r"\s*[A-Za-z0-9._~+/-]+=*\s*(?=,|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to log in that a server offers: `scheme` and parameter names are lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges in these header values, in order; what can't be read is left out."""
    return tuple(challenge for header in headers for challenge in _parse_one(header))


def pick_challenge(headers: Iterable[str]) -> Challenge | None:
    """The challenge to answer: Bearer before Basic, None where neither is offered."""
    challenges = parse_challenges(headers)
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "basic" or challenge.parameters.get("realm")):
                return challenge
    return None


def _parse_one(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
            following = re.compile(rf",[\s,]*(?={_WORD}\s*=)").match(header, position)
            if following is None:
                break
            position = following.end()
        if not parameters and (blob := _TOKEN68.match(header, position)):
            position = blob.end()
        challenges.append(Challenge(scheme=scheme[1].lower(), parameters=MappingProxyType(parameters)))
    return challenges
