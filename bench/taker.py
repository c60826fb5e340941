"""An SMTP server that takes every message, forgets it, and lets no session wait for another.

smtp-sink reads one session until its socket is empty; while somebody sends it 45 MB at full speed it answers nobody
else for a fifth of a second. That is no property of who sends, so the measurement of latency uses this one, for all.
Of one session it reads no more than :data:`_BURST` octets before all others had their turn: libuv would read 8 MB.
Refuses nothing; run as ``python -m bench.taker PORT``.
"""

import asyncio
import sys
from typing import cast

import uvloop

_END = b"\r\n.\r\n"
_BURST = 256 * 1024
_CAPABILITIES = b"".join(
    b"250%c%s\r\n" % (b" " if word == b"SMTPUTF8" else b"-", word)
    for word in (b"taker", b"PIPELINING", b"8BITMIME", b"DSN", b"ENHANCEDSTATUSCODES", b"SMTPUTF8")
)


class Taking(asyncio.Protocol):
    """One session. Within content only the end is looked for."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._content = False
        self._rest = b""
        self._burst = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 taker ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Commands and content as they come, pipelined or in pieces."""
        self._burst += len(data)
        if self._burst >= _BURST:
            self._burst = 0
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)
        data, self._rest = self._rest + data, b""
        while data:
            if self._content:
                head, found, data = data.partition(_END)
                if not found:
                    self._rest = head[-4:]
                    return
                self._content = False
                self._transport.write(b"250 2.0.0 Ok\r\n")
                continue
            line, found, rest = data.partition(b"\r\n")
            if not found:
                self._rest = data
                return
            # An empty message is a dot behind the command's own CRLF.
            data = b"\r\n" + rest if self._command(line[:4].upper()) else rest

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _command(self, verb: bytes) -> bool:
        """Answer it; True when content follows."""
        if verb == b"DATA":
            self._content = True
            self._transport.write(b"354 go on\r\n")
        elif verb == b"EHLO":
            self._transport.write(_CAPABILITIES)
        elif verb == b"QUIT":
            self._transport.write(b"221 2.0.0 Bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 2.0.0 Ok\r\n")
        return self._content


async def serve(port: int) -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(Taking, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
