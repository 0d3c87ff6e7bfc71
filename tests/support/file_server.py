"""The file server of the simulation, with faults that a test switches on, and certificates for it.

``with FaultyServer({"bundle": data}) as server:`` behaves; a ``Fault`` in ``server.faults`` spoils one request each,
in turn; one in ``server.always`` spoils all others.
"""

from __future__ import annotations

import datetime
import enum
import io
import ipaddress
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.sim.file_server import Answer, FileServer, Request


class Ending(enum.Enum):
    """What happens once the allowed bytes are sent."""

    CLOSE = "close"
    RESET = "reset"  # RST instead of FIN
    STALL = "stall"  # open, and silent


@dataclass(frozen=True, slots=True)
class Fault:
    """How one answer differs. ``headers``: other values; None leaves the header out."""

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    no_range: bool = False
    chunked: bool = False  # the body in chunks, hence without length
    cut_after: int | None = None  # bytes of the body
    ending: Ending = Ending.CLOSE
    raw: bytes | None = None  # this instead of any answer
    endless: bytes = b""  # sent again and again, after ``raw`` or the head, until the client leaves
    pause_s: float = 0.0  # after each ``endless``


GOOD = Fault()


def redirect(target: str, status: int = 302) -> Fault:
    return Fault(status=status, headers={"Location": target})


class FaultyServer(FileServer):
    """See the module."""

    def __init__(self, files: Path | Mapping[str, bytes], *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(files, tls=tls)
        self.faults: deque[Fault] = deque()
        self.always = GOOD

    def serve(self, request: Request, wire: io.BufferedIOBase) -> None:
        fault = self.faults.popleft() if self.faults else self.always
        if fault.raw is not None:
            wire.write(fault.raw)
        else:
            self._spoil(fault, request, wire)
        while fault.endless and not self.stopping.wait(fault.pause_s):
            wire.write(fault.endless)
        if fault.ending is Ending.STALL:
            self.stopping.wait()
        if fault.ending is Ending.RESET:
            _reset(wire)

    def _spoil(self, fault: Fault, request: Request, wire: io.BufferedIOBase) -> None:
        if fault.no_range:
            request = replace(request, headers={k: v for k, v in request.headers.items() if k != "range"})
        answer = self.answer(request)
        changed: dict[str, str | None] = {**answer.headers, **fault.headers}
        if fault.chunked:
            changed |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        headers = {name: value for name, value in changed.items() if value is not None}
        with answer.body:
            self.send_head(fault.status or answer.status, headers, wire)
            if not fault.endless:
                self._send(fault, answer, wire)

    def _send(self, fault: Fault, answer: Answer, wire: io.BufferedIOBase) -> None:
        length = answer.length if fault.cut_after is None else min(fault.cut_after, answer.length)
        if not fault.chunked:
            self.send_body(answer.body, length, wire)
            return
        while length > 0 and (piece := answer.body.read(min(length, 1000))):
            wire.write(b"%x;note=1\r\n%s\r\n" % (len(piece), piece))
            length -= len(piece)
        if fault.cut_after is None:
            wire.write(b"0\r\n\r\n")


def _reset(wire: io.BufferedIOBase) -> None:
    """Takes the socket out of the library's hands, which would say goodbye first, and closes it by RST."""
    connection: socket.socket = wire._sock  # type: ignore[attr-defined]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


class Certificates:
    """A throw-away root in ``folder`` and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Test root {folder.name}")])
        self.ca_file = folder / "root.pem"
        root = self._builder(self._name, self._key, days=100).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def server(self, host: str = "localhost", *, first_day: int = -10, days: int = 100) -> ssl.SSLContext:
        """A server's context with a certificate for ``host``, valid from ``first_day`` to ``days`` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        leaf = self._builder(name, key, days=days, first_day=first_day).add_extension(
            x509.SubjectAlternativeName(names if host == "localhost" else names[:1]), critical=False
        )
        file = self._folder / f"{host}.pem"
        pem = serialization.Encoding.PEM
        file.write_bytes(
            leaf.sign(self._key, hashes.SHA256()).public_bytes(pem)
            + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int, first_day: int = -10
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=first_day))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
