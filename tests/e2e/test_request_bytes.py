# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a server sends arrives byte for byte, and our field with it, however it is cut.

The daemon watches a server that sends prepared bytes; what is received must be those, with as
many fields as there are responses that may have one.
"""

import base64
import json
import os
import re
import socket
import time

import pytest

from harness import system
from harness.requests import RequestsDaemon, Server

RAW_SERVER = system.SOURCE_ROOT / "tests/e2e/harness/raw_server.py"
SCORE = re.compile(rb"X-Energy-Score: \d+\r\n")
REQUEST = b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: something long to skip over\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 14:46:00 GMT\r\nServer: x\r\n"
BODY = os.urandom(50000)
NOT_ENDED = b"HTTP/1.1 200 OK\r\n\r\n"


def response(body):
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*parts):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


FRAMINGS = (response(NOT_ENDED) + chunked(b"a", NOT_ENDED * 3) + response(b"") +
            b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"x" * 100))


@pytest.fixture(scope="module")
def talk():
    """talk(answer, ...): what a client receives on a connection; see there."""
    with system.TemporaryDirectory() as directory:
        plan_file = directory / "plan"
        # One watched cgroup in another: each connection is followed once.
        with Server("outer/raw", ["/usr/bin/python3", RAW_SERVER, plan_file]) as server, \
                RequestsDaemon(directory, {
                    "cgroup": [server.cgroup.path, server.cgroup.path.parent],
                    "attribution_mode": "model"}) as daemon:
            yield lambda *arguments, **plan: converse(server, plan_file, *arguments, **plan)
            assert daemon.metrics().value("virtjoule_request_missed_total") == 0


def converse(server, plan_file, answer, requests=(REQUEST,), cut=None, buffer=None, pause=0.0,
             heads=None, **plan):
    """Sends the requests, cut into so many bytes, and reads slowly with a pause.

    `heads`: what the server takes for as many, if that is not the requests' number."""
    plan_file.write_text(json.dumps({"requests": heads or len(requests), **plan,
                                     "answer": base64.b64encode(answer).decode()}))
    sent, received = b"".join(requests), []
    with socket.socket() as client:
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(system.PATIENCE_S)
        client.connect(("127.0.0.1", server.port))
        for i in range(0, len(sent), cut or len(sent)):
            client.sendall(sent[i:i + (cut or len(sent))])
        while data := client.recv(buffer or 65536):
            received.append(data)
            time.sleep(pause)
    return b"".join(received)


def check(received, answer, fields):
    assert SCORE.sub(b"", received) == answer
    n = len(SCORE.findall(received))
    assert n == fields if isinstance(fields, int) else n in fields


@pytest.mark.parametrize("segment", [1, 2, 3, 7, 17, 1000, 1 << 20])
@pytest.mark.parametrize("cork", [False, True])
def test_segments(talk, segment, cork):
    check(talk(FRAMINGS, [REQUEST] * 4, segment=segment, cork=cork), FRAMINGS, 4)


@pytest.mark.parametrize("length", [1, 1000, 10000, 1000000])
def test_file(talk, length):
    """As servers send one: with the cork in, first the head."""
    answer = response(bytes(length))
    check(talk(answer * 3, [REQUEST] * 3, segment=len(answer) - length, cork=True), answer * 3, 3)


@pytest.mark.parametrize("plan", [
    {"cut": 1}, {"cut": 5}, {"vectors": [1]}, {"vectors": [3, 20, 5, 7, 500]},
    {"vectors": [3, 20, 5, 7, 500], "readv": True}, {"vectors": [1] * 7 + [65536]},
], ids=str)
def test_reads(talk, plan):
    answer = response(b"abc") * 3
    check(talk(answer, [REQUEST] * 3, **plan), answer, 3)


def test_reader_that_asks(talk):
    """Some kernels tell it that there is no more to read."""
    request = REQUEST.replace(b"Host: x", b"Host: x\r\nX: " + b"y" * 6000)
    answer = response(b"abc") * 2
    check(talk(answer, [request] * 2, asks=True), answer, 2)


