# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files with a length, /chunked/FILE without one; what is posted; an echo by WebSocket."""


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await answer(scope, receive, send)


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def answer(scope, receive, send):
    how, name = ("/" + scope["path"].lstrip("/")).split("/")[-2:]
    body = b""
    if scope["method"] == "POST":
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
    elif name != "empty":
        with open(f"/srv/www/{name}", "rb") as file:
            body = file.read()
    length = [] if how == "chunked" else [(b"content-length", b"%d" % len(body))]
    status, length = (204, []) if name == "empty" else (200, length)
    await send({"type": "http.response.start", "status": status, "headers": length})
    if status == 204 or scope["method"] == "HEAD":
        body = b""
    for i in range(0, len(body), 100_000):
        await send({"type": "http.response.body", "body": body[i:i + 100_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
