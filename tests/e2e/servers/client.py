#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Talks to the servers that start.sh has started, and prints what they sent.

One line of JSON: for each server and case the digest of all bytes that came, without our field
and the date, the number of responses that are due, and our fields' values. A second run must
print the same digests, whether requests are measured or not.
"""

import hashlib
import json
import re
import socket
import sys
import time

SERVERS = {"nginx": 8081, "apache": 8084, "node": 8085, "python": 8086, "uvicorn": 8087}
SCORE = re.compile(rb"(?<=\r\n)X-Energy-Score: (\d+)\r\n")
DATE = re.compile(rb"(?i)(?<=\r\n)date: [^\r]*\r\n")
# Of node.js, see there; what a server says of our field must not look like ours.
FORGED = b"X-Energy-Score: forged\r\n", b"X-Energy-Scor-: forged\r\n"
# What a server makes up for each response.
BOUNDARY = re.compile(rb"(?<=boundary=)[0-9a-f]+")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SLOW_S = 0.002


def request(path, method="GET", **fields):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"{method} /{path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()


def last(path, method="GET", **fields):
    return request(path, method, Connection="close", **fields)


def post(path, body):
    return last(path, "POST", Content_Length=len(body)) + body


def talk(port, pieces, buffer=None, slow=0.0):
    """Sends the pieces, reads to the end."""
    received = []
    with socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(20)
        client.connect(("127.0.0.1", port))
        for piece in pieces:
            client.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.0005)
        while data := client.recv(buffer or 1 << 20):
            received.append(data)
            time.sleep(slow)
    return b"".join(received)


def keep_alive(port, requests):
    """One after the other on a connection, each when the former response is there."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for data in requests:
            client.sendall(data)
            while not received.endswith(b"\r\n\r\n"):  # all have empty bodies
                received += client.recv(65536)
            received += b"#"
    return received


def cases(server, port):
    """Name, bytes received, number of responses that may have the field."""
    for size in (1, 100, 4095, 4096, 65536, 1000000, 10000000):
        yield f"file of {size}", talk(port, [last(size)]), 1
    yield "HEAD", keep_alive(port, [request(100, "HEAD")] * 5), 5
    since = {"If_Modified_Since": "Fri, 02 Jan 2026 00:00:00 GMT"}
    if server not in ("node", "uvicorn"):
        yield "304", keep_alive(port, [request(100, **since)] * 5), 5
    if server != "python":
        yield "204", keep_alive(port, [request("empty")] * 5), 5
    if server in ("nginx", "apache"):
        yield "ranges", talk(port, [last(4096, Range="bytes=0-9,4000-4010")]), 1
    if server in ("node", "uvicorn"):
        for size in (1, 65536, 1000000):
            yield f"chunked {size}", talk(port, [last(f"chunked/{size}")]), 1
        body = bytes(range(256)) * 400
        yield "POST", talk(port, [post("", body)]), 1
        head, _, rest = post("", body).partition(b"\r\n\r\n")
        head += b"\r\nExpect: 100-continue\r\n\r\n"
        yield "100", talk(port, [head, rest]).replace(CONTINUE, b""), 1
    if server == "node":
        yield "gzip", talk(port, [last("gzip/1000000")]), 1
    sizes = [1, 4096, 100, 65536, 4095] * 4
    pipelined = b"".join(request(size) for size in sizes) + last(1)
    yield "pipelined", talk(port, [pipelined]), len(sizes) + 1
    yield "cut", talk(port, [bytes([byte]) for byte in request(100) + last(1)]), 2
    yield "long head", talk(port, [last(1, X="y" * 6000)]), 1
    yield "HTTP/1.0", talk(port, [b"GET /4096 HTTP/1.0\r\n\r\n"]), 1
    # Longer than the server's and our buffers: it has to wait.
    yield "slow", talk(port, [last(10000000)], buffer=65536, slow=SLOW_S), 1
    # Where the socket is full a field may be missing: how many are there is not said.
    pipelined = b"".join(request(size) for size in [1, 1000000, 100, 65536] * 8) + last(1)
    yield "slow, pipelined", talk(port, [pipelined], buffer=65536, slow=SLOW_S), None


def main():
    seen = {}
    for server in sys.argv[1:] or SERVERS:
        for name, received, responses in cases(server, SERVERS[server]):
            plain = BOUNDARY.sub(b"", DATE.sub(b"", SCORE.sub(b"", received)))
            plain = plain.replace(*FORGED)
            boundary = BOUNDARY.search(received)
            if boundary:
                plain = plain.replace(boundary[0], b"")
            seen[f"{server}: {name}"] = {
                "digest": hashlib.sha256(plain).hexdigest(), "length": len(plain),
                "responses": responses, "scores": [int(s) for s in SCORE.findall(received)]}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
