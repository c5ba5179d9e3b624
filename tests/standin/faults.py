"""What the stand-in can be told to do wrong, to whom and how often."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from .access_log import Request, Server


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST) after `at_byte` bytes of the body; None: before any answer."""

    at_byte: int | None = 0


@dataclass(frozen=True, slots=True)
class Short:
    """The body ends, and the connection is closed in good order, at this byte of the promised length."""

    at_byte: int = 0


@dataclass(frozen=True, slots=True)
class Stall:
    """After this many bytes of the body nothing more comes, and the connection stays open."""

    at_byte: int = 0


@dataclass(frozen=True, slots=True)
class Slow:
    """The body comes no faster than this."""

    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Delay:
    """The answer begins this much later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Status:
    """An error in the words that this server would use; `body` replaces them. `retry_after` is sent as is."""

    status: int
    retry_after: str | None = None
    code: str | None = None
    message: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """200 and the whole blob, whatever range was asked for."""


@dataclass(frozen=True, slots=True)
class WrongContentRange:
    """206 whose Content-Range names a place this many bytes off."""

    shift: int = 1


@dataclass(frozen=True, slots=True)
class ExpireLink:
    """The storage link in this request expires now, for good: 403 (or 400 ExpiredToken, `by_session`)."""

    by_session: bool = False


@dataclass(frozen=True, slots=True)
class ExpireToken:
    """The token in this request expires now, for good: 403 DENIED from the registry."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One bit of the byte at this offset of the blob or manifest is wrong."""

    offset: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """307 to the same path and query on another `host:port`."""

    host: str


Action = (
    Reset | Short | Stall | Slow | Delay | Status | IgnoreRange | WrongContentRange | ExpireLink | ExpireToken
    | Flip | Redirect
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Rule:
    """`action` for the requests that match every condition given.

    `path`: a part of the path. `digest`: of the blob or manifest asked for. `covers`: a byte offset that the
    request's range (or whole body) includes. `nth`: which of the matching requests, counted from 1.
    `times`: at most so often. `probability`: of each request that matches the rest, drawn by `seed`.
    `seen` and `fired` count.
    """

    action: Action
    server: Server | None = None
    method: Literal["GET", "HEAD", "POST"] | None = None
    path: str | None = None
    digest: str | None = None
    covers: int | None = None
    nth: Collection[int] | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    seen: int = 0
    fired: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def fires(self, request: Request) -> bool:
        """Whether this request meets the action; counts it."""
        if not self._matches(request):
            return False
        self.seen += 1
        if self.nth is not None and self.seen not in self.nth:
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def _matches(self, request: Request) -> bool:
        if self.covers is not None and request.range is not None:
            start, end = request.range
            if not (start <= self.covers and (end is None or self.covers <= end)):
                return False
        return (
            self.server in (None, request.server)
            and self.method in (None, request.method)
            and (self.path is None or self.path in request.path)
            and self.digest in (None, request.digest)
        )


class Faults:
    """The rules, in order; all that fire take effect together. May be changed while servers run."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(
        self,
        action: Action,
        *,
        server: Server | None = None,
        method: Literal["GET", "HEAD", "POST"] | None = None,
        path: str | None = None,
        digest: str | None = None,
        covers: int | None = None,
        nth: int | Collection[int] | None = None,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> Rule:
        """See `Rule` for the conditions; without any, every request meets the action."""
        rule = Rule(
            action=action,
            server=server,
            method=method,
            path=path,
            digest=digest,
            covers=covers,
            nth=(nth,) if isinstance(nth, int) else nth,
            times=times,
            probability=probability,
            seed=seed,
        )
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def actions_for(self, request: Request) -> list[Action]:
        with self._lock:
            return [rule.action for rule in self.rules if rule.fires(request)]
