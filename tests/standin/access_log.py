"""What the stand-in was asked and what it sent: the witness of every test that counts requests or bytes."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

Server = Literal["token", "registry", "storage"]
_SINGLE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True, kw_only=True)
class Request:
    """One request; filled in while it is answered.

    `path` has no query. `digest` is that of the blob or manifest asked for. `range`: first and last byte
    asked for, last None where open. `bytes_sent` counts the body from `body_start` on, before each write.
    `connection` numbers the TCP connections. `at_s`, `ended_s`: the monotonic clock.
    """

    server: Server
    method: str
    host: str
    path: str
    range: tuple[int, int | None] | None
    has_authorization: bool
    connection: int
    headers: dict[str, str] = field(repr=False)
    at_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None
    digest: str | None = None
    status: int = 0
    body_start: int = 0
    bytes_sent: int = 0
    faults: tuple[str, ...] = ()

    @property
    def is_blob_body(self) -> bool:
        """Whether bytes of a blob were sent: by the storage host, as asked for."""
        return self.server == "storage" and self.status in (200, 206)


def parse_range(header: str | None) -> tuple[int, int | None] | None:
    """(first, last) of a single range; (-n, None) for the last n bytes; None for what S3 doesn't honour."""
    match = _SINGLE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return -int(last), None
    if last and int(last) < int(first):
        return None
    return int(first), int(last) if last else None


class AccessLog:
    """All requests, in the order in which they came."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._in_flight: dict[Server, int] = defaultdict(int)
        self.peak_in_flight: dict[Server, int] = defaultdict(int)

    def open(self, request: Request) -> None:
        self.requests.append(request)
        self._in_flight[request.server] += 1
        self.peak_in_flight[request.server] = max(
            self.peak_in_flight[request.server], self._in_flight[request.server]
        )

    def close(self, request: Request) -> None:
        request.ended_s = time.monotonic()
        self._in_flight[request.server] -= 1

    def clear(self) -> None:
        """Forget what was, for the next measurement."""
        self.requests.clear()
        self.peak_in_flight.clear()

    def of(self, server: Server, *, digest: str | None = None) -> list[Request]:
        return [
            each
            for each in list(self.requests)
            if each.server == server and (digest is None or each.digest == digest)
        ]

    @property
    def blob_bytes(self) -> int:
        """All bytes of blobs that were sent, however often."""
        return sum(each.bytes_sent for each in list(self.requests) if each.is_blob_body)

    @property
    def distinct_blob_bytes(self) -> int:
        """How many different bytes of blobs were sent."""
        pieces: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
        for each in list(self.requests):
            if each.is_blob_body:
                pieces[each.digest].append((each.body_start, each.body_start + each.bytes_sent))
        total = 0
        for spans in pieces.values():
            reached = 0
            for start, end in sorted(spans):
                total += max(0, end - max(start, reached))
                reached = max(reached, end)
        return total
