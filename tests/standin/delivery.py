"""Sends an answer over an aiohttp connection, with the faults that concern the body."""

from __future__ import annotations

import array
import asyncio
import fcntl
import mmap
import socket
import struct
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from . import faults
from .access_log import Request

_PIECE_BYTES = 256 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True, kw_only=True)
class Answer:
    """`body_start`: where in the blob or manifest the body begins. `head_bytes`: what a HEAD says of it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""
    body_start: int = 0
    head_bytes: int | None = None


def open_body(data: bytes | Path) -> memoryview:
    """The bytes, or a file's through its mapping: nothing is read before it is sent."""
    if isinstance(data, bytes):
        return memoryview(data)
    with data.open("rb") as file:
        if data.stat().st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


async def send(
    request: web.BaseRequest, answer: Answer, actions: list[faults.Action], entry: Request
) -> web.StreamResponse:
    """Send `answer`, as far as the faults let it; says in `entry` what was sent."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = answer.head_bytes or len(answer.body)
    entry.body_start = answer.body_start
    breaking = next(
        (each for each in actions if isinstance(each, (faults.Reset, faults.Short, faults.Stall))), None
    )
    if isinstance(breaking, faults.Reset) and breaking.at_byte is None:
        await _break(request, breaking)
        return response
    entry.status = answer.status
    await response.prepare(request)
    if request.method != "HEAD":
        end = len(answer.body) if breaking is None else min(len(answer.body), breaking.at_byte or 0)
        body = memoryview(_flipped(answer, actions))[:end]
        await _write(response, body, entry, _rate(actions))
        if breaking is not None and end < len(answer.body):
            await _break(request, breaking)
            response.force_close()
            return response
    await response.write_eof()
    return response


async def _write(
    response: web.StreamResponse, body: memoryview, entry: Request, rate_bytes_s: float | None
) -> None:
    piece_bytes = _PIECE_BYTES if rate_bytes_s is None else max(1, min(_PIECE_BYTES, int(rate_bytes_s / 20)))
    due_s = time.monotonic()
    for at in range(0, len(body), piece_bytes):
        piece = body[at : at + piece_bytes]
        entry.bytes_sent += len(piece)
        await response.write(piece)
        if rate_bytes_s is not None:
            due_s += len(piece) / rate_bytes_s
            await asyncio.sleep(max(0, due_s - time.monotonic()))


def _rate(actions: list[faults.Action]) -> float | None:
    return min((each.bytes_per_s for each in actions if isinstance(each, faults.Slow)), default=None)


def _flipped(answer: Answer, actions: list[faults.Action]) -> bytes | memoryview:
    places = [each.offset - answer.body_start for each in actions if isinstance(each, faults.Flip)]
    places = [place for place in places if 0 <= place < len(answer.body)]
    if not places:
        return answer.body
    changed = bytearray(answer.body)
    for place in places:
        changed[place] ^= 1
    return memoryview(changed)


async def _break(request: web.BaseRequest, action: faults.Reset | faults.Short | faults.Stall) -> None:
    transport = request.transport
    if transport is None:
        return
    if isinstance(action, faults.Stall):
        await asyncio.Event().wait()  # until the client gives up, which cancels this handler
    connection: socket.socket = transport.get_extra_info("socket")
    await _until_arrived(connection)
    if isinstance(action, faults.Reset):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    else:
        transport.close()


async def _until_arrived(connection: socket.socket, *, patience_s: float = 2.0) -> None:
    """Until the peer's kernel has all that was sent, or isn't taking it: a reset would drop the rest."""
    empty, deadline_s = 0, time.monotonic() + patience_s
    while empty < 2 and time.monotonic() < deadline_s and connection.fileno() >= 0:
        unsent = array.array("i", [0])
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, unsent)
        empty = empty + 1 if unsent[0] == 0 else 0
        await asyncio.sleep(0.001)
