#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""client.py RESPONSES LARGEST [SERVER]...: talks to the servers of run.sh, prints what they sent.

Several conversations at a time, each on a connection of its own: so many responses of each server,
of up to so many bytes, in every framing that it has. What is asked, and how, is the same in each
run. Prints as JSON for each by its name

    digest      of all that came, without our fields, dates, boundaries
    error       null, or that it was reset, ended early, said too much, or nothing for STALL_S
    asked, responses, fields    how many requests, responses, fields of ours
    longest_s   wait for a byte
"""

import argparse
import hashlib
import itertools
import json
import random
import re
import socket
import sys
import time
from multiprocessing.pool import ThreadPool

PORTS = {"nginx": 8081, "apache": 8084, "node": 8085, "python": 8086, "uvicorn": 8087}
CLIENTS = 8  # at a time
# More than a busy machine needs for the next byte (seconds), less than after what nginx gives up
# on a connection (60 s, client_header_timeout and send_timeout), which would end a stall.
STALL_S = 50
SIZES = (1, 2, 100, 1000, 4095, 4096, 4097, 16384, 65535, 65536, 300_000, 1_000_000)
BIG_SIZES = (10_000_000, 100_000_000)
RANGE_MAX = 4097  # of the file of which parts are asked
POST_MAX = 65536  # what is sent back while it comes has room in the sockets
BATCH_MAX = 20  # requests of one conversation

KINDS = {
    "nginx": ("file", "file", "file", "HEAD", "304", "204", "range", "ranges", "gzip"),
    "apache": ("file", "file", "file", "HEAD", "304", "204", "range", "ranges", "gzip", "100"),
    "node": ("file", "file", "chunked", "HEAD", "204", "gzip", "POST", "100"),
    "python": ("file", "file", "HEAD", "304", "100, GET"),
    "uvicorn": ("file", "file", "chunked", "HEAD", "204", "POST", "100"),
}
BIG_KINDS = {"nginx": ("file", "gzip"), "apache": ("file", "gzip"),
             "node": ("file", "chunked", "gzip"), "python": ("file",),
             "uvicorn": ("file", "chunked")}
MANNERS = ("keep-alive", "pipelined", "keep-alive", "close", "cut", "pipelined", "HTTP/1.0",
           "slow", "long heads", "slow, pipelined")
SLOW_BUFFER = 65536  # shorter than the server's: it has to wait
SLOW_S = 0.002

FIELD = re.compile(rb"(?<=\r\n)X-Energy-Score: \d+\r\n")
DATE = re.compile(rb"(?i)(?<=\r\n)date: [^\r]*\r\n")
# Of node.js, see there; what a server says of our field must not look like ours.
FORGED = b"X-Energy-Score: forged\r\n", b"X-Energy-Scor-: forged\r\n"
BOUNDARY = re.compile(rb"(?<=boundary=)[0-9a-fA-F]+")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: chunked\r\n")


class Request:
    """One of a kind, see KINDS. may_wait: it may ask whether its body is wanted."""

    def __init__(self, kind, size, chance, may_wait=True):
        self.fields = {"Host": "localhost"}
        self.method = "GET"
        self._body_size = 0
        self.waits = may_wait and kind in ("100", "100, GET")  # for the server to want the body
        path = {"204": "empty", "gzip": f"gzip/{size}", "chunked": f"chunked/{size}",
                "range": f"{RANGE_MAX}", "ranges": f"{RANGE_MAX}"}
        self.path = path.get(kind, f"{size}")
        if kind == "HEAD":
            self.method = kind
        elif kind == "304":
            self.fields["If-Modified-Since"] = "Fri, 02 Jan 2026 00:00:00 GMT"
        elif kind == "gzip":
            self.fields["Accept-Encoding"] = "gzip"
        elif kind in ("range", "ranges"):
            begin = chance.randrange(RANGE_MAX // 2)
            self.fields["Range"] = f"bytes={begin}-{chance.randrange(begin, RANGE_MAX)}"
            if kind == "ranges":
                self.fields["Range"] += ",0-0,4000-4010"
        elif kind in ("POST", "100"):
            self.method = "POST"
            self._body_size = min(size, POST_MAX)
            self.fields["Content-Length"] = self._body_size
        if self.waits:
            self.fields["Expect"] = "100-continue"

    @property
    def body(self):
        """Made when it is asked for: there are many requests."""
        return bytes(range(256)) * (self._body_size // 256) + b"\n" * (self._body_size % 256)

    def head(self, version="1.1"):
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.fields.items())
        return f"{self.method} /{self.path} HTTP/{version}\r\n{lines}\r\n".encode()


class Conversation:
    """The requests of one connection, and how they are asked."""

    def __init__(self, server, number, manner, requests):
        self.name = f"{server} {number}: {manner}"
        self.port = PORTS[server]
        self.manner = manner
        self.requests = requests
        self.version = "1.0" if manner == "HTTP/1.0" else "1.1"
        if self.version == "1.1":
            requests[-1].fields["Connection"] = "close"
        if manner == "long heads":
            for request in requests:
                request.fields["X"] = "y" * 6000

    def hold(self):
        """Its name, and what is told of it."""
        error = None
        with Connection(self.port, "slow" in self.manner) as connection:
            try:
                connection.connect()
                self._talk(connection)
                connection.receive_end()
            except (OSError, ValueError) as caught:
                error = repr(caught)
        return self.name, {"digest": connection.digest.hexdigest(), "error": error,
                           "asked": len(self.requests), "responses": connection.responses,
                           "fields": connection.fields, "longest_s": connection.longest_s}

    def _talk(self, connection):
        if "pipelined" in self.manner:
            connection.send(b"".join(r.head() + r.body for r in self.requests))
            for request in self.requests:
                connection.receive(request)
        else:
            for request in self.requests:
                self._ask(connection, request)

    def _ask(self, connection, request):
        head = request.head(self.version)
        for i in range(0, len(head), 1 if self.manner == "cut" else len(head)):
            connection.send(head[i:i + 1] if self.manner == "cut" else head)
        if not request.waits:
            connection.send(request.body)
        connection.receive(request)


class Connection:
    """Takes the responses one by one. Use as a context, which closes it."""

    def __init__(self, port, slow):
        self.responses = self.fields = 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.longest_s = 0
        self._pause_s = SLOW_S if slow else 0
        self._room = memoryview(bytearray(SLOW_BUFFER if slow else 1 << 18))
        self._rest = self._room[:0]  # of what was received
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if slow:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
        self._socket.settimeout(STALL_S)
        self._port = port

    def connect(self):
        self._socket.connect(("127.0.0.1", self._port))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def receive(self, request):
        """The response to a request; sends the body that the server wants before."""
        head = self._receive_head()
        if request.waits and head.startswith(b"HTTP/1.1 100"):
            self._socket.sendall(request.body)
            head = self._receive_head()
        fields = len(FIELD.findall(head))
        if fields > 1:
            raise ValueError(f"{fields} fields in {head!r}")
        self.responses += 1
        self.fields += fields
        head = DATE.sub(b"", FIELD.sub(b"", head)).replace(*FORGED)
        boundary = BOUNDARY.search(head)
        length, status = LENGTH.search(head), head[9:12]
        if boundary:
            body = self._take(int(length[1]))
            self.digest.update((head + body).replace(boundary[0], b""))
            return
        self.digest.update(head)
        if request.method == "HEAD" or status in (b"204", b"304"):
            return
        if CHUNKED.search(head):
            self._pass_chunks()
        elif length:
            self._pass(int(length[1]))
        else:
            self._pass_all()

    def receive_end(self):
        """Nothing may come any more."""
        if self._rest or self._receive():
            raise ValueError(f"not asked for: {bytes(self._rest[:100])}")

    def _receive(self):
        """False at the end."""
        time.sleep(self._pause_s)
        begin = time.monotonic()
        n = self._socket.recv_into(self._room)
        self.longest_s = max(self.longest_s, time.monotonic() - begin)
        self._rest = self._room[:n]
        return n > 0

    def _need(self):
        if not self._rest and not self._receive():
            raise ValueError("ends early")

    def _until(self, mark):
        """All up to the end of a mark."""
        taken = b""
        while mark not in taken:
            self._need()
            before = len(taken)
            taken += bytes(self._rest[:8192])
            end = taken.find(mark)
            n = end + len(mark) - before if end >= 0 else len(taken) - before
            self._rest = self._rest[n:]
        return taken[:end + len(mark)]

    def _receive_head(self):
        head = self._until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1."):
            raise ValueError(f"no response: {head[:100]}")
        return head

    def _take(self, n):
        taken = b""
        while len(taken) < n:
            self._need()
            part = self._rest[:n - len(taken)]
            self._rest = self._rest[len(part):]
            taken += part
        return taken

    def _pass(self, n):
        while n > 0:
            self._need()
            part = self._rest[:n]
            self._rest = self._rest[len(part):]
            self.digest.update(part)
            n -= len(part)

    def _pass_chunks(self):
        n = 1
        while n > 0:
            line = self._until(b"\r\n")
            self.digest.update(line)
            n = int(line, 16)
            self._pass(n + len(b"\r\n"))

    def _pass_all(self):
        while self._rest or self._receive():
            self.digest.update(self._rest)
            self._rest = self._rest[:0]


def big_requests(server, largest, chance):
    """Conversations' manners and requests of the largest bodies."""
    for size, kind in itertools.product(BIG_SIZES, BIG_KINDS[server]):
        if size <= largest:
            for manner, n in (("keep-alive", 2), ("HTTP/1.0", 1), ("slow", 1)):
                yield manner, [Request(kind, size, chance) for _ in range(n)]


