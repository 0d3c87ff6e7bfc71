"""A00, TLS-04, 16-SEC-06: whom the link trusts by key and name, and how it shows who it is (security profile 3)."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from websockets.asyncio.server import ServerConnection

from agent.ocpp.endpoint import Endpoint, TlsSettings
from agent.ocpp.link_failure import FailureKind
from tests.integration.network_rig import DAY_MS, validity
from tests.integration.ocpp_link_rig import idle, linked, server
from tests.unit.firmware.bundle.pki import Authority, Kind, make_root

pytestmark = pytest.mark.wire

NOW = validity(-DAY_MS, DAY_MS)
SERVER, CLIENT = (ExtendedKeyUsageOID.SERVER_AUTH,), (ExtendedKeyUsageOID.CLIENT_AUTH,)
LOCALHOST = ((x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),)
ELSEWHERE = ((x509.SubjectAlternativeName([x509.DNSName("elsewhere.example")]), False),)


@pytest.fixture
def root() -> Iterator[Authority]:
    yield make_root("Root of the CSMS", **NOW)


def serving(leaf: Authority, folder: Path) -> ssl.SSLContext:
    return server_context(leaf.chain_pem + leaf.key_pem, folder)


def server_context(chain_and_key: bytes, folder: Path) -> ssl.SSLContext:
    """Of a server that minds no weakness of its own."""
    file = folder / "served.pem"
    file.write_bytes(chain_and_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(file)
    return context


def trusting(root: Authority, folder: Path, certificate: Path | None = None, key: Path | None = None) -> TlsSettings:
    file = folder / "root.pem"
    file.write_text(root.certificate_pem)
    return TlsSettings(file, certificate, key)


async def met(context: ssl.SSLContext, tls: TlsSettings) -> FailureKind | None:
    """How a link to a server fares; None: it is up."""
    async with (
        server(idle, ssl=context) as url,
        linked(Endpoint(url.replace("127.0.0.1", "localhost"), "CP1", tls=tls)) as rig,
    ):
        await rig.until(lambda: bool(rig.failures) or not rig.station.sessions.empty())
        failure = rig.failures[0].failure if rig.failures else None
        return None if failure is None else failure.kind


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("rsa2048", None),
        ("p256", None),
        ("p384", None),
        ("rsa1024", FailureKind.TLS_CERTIFICATE),
    ],
)
def test_tls_04_keys_of_a_csms_that_are_too_weak_are_refused(
    tmp_path: Path, root: Authority, key: Kind, kind: FailureKind | None
) -> None:
    """As those of a root are when it is installed (tests/unit/security/test_roots.py)."""
    leaf = root.issue_leaf("localhost", kind=key, purposes=SERVER, extra=LOCALHOST, **NOW)
    assert asyncio.run(met(serving(leaf, tmp_path), trusting(root, tmp_path))) is kind


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")
@pytest.mark.parametrize(("hashed", "kind"), [("sha256", None), ("sha1", FailureKind.TLS_CERTIFICATE)])
def test_tls_04_a_certificate_of_a_csms_over_a_hash_that_can_be_forged_is_refused(
    tmp_path: Path, root: Authority, hashed: str, kind: FailureKind | None
) -> None:
    trusted, asked, signed = trusting(root, tmp_path), tmp_path / "asked.pem", tmp_path / "signed.pem"
    own, authority, names = tmp_path / "own.key", tmp_path / "root.key", tmp_path / "names"
    authority.write_bytes(root.key_pem)
    names.write_text("subjectAltName = DNS:localhost\n")

    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", own, "-out", asked)
    issuer = ("-CA", tmp_path / "root.pem", "-CAkey", authority, "-set_serial", "7", "-days", "1", "-extfile", names)
    openssl("x509", "-req", "-in", asked, *issuer, f"-{hashed}", "-out", signed)
    assert asyncio.run(met(server_context(signed.read_bytes() + own.read_bytes(), tmp_path), trusted)) is kind


@pytest.mark.parametrize(
    ("name", "extra", "kind"),
    [
        ("localhost", (), None),
        ("whatever", LOCALHOST, None),
        ("elsewhere.example", (), FailureKind.TLS_CERTIFICATE),
        ("whatever", ELSEWHERE, FailureKind.TLS_CERTIFICATE),
        ("localhost", ELSEWHERE, FailureKind.TLS_CERTIFICATE),  # RFC 6125: where there are names, they count alone
    ],
)
def test_16_sec_06_common_name_or_alternative_name_is_that_of_the_csms(
    tmp_path: Path, root: Authority, name: str, extra: tuple[Any, ...], kind: FailureKind | None
) -> None:
    leaf = root.issue_leaf(name, purposes=SERVER, extra=extra, **NOW)
    assert asyncio.run(met(serving(leaf, tmp_path), trusting(root, tmp_path))) is kind


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("whose", ["ours", "a stranger's", "none"])
def test_a00_security_profile_3_shows_the_stations_own_certificate(
    tmp_path: Path, root: Authority, whose: str, newest: ssl.TLSVersion
) -> None:
    """To a CSMS that asks for one and takes only those of its own root. One that is refused is a failure to try again
    after, and no reason to mistrust the CSMS."""
    stranger = make_root("Stranger", **NOW)
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    station = (root if whose == "ours" else stranger).issue_leaf("CP1", purposes=CLIENT, **NOW)
    certificate.write_bytes(station.chain_pem)
    key.write_bytes(station.key_pem)
    tls = trusting(root, tmp_path, *(() if whose == "none" else (certificate, key)))
    context = serving(root.issue_leaf("localhost", purposes=SERVER, extra=LOCALHOST, **NOW), tmp_path)
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=root.certificate_pem)
    seen: list[Any] = []

    async def csms(websocket: ServerConnection) -> None:
        seen.append(websocket.transport.get_extra_info("peercert")["subject"])
        await websocket.wait_closed()

    async def main() -> None:
        async with (
            server(csms, ssl=context) as url,
            linked(Endpoint(url.replace("127.0.0.1", "localhost"), "CP1", tls=tls)) as rig,
        ):
            if whose == "ours":
                await rig.session()
                await rig.until(lambda: bool(seen))
                return
            await rig.failure(2)
            kinds = {state.failure.kind for state in rig.failures if state.failure is not None}
            assert not kinds & {FailureKind.TLS_CERTIFICATE, FailureKind.TLS_FILES}, kinds

    asyncio.run(main())
    assert seen == ([((("commonName", "CP1"),),)] if whose == "ours" else [])
