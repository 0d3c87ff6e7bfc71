"""TLS of the link against real servers with throw-away certificates."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from agent.ocpp.endpoint import Endpoint, TlsSettings
from agent.ocpp.link_failure import FailureKind
from agent.security import peer_dates
from tests.integration.ocpp_link_rig import idle, linked, server

pytestmark = pytest.mark.wire


@dataclass
class Authority:
    """A throw-away root and a server certificate for ``host``."""

    folder: Path

    def make(self, host: str, *, first_day: int = -10, last_day: int = 100) -> tuple[Path, Path, Path]:
        """Files of the root, the certificate and its key. Days from now; the root is valid from the same day on."""
        key, root_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test root")])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        root = self._builder(root_name, root_name, root_key, first_day, 100).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        leaf = self._builder(name, root_name, key, first_day, last_day).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        )
        paths = self.folder / "root.pem", self.folder / "leaf.pem", self.folder / "key.pem"
        pem = serialization.Encoding.PEM
        paths[0].write_bytes(root.sign(root_key, hashes.SHA256()).public_bytes(pem))
        paths[1].write_bytes(leaf.sign(root_key, hashes.SHA256()).public_bytes(pem))
        paths[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return paths

    @staticmethod
    def _builder(
        name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, first_day: int, last_day: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=first_day))
            .not_valid_after(now + datetime.timedelta(days=last_day))
        )


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize(
    ("host", "days", "wrong_root", "kind"),
    [
        ("localhost", (-10, 100), False, None),
        ("localhost", (-10, -1), False, FailureKind.TLS_CERTIFICATE),
        ("elsewhere.example", (-10, 100), False, FailureKind.TLS_CERTIFICATE),
        ("localhost", (-10, 100), True, FailureKind.TLS_CERTIFICATE),
        ("elsewhere.example", (10, 100), False, FailureKind.TLS_CERTIFICATE),
        ("localhost", (10, 100), True, FailureKind.TLS_CERTIFICATE),
    ],
)
def test_tls_03_chain_validity_and_name_are_verified(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    days: tuple[int, int],
    wrong_root: bool,
    kind: FailureKind | None,
    proven: bool,
) -> None:
    """Whether or not something vouches for the machine's clock."""
    monkeypatch.setattr(peer_dates, "clock_is_proven", lambda _: proven)
    root, leaf, key = Authority(tmp_path).make(host, first_day=days[0], last_day=days[1])
    if wrong_root:
        (tmp_path / "other").mkdir()
        root = Authority(tmp_path / "other").make(host)[0]

    async def main() -> None:
        async with server(idle, ssl=server_context(leaf, key)) as url:
            url = url.replace("127.0.0.1", "localhost")
            async with linked(Endpoint(url, "CP1", tls=TlsSettings(root))) as rig:
                if kind is None:
                    await rig.session()
                    return
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is kind

    asyncio.run(main())


@pytest.mark.parametrize(
    ("proven", "machine_s", "days", "refused"),
    [
        (True, None, (10, 100), "not yet valid"),
        (False, None, (10, 100), ""),  # the clock stood still while this certificate was made
        (True, 946_684_800, (-10, 100), ""),  # both clocks began in 2000: they agree, and prove nothing
        (False, 946_684_800, (-3_000, -1_000), "expired"),  # before this software was made
        (False, 4_102_444_800, (-10, 100), "expired"),  # a clock that is ahead is believed
    ],
)
def test_tls_03_the_first_day_is_asked_only_where_the_clock_is_proven(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proven: bool,
    machine_s: int | None,
    days: tuple[int, int],
    refused: str,
) -> None:
    """And a server that is refused has not heard our password. ``machine_s``: what the clock shows; None: the time."""
    monkeypatch.setattr(peer_dates, "clock_is_proven", lambda _: proven)
    if machine_s is not None:
        clock = SimpleNamespace(time_ns=lambda: machine_s * 1_000_000_000)
        monkeypatch.setattr(peer_dates, "time", clock)
    root, leaf, key = Authority(tmp_path).make("localhost", first_day=days[0], last_day=days[1])
    heard: list[str] = []

    def hear(_connection: ServerConnection, request: Request) -> None:
        heard.append(request.headers["Authorization"])

    async def main() -> None:
        async with server(idle, ssl=server_context(leaf, key), process_request=hear) as url:
            endpoint = Endpoint(url.replace("127.0.0.1", "localhost"), "CP1", tls=TlsSettings(root), password=b"secret")
            async with linked(endpoint) as rig:
                if not refused:
                    await rig.session()
                    return
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is FailureKind.TLS_CERTIFICATE
                assert refused in state.failure.detail

    asyncio.run(main())
    assert bool(heard) is not bool(refused)


