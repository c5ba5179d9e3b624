"""A TCP relay that is far away: what passes is held back for half a round trip each way, and a new connection
for a whole one. Usage: `relay.py ROUND_TRIP_S LISTEN_ADDRESS=TARGET_ADDRESS...`, port 443 all.

Stands in for netem, which needs a kernel module that many machines don't have.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

_PORT = 443
_PIECE_BYTES = 256 * 1024


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Everything from one side to the other, in order, `delay_s` later, the end too."""
    loop = asyncio.get_running_loop()
    held: deque[tuple[float, bytes]] = deque()
    arrived = asyncio.Event()

    async def read() -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(_PIECE_BYTES)
            except ConnectionError:
                data = b""
            held.append((loop.time() + delay_s, data))
            arrived.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        while True:
            await arrived.wait()
            due, data = held.popleft()
            if not held:
                arrived.clear()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            try:
                writer.write(data)
                await writer.drain()
            except ConnectionError:
                pass
        writer.close()


async def _serve(round_trip_s: float, listen: str, target: str) -> asyncio.Server:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip_s)
        far_reader, far_writer = await asyncio.open_connection(target, _PORT)
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(reader, far_writer, round_trip_s / 2))
            group.create_task(_carry(far_reader, writer, round_trip_s / 2))

    return await asyncio.start_server(accept, listen, _PORT, backlog=512)


async def main() -> None:
    """Until a signal ends the process."""
    round_trip_s, *pairs = sys.argv[1:]
    servers = [await _serve(float(round_trip_s), *pair.split("=")) for pair in pairs]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
