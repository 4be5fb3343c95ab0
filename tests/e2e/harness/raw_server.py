#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends prepared bytes on each connection: raw_server.py PLAN, prints its port first.

PLAN is a file of JSON, read for each connection:

    requests    heads that are read before anything is sent
    answer      the bytes, in base64
    segment     bytes handed over in one call, 2^20
    vectors     sizes of the buffers that are read into; one of 64 KiB
    readv       by readv(), not recvmsg()
    asks        as nginx reads: 1 KiB, and more if FIONREAD says that there is more
    cork        true: TCP_CORK until all is sent
    send_buffer SO_SNDBUF
    blocking    true
"""

import base64
import fcntl
import json
import os
import select
import socket
import sys
import termios
import threading
from pathlib import Path


def read(client, plan):
    buffers = [bytearray(size) for size in plan.get("vectors", [65536])]
    if plan.get("readv"):
        n = os.readv(client.fileno(), buffers)
    elif len(buffers) > 1:
        n = client.recvmsg_into(buffers)[0]
    else:
        n = client.recv_into(buffers[0])
    return b"".join(buffers)[:n]


def read_asking(client, events):
    events.poll()
    received = b""
    while True:
        received += client.recv(1024)
        if not any(fcntl.ioctl(client, termios.FIONREAD, bytes(4))):
            return received


def serve(client, plan):
    with client, select.epoll() as events:
        events.register(client, select.EPOLLIN | select.EPOLLET)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if "send_buffer" in plan:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, plan["send_buffer"])
        received = b""
        while received.count(b"\r\n\r\n") < plan["requests"]:
            data = read_asking(client, events) if plan.get("asks") else read(client, plan)
            if not data:
                return
            received += data
        client.setblocking(plan.get("blocking", True))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, plan.get("cork", False))
        answer, segment, sent = base64.b64decode(plan["answer"]), plan.get("segment", 1 << 20), 0
        while sent < len(answer):
            try:
                sent += client.send(answer[sent:sent + segment])
            except BlockingIOError:
                select.select([], [client], [])
        client.setblocking(True)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, False)


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            plan = json.loads(Path(sys.argv[1]).read_text())
            threading.Thread(target=serve, args=(client, plan), daemon=True).start()


main()