@asynccontextmanager
async def handshaking(context: ssl.SSLContext) -> AsyncIterator[str]:
    """A blocking TLS server: asyncio's drops the connection before its alert has left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def handshakes() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass

        thread = threading.Thread(target=handshakes)
        thread.start()
        try:
            yield f"wss://localhost:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("newest", "suites", "kind"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", FailureKind.TLS_CIPHER),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", FailureKind.TLS_VERSION),
    ],
)
def test_tls_01_tls_02_old_versions_and_other_suites_are_refused(
    tmp_path: Path, newest: ssl.TLSVersion, suites: str, kind: FailureKind
) -> None:
    root, leaf, key = Authority(tmp_path).make("localhost")
    context = server_context(leaf, key)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = newest
    context.set_ciphers(suites)

    async def main() -> None:
        async with handshaking(context) as url, linked(Endpoint(url, "CP1", tls=TlsSettings(root))) as rig:
            state = await rig.failure()
            assert state.failure is not None and state.failure.kind is kind

    asyncio.run(main())


@pytest.mark.parametrize("server_is", ["old", "new"])
@pytest.mark.parametrize("old_is", ["delivered", "installed"])
def test_tls_03_roots_that_share_a_name_take_turns(tmp_path: Path, server_is: str, old_is: str) -> None:
    """After a change of the authority's key, without key ids in certificates: old and new server can be reached, and
    nobody else."""
    for each in ("old", "new", "strange"):
        (tmp_path / each).mkdir()
    made = {each: Authority(tmp_path / each).make("localhost") for each in ("old", "new", "strange")}
    (old, *_), (new, *_) = made["old"], made["new"]
    file, roots = (old, (new,)) if old_is == "delivered" else (None, (old, new))
    roots_pem = tuple(each.read_text() for each in roots)

    async def attempts_at(name: str, most: int) -> int:
        """How many it took; ``most``: it is not let in."""
        _, leaf, key = made[name]
        async with server(idle, ssl=server_context(leaf, key)) as url:

            def endpoint() -> Endpoint:
                tls = TlsSettings(file, roots=roots_pem, system_store=False, turn=len(rig.failures))
                return Endpoint(url.replace("127.0.0.1", "localhost"), "CP1", tls=tls)

            async with linked(endpoint) as rig:
                await rig.until(lambda: len(rig.failures) == most or not rig.station.sessions.empty())
                kinds = {state.failure.kind for state in rig.failures if state.failure is not None}
                assert kinds <= {FailureKind.TLS_CERTIFICATE}
                return len(rig.failures) if rig.station.sessions.empty() else len(rig.failures) + 1

    async def main() -> None:
        assert await attempts_at(server_is, 6) <= 3
        assert await attempts_at("strange", 6) == 6

    asyncio.run(main())


def test_tls_05_missing_certificate_files_are_a_failure_that_can_heal(tmp_path: Path) -> None:
    root, leaf, key = Authority(tmp_path).make("localhost")
    moved = root.rename(tmp_path / "moved.pem")

    async def main() -> None:
        async with server(idle, ssl=server_context(leaf, key)) as url:
            url = url.replace("127.0.0.1", "localhost")
            async with linked(Endpoint(url, "CP1", tls=TlsSettings(root))) as rig:
                state = await rig.failure()
                assert state.failure is not None and state.failure.kind is FailureKind.TLS_FILES
                moved.rename(root)
                await rig.session()

    asyncio.run(main())
