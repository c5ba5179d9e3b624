"""An HTTP proxy that leads AWS's true host names to the stand-in: `HTTPS_PROXY` is all that a client needs.

After `CONNECT` the accepted socket itself is handed to the server that is meant, so nothing is copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

_CONNECT = re.compile(rb"CONNECT ([^ :]+):(\d+) HTTP/1\.[01]\r\n")
Route = Callable[[str, int], web.Server | None]
_HEAD_MAX_BYTES = 16 * 1024


class ConnectProxy:
    """`route` gives the server for a host name and port, or None: then the client gets a 403.

    `listener` is closed when `serve` ends.
    `connects` lists the `host:port` that clients asked for.
    """

    def __init__(self, listener: socket.socket, route: Route, tls: ssl.SSLContext) -> None:
        self._route = route
        self._tls = tls
        self._listener = listener
        self.connects: list[str] = []

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    async def serve(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        self._listener.settimeout(0)
        with self._listener:
            async with asyncio.TaskGroup() as group:
                while True:
                    connection, _ = await loop.sock_accept(self._listener)
                    group.create_task(self._lead(connection))

    async def _lead(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server = await self._asked_for(connection)
        except BaseException:
            connection.close()
            raise
        if server is None:
            connection.close()
            return
        with contextlib.suppress(OSError):  # a client that gave up during the handshake
            await asyncio.get_running_loop().connect_accepted_socket(server, connection, ssl=self._tls)

    async def _asked_for(self, connection: socket.socket) -> web.Server | None:
        loop = asyncio.get_running_loop()
        head = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX_BYTES:
                more = await loop.sock_recv(connection, 4096)
                if not more:
                    return None
                head += more
            asked = _CONNECT.match(head)
            if asked is None:
                await loop.sock_sendall(connection, b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
                return None
            host, port = asked[1].decode("ascii", "replace").lower(), int(asked[2])
            self.connects.append(f"{host}:{port}")
            server = self._route(host, port)
            answer = b"403 Forbidden" if server is None else b"200 Connection established"
            await loop.sock_sendall(connection, b"HTTP/1.1 " + answer + b"\r\n\r\n")
            return server
        return None
