#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# HTTP/2 without and with TLS, TLS alone, and a WebSocket: prints the fields and digests of what
# came.
set -eu

fetch() {
    curl -sk --dump-header - -o /tmp/body "$@" | grep -vi '^date:'
    sha256sum </tmp/body
}
for size in 1 65536 1000000; do
    fetch --http2-prior-knowledge http://localhost:8082/$size
    fetch --http2 https://localhost:8083/$size
    fetch --http1.1 https://localhost:8083/$size
done
python3 - <<END
import asyncio
import websockets

async def main():
    async with websockets.connect("ws://localhost:8087/") as socket:
        for size in (1, 125, 126, 70000):
            await socket.send(b"HTTP/1.1 200 OK\r\n"[:size] * (1 + size // 17))
            print(len(await socket.recv()))
        print(socket.response_headers.get("X-Energy-Score"))

asyncio.run(main())
END
