"""The socket on which every server of ours listens."""

from __future__ import annotations

import asyncio
import socket

from ilmari.server.listening import bound
from ilmari.server.options import ServerOptions


def test_small_packets_leave_at_once() -> None:
    """A token must not wait for the client to acknowledge the packet before it."""

    async def main() -> int:
        accepted = asyncio.get_running_loop().create_future()
        with bound(ServerOptions(port=0)) as listener:
            server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=listener)
            async with server:
                _, client = await asyncio.open_connection(*listener.getsockname()[:2])
                writer: asyncio.StreamWriter = await accepted
                connection: socket.socket = writer.get_extra_info("socket")
                option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                for each in (writer, client):
                    each.close()
                    await each.wait_closed()
                return option

    assert asyncio.run(main())
