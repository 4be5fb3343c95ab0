# SPDX-License-Identifier: LGPL-2.1-or-later
"""A BMC for a virtual machine: speaks the protocol of QEMU's ipmi-bmc-extern ("VM" mode of
OpenIPMI's serial interface; hw/ipmi/ipmi_bmc_extern.c) on a Unix socket, and knows what
Linux's ipmi_si asks at its start and DCMI's Get Power Reading.

A message is: number, netfn << 2 | lun, command, data, checksum (the sum of all is 0), end.
"""

import socket
import struct
import threading
import time
from pathlib import Path

from .figure import Figure

_MESSAGE_END, _COMMAND_END, _ESCAPE = 0xA0, 0xA1, 0xAA
_APP, _GROUP, _DCMI = 0x06, 0x2C, 0xDC
OK, BUSY, INVALID_COMMAND, INVALID_DATA, UNSPECIFIED = 0x00, 0xC0, 0xC1, 0xCC, 0xFF
ACTIVE = 0x40

# IPMI v2.0, section 20.1: version 2.0, no sensors; manufacturer and product are nobody's.
_DEVICE_ID = bytes([0x20, 0x01, 0x01, 0x00, 0x02, 0x00, 0, 0, 0, 0, 0])
# DCMI v1.5, section 6.1.1, Get DCMI Capabilities Info: version 1.5, revision 2 of each parameter.
_DCMI_CONFORMANCE = bytes([0x01, 0x05, 0x02])
_DCMI_CAPABILITIES = {
    1: bytes([0, 0x01, 0x01]),     # power management, in-band channel
    2: bytes([0, 0, 0, 0, 1]),     # no event log; temperatures every second
    3: bytes([0x20, 0x00]),        # the power manager's address is the BMC's
    4: bytes([0xFF, 0xFF, 0xFF]),  # no channel that is not in-band
    5: bytes([0]),                 # no rolling averages
}


def escape(message):
    return b"".join(bytes([_ESCAPE, byte | 0x10]) if byte in (_MESSAGE_END, _COMMAND_END, _ESCAPE)
                    else bytes([byte]) for byte in message)


def frame(message):
    """A message with its checksum, as it goes over the wire."""
    return escape(message + bytes([-sum(message) & 0xFF])) + bytes([_MESSAGE_END])


class Framing:
    """Bytes from the wire into messages, their checksum taken off; what QEMU tells of itself
    (its version, what it can do) is passed over."""

    def __init__(self):
        self._bytes, self._escaped = bytearray(), False

    def take(self, data):
        for byte in data:
            if byte == _ESCAPE:
                self._escaped = True
            elif byte in (_MESSAGE_END, _COMMAND_END):
                message, self._bytes, self._escaped = bytes(self._bytes), bytearray(), False
                if byte == _MESSAGE_END and len(message) >= 4 and sum(message) & 0xFF == 0:
                    yield message[:-1]
            else:
                self._bytes.append(byte & ~0x10 if self._escaped else byte)
                self._escaped = False


class Bmc(Figure):
    """The BMC. What it does is changed while it runs, by its attributes:

    delay        how long it takes to answer, seconds
    silent       it takes questions, and answers none
    completion   the completion code of Get Power Reading
    state        bit 6: it measures
    period_ms    of its statistics
    cut          how many bytes are missing at the end of the answer
    """

    def __init__(self, path):
        self.path = str(path)
        super().__init__()
        self.delay = 0
        self.silent = False
        self.completion, self.state, self.period_ms, self.cut = OK, ACTIVE, 1000, 0
        self.readings = 0  # asked for
        self._told = []  # figures
        self._listener = None
        self._connection = None
        self.start()

    @property
    def qemu_arguments(self):
        """The device and its connection, of the machine that this is the BMC of."""
        return ["-chardev", f"socket,id=bmc,path={self.path},reconnect=1",
                "-device", "ipmi-bmc-extern,id=bmc0,chardev=bmc",
                "-device", "isa-ipmi-kcs,bmc=bmc0"]

    def start(self):
        """Comes (back): QEMU connects by itself."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        Path(self.path).chmod(0o666)  # QEMU is another user's
        self._listener.listen()
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def stop(self):
        listener, connection = self._listener, self._connection
        self._listener = self._connection = None
        for sock in (listener, connection):
            if sock:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
        Path(self.path).unlink(missing_ok=True)

    def _serve(self, listener):
        while True:
            try:
                self._connection, _ = listener.accept()
            except OSError:
                return
            self._talk(self._connection)

    def _talk(self, connection):
        framing = Framing()
        try:
            # Our version of the protocol.
            connection.sendall(escape(bytes([0xFF, 0x01])) + bytes([_COMMAND_END]))
            while data := connection.recv(4096):
                for message in framing.take(data):
                    self._answer(connection, message)
        except OSError:
            pass

    def _answer(self, connection, message):
        number, netfn, command = message[0], message[1] >> 2, message[2]
        data = self.respond(netfn, command, message[3:])
        if self.silent:
            return
        time.sleep(self.delay)
        connection.sendall(frame(bytes([number, message[1] | 0x04, command]) + data))

    def respond(self, netfn, command, data):
        """@return the data of the response, completion code first"""
        if netfn == _GROUP and data[:1] == bytes([_DCMI]):
            return self._respond_dcmi(command, data)
        if netfn == _APP and command == 0x01:  # Get Device ID
            return bytes([OK]) + _DEVICE_ID
        if netfn == _APP and command in (0x2E, 0x30):  # Set Global Enables, Clear Flags
            return bytes([OK])
        if netfn == _APP and command in (0x2F, 0x31):  # Get Global Enables, Get Flags
            return bytes([OK, 0x00])
        return bytes([INVALID_COMMAND])

    def _respond_dcmi(self, command, data):
        if command == 0x01:
            attributes = _DCMI_CAPABILITIES.get(data[1] if len(data) == 2 else None)
            return (bytes([OK, _DCMI]) + _DCMI_CONFORMANCE + attributes if attributes else
                    bytes([INVALID_DATA]))
        if command == 0x02:
            return self._respond_power(data)
        return bytes([INVALID_COMMAND])

    def _respond_power(self, data):
        """DCMI v1.5, section 6.6.1."""
        if data != bytes([_DCMI, 0x01, 0, 0]):
            return bytes([INVALID_DATA])
        self.readings += 1
        if self.completion != OK:
            return bytes([self.completion])
        watts = int(self.figure())
        self._told.append(watts)
        answer = bytes([OK, _DCMI]) + struct.pack(
            "<HHHHIIB", watts, min(self._told), max(self._told), sum(self._told) // len(self._told),
            int(time.time()) & 0xFFFFFFFF, self.period_ms, self.state)
        return answer[:len(answer) - self.cut]
