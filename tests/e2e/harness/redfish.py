# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Redfish service that tells the power of a machine: over TLS, with a password, and with
every misbehaviour that BMCs are known for.

The resources have the form of DMTF's schemas (DSP8010: ChassisCollection, Chassis, Power,
EnvironmentMetrics) with the names and properties that three vendors' services give them.
"""

import base64
import json
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .figure import Figure

COLLECTION = "/redfish/v1/Chassis"


def chassis(name, *links):
    path = f"{COLLECTION}/{name}"
    return path, {"@odata.id": path, "Id": name, "ChassisType": "RackMount",
                  "Thermal": {"@odata.id": f"{path}/Thermal"},
                  **{link: {"@odata.id": f"{path}/{link}"} for link in links}}


def power(path, watts, **control):
    return {"@odata.id": path, "Id": "Power",
            "PowerControl": [{"MemberId": "0", **control, "PowerConsumedWatts": watts}]}


def dell(watts):
    """iDRAC 9: storage enclosures are chassis too, and have no power of their own."""
    enclosure, board = chassis("Enclosure.Internal.0-1"), \
        chassis("System.Embedded.1", "EnvironmentMetrics", "Power")
    return dict([enclosure, board]) | {
        f"{board[0]}/EnvironmentMetrics": {
            "@odata.id": f"{board[0]}/EnvironmentMetrics",
            "PowerWatts": {"DataSourceUri": f"{board[0]}/Sensors/PowerWatts", "Reading": watts}},
        f"{board[0]}/Power": power(f"{board[0]}/Power", watts, Name="System Power Control",
                                   PowerMetrics={"AverageConsumedWatts": 200,
                                                 "IntervalInMin": 1})}


def hpe(watts):
    """iLO 5: Power only."""
    path, resource = chassis("1", "Power")
    return {path: resource,
            f"{path}/Power": power(f"{path}/Power", watts, PowerCapacityWatts=1600,
                                   PowerMetrics={"AverageConsumedWatts": 139,
                                                 "IntervalInMin": 20})}


def openbmc(watts):
    """OpenBMC: figures have fractions; metrics of the chassis without a power."""
    path, resource = chassis("chassis", "EnvironmentMetrics", "Power")
    return {path: resource,
            f"{path}/EnvironmentMetrics": {"@odata.id": f"{path}/EnvironmentMetrics"},
            f"{path}/Power": power(f"{path}/Power", float(watts), Name="Chassis Power Control",
                                   PowerLimit={"LimitInWatts": None})}


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Certificates:
    """An authority of the test's own, and what it has signed."""

    def __init__(self, directory):
        self.directory = directory
        self.ca = self._self_signed("ca")

    def _self_signed(self, name):
        path = self.directory / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-days", "2", "-keyout",
                str(path.with_suffix(".key")), "-out", str(path))
        return path

    def server(self, name="localhost", days=2):
        """@return a file with the certificate for that host and its key."""
        path = self.directory / f"{name}{days}.pem"
        key, request, names = (path.with_suffix(suffix) for suffix in (".key", ".csr", ".ext"))
        names.write_text(f"subjectAltName=DNS:{name}\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey",
                str(self.ca.with_suffix(".key")), "-CAcreateserial", "-extfile", str(names),
                f"-days={days}" if days < 0 else "-days", *([] if days < 0 else [str(days)]),
                "-out", str(path))
        with path.open("a") as file:
            file.write(key.read_text())
        return path


class Redfish(Figure):
    """The service. What it does is changed while it runs, by its attributes:

    delay       how long it takes to answer, seconds
    answer      a function (handler) that answers instead
    """

    def __init__(self, certificate, vendor=dell, user="monitor", password="secret"):
        super().__init__()
        self.delay = 0
        self.answer = None
        self.vendor, self.certificate = vendor, certificate
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.requests = []
        self.port = 0
        self.server = None
        self.start()

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def resources(self):
        found = self.vendor(self.figure())
        members = [path for path in found if path.count("/") == COLLECTION.count("/") + 1]
        return found | {COLLECTION: {"@odata.id": COLLECTION, "Members": [
            {"@odata.id": path} for path in members], "Members@odata.count": len(members)}}

    def start(self):
        """Comes (back), at the same port."""
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that hangs up is its own business
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        # In the connection's own thread: a handshake that hangs holds up no other.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def _handler(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                service.requests.append(self.path)
                time.sleep(service.delay)
                if service.answer:
                    service.answer(self)
                elif self.headers["Authorization"] != service.authorization:
                    self.reply(401, b"{}")
                else:
                    resource = service.resources().get(self.path)
                    self.reply(404 if resource is None else 200,
                               json.dumps(resource or {}).encode())

            def reply(self, status, body, content_type="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        return Handler


def html(handler):
    handler.reply(200, b"<html><body>Please log in</body></html>", "text/html")


def endless(handler):
    """10 MB of valid JSON."""
    handler.reply(200, json.dumps({"PowerWatts": {"Reading": 291},
                                   "Oem": "x" * 10_000_000}).encode())


def redirect(location):
    return lambda handler: handler.reply(302, b"", Location=location)