def small_requests(server, largest, chance):
    sizes = [size for size in SIZES + BIG_SIZES[:1] if size <= largest]
    # Two hundred times as seldom as others.
    weights = [1 if size in BIG_SIZES else 200 / len(SIZES) for size in sizes]
    kinds = itertools.cycle(KINDS[server])
    for manner in itertools.cycle(MANNERS):
        n = 1 if manner in ("close", "HTTP/1.0") else chance.randint(2, BATCH_MAX)
        may_wait = "pipelined" not in manner and manner != "HTTP/1.0"
        yield manner, [Request(next(kinds), size, chance, may_wait)
                       for size in chance.choices(sizes, weights, k=n)]


def conversations(server, responses, largest):
    chance = random.Random(server)
    n = 0
    for number, (manner, requests) in enumerate(itertools.chain(
            big_requests(server, largest, chance), small_requests(server, largest, chance))):
        if n >= responses:
            break
        n += len(requests)
        yield Conversation(server, number, manner, requests)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("responses", type=int)
    parser.add_argument("largest", type=int)
    parser.add_argument("servers", nargs="*", default=list(PORTS))
    options = parser.parse_args()
    # Of all servers in turn.
    rounds = itertools.zip_longest(*(conversations(server, options.responses, options.largest)
                                     for server in options.servers))
    plan = (conversation for one_of_each in rounds for conversation in one_of_each if conversation)
    with ThreadPool(CLIENTS) as pool:
        json.dump(dict(pool.imap_unordered(Conversation.hold, plan)), sys.stdout)


if __name__ == "__main__":
    main()