@pytest.mark.parametrize("request_bytes, answer, fields", [
    (b"GET / HTTP/1.1\r\nX: " + b"y" * 60000 + b"\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nY: " + b"z" * 40000 + b"\r\nContent-Length: 3\r\n\r\nabc", 1),
    (REQUEST, b"HTTP/1.0 200 OK\r\n\r\n" + BODY, 1),
    (REQUEST, b"HTTP/1.1 101 Switching\r\n\r\n" + NOT_ENDED + BODY, 0),
    (REQUEST, b"hello " + BODY, 0),
    (REQUEST, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + BODY, 1),
    (b"PRI * HTTP/2.0\r\n\r\n", BODY, 0),
    (b"\x16\x03\x01\x02\x00\r\n\r\n", BODY, 0),
    (b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", response(BODY), 1),
    (b"GET / HTTP/1.1\nHost: x\r\n\r\n", response(BODY), 1),
], ids=["long heads", "until close", "upgrade", "no HTTP", "two lengths", "h2c", "TLS", "NUL",
        "line feed"])
def test_odd_ones(talk, request_bytes, answer, fields):
    check(talk(answer, [request_bytes]), answer, fields)


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"HEAD /smuggled HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("request_bytes, fields", [
    # A head that is doubtful has none, and one that was not before has one.
    (b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n\r\n", 1),
    (b"\r\nGET / HTTP/1.1\nHost: x\r\nA: b\n\r\r\n\r\n", 0),
    (b"\r\nGET / HTTP/1.1\nHost: x\r\nA: b\nC: d\r\n\r\n", 1),
    (b"GET /\x00 HTTP/1.1\r\n\r\n", 0),
    (b"GE\x00T / HTTP/1.1\r\n\r\n", 0),
    (b"GET / HTTP/1.1\r\nA\x00: \x00\r\n\r\n", 1),
    (POST + b"Content-Length: 5\x00\r\n\r\n", 0),
    # Each of these has one request, or two, or another body, as one takes it.
    (POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, 0),
    (POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
     % (len(SMUGGLED) + 5) + SMUGGLED, 0),
    (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED, 0),
    (POST + b"Transfer-Encoding: x\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 0),
    (POST + b"Content-Length : %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, 0),
    (POST + b"A: b\rContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, 0),
    (POST + b"Content-Length: 18446744073709551616\r\n\r\n" + SMUGGLED, 0),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + SMUGGLED, 1),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n2;\nab\r\n0\r\n\r\n" + SMUGGLED, 1),
], ids=["64 KiB", "CR alone", "LF alone", "NUL in target", "NUL in method", "NUL in field",
        "NUL in length", "two lengths", "length and coding", "two codings", "folded", "blank",
        "CR in field", "length", "chunk's length", "LF in chunk"])
def test_requests_meant_to_confuse(talk, request_bytes, fields):
    """What the server answers to them is a response to one who takes them otherwise."""
    answer = response(response(b"")) * 2
    for cut in (None, 1):
        if cut is None or len(request_bytes) < 1000:
            check(talk(answer, [request_bytes], cut=cut, heads=request_bytes.count(b"\r\n\r\n")),
                  answer, fields)


def test_forged_field(talk):
    answer = b"HTTP/1.1 200 OK\r\nX-Energy-Score: 1\r\nx-energy-score:2\r\n" \
             b"Content-Length: 25\r\n\r\nX-Energy-Score: 1\r\n012345"
    received = talk(answer)
    assert len(SCORE.findall(received.partition(b"\r\n\r\n")[0])) == 1
    renamed = answer.replace(b"Score: 1", b"Scor-: 1", 1).replace(b"score:2", b"scor-:2")
    assert SCORE.sub(b"", received, 1) == renamed


@pytest.mark.parametrize("blocking", [True, False])
def test_slow_readers(talk, blocking):
    slow = {"blocking": blocking, "send_buffer": 8192, "buffer": 4096, "pause": 0.0002}
    answer = chunked(*[BODY[:5000]] * 20)
    check(talk(answer, **slow), answer, 1)
    # Where the socket is full a response's head may find no room for the field.
    answer = response(BODY) * 2 + answer + response(BODY) * 3
    check(talk(answer, [REQUEST] * 6, **slow), answer, range(1, 7))
    answer = response(BODY[:700]) * 20
    check(talk(answer, [REQUEST] * 20, segment=333, **slow), answer, range(1, 21))


@pytest.mark.parametrize("blocking", [True, False])
def test_big(talk, blocking):
    answer = response(BODY * 100) * 2
    # The second head may find the socket full.
    check(talk(answer, [REQUEST] * 2, segment=10**7, blocking=blocking), answer, (1, 2))
