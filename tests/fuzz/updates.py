"""Targets of updates: bundles, trust, boot loaders' files, RAUC's words, locations and servers' answers.

Charter: every reader between a stranger's location and a boot loader's disk. Lengths and checksums in front of a part
are put right where they would keep every hostile byte from it.
"""

from __future__ import annotations

import io
import socket
import ssl
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, cast
from unittest import mock

from agent.firmware.bundle.chunks import content_of
from agent.firmware.bundle.head import judge_head
from agent.firmware.bundle.layout import HEADER_BYTES, Header, parse_header
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.bundle.signatures import encode_signatures, parse_signatures
from agent.firmware.bundle.signer import check_signing_certificate
from agent.firmware.bundle.trust import TrustStoreUnusable, load_revoked, load_roots
from agent.firmware.engines.rauc_words import failure, says_busy, says_no_primary
from agent.firmware.errors import SourceLost, UpdateRefused
from agent.firmware.manifest import Chunk, Compression, Manifest
from agent.firmware.selectors import file as file_selector
from agent.firmware.selectors import sdboot_entries, tryboot, uboot_env
from agent.security.roots import NotARoot, read_root, roots_in
from agent.transfer import over_ftp
from agent.transfer.location import DEFAULT_PORTS, Location, parse_location
from agent.transfer.over_ftp import FtpOpener
from agent.transfer.over_http import HttpOpener
from agent.transfer.remote import RemoteFile
from agent.transfer.settings import TransferLimits, TransferTls
from agent.transfer.stream import Opener
from agent.transfer.wire import Wire
from tests.fuzz.target import Target

_LIMITS: Final = TransferLimits(max_size_bytes=100_000, resumes_max=2)
_READ_MAX_BYTES: Final = 4096
_APART: Final = b"\n====\n"
"""Between what different connections bring."""


# -------------------------------------------------------------------------------------------- bundles


@cache
def _bundle() -> bytes:
    from tests.unit.firmware.bundle.making import files, image, make_bundle, mcu

    return make_bundle(image(b"x" * 5000, compression=Compression.ZSTD), files({"a/b": b"1", "c": b"2"}), mcu(b"3"))


@cache
def _header() -> Header:
    return parse_header(_bundle()[:HEADER_BYTES], len(_bundle()))


def _manifest_bytes() -> bytes:
    return _bundle()[HEADER_BYTES : HEADER_BYTES + _header().manifest_length]


def _block_bytes() -> bytes:
    header = _header()
    return _bundle()[header.signatures_offset : header.signatures_offset + header.signatures_length]


def _head(data: bytes) -> Manifest:
    """The file is as long as the right one, whatever its head says."""
    from tests.unit.firmware.bundle.making import BytesSource
    from tests.unit.firmware.bundle.pki import NOW, POLICY

    source = BytesSource(data)
    source.size = _header().total_size
    return judge_head(source, POLICY, NOW)


def _signed_manifest(data: bytes) -> Manifest:
    """Whatever the bytes are: their header is right, and a trusted signer signed them."""
    from tests.unit.firmware.bundle.pki import SIGNER

    block = encode_signatures((SIGNER.entry(data),))
    header = Header(len(data), len(block), _header().total_size)
    return _head((header.encode() + data).ljust(header.signatures_offset, b"\0") + block)


def _manifest(data: bytes) -> None:
    manifest = parse_manifest(data, _header())
    for payload in manifest.payloads:
        assert sum(payload.chunk_length(index) for index in range(len(payload.chunks))) == payload.size
        for entry in payload.files:
            assert (Path("/slot") / entry.path).resolve().is_relative_to("/slot")


def _signatures(data: bytes) -> None:
    entries = parse_signatures(data)
    assert parse_signatures(encode_signatures(entries)) == entries


def _certificate(data: bytes) -> None:
    from tests.unit.firmware.bundle.pki import NOW, POLICY

    check_signing_certificate(data.decode("utf-8", "replace"), POLICY, NOW)


def _certificates() -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding

    from tests.unit.firmware.bundle.pki import ROOT, SIGNER

    return [SIGNER.certificate_pem.encode(), SIGNER.certificate.public_bytes(Encoding.DER).hex().encode(), _pem(ROOT)]


def _csms_roots(data: bytes) -> None:
    """The DER form in hex: damage in Base64 is found by the first byte that is none."""
    try:
        pem = ssl.DER_cert_to_PEM_cert(bytes.fromhex(data.decode("ascii", "replace")))
    except ValueError:
        return
    assert {root.pem for root in roots_in(pem)} <= {read_root(pem).pem}


def _der_files() -> list[bytes]:
    from tests.unit.firmware.bundle.pki import ROOT

    return [ssl.PEM_cert_to_DER_cert(ROOT.certificate_pem).hex().encode()]


def _pem(authority: Any) -> bytes:
    text: str = authority.certificate_pem
    return text.encode()


def _roots(data: bytes) -> None:
    load_roots(data)


def _root_files() -> list[bytes]:
    from tests.unit.firmware.bundle.pki import ROOT, make_root

    return [_pem(ROOT), _pem(ROOT) + _pem(make_root("Other"))]


def _chunk(data: bytes) -> None:
    """A chunk that somebody signed, whatever is in it."""
    content_of(Chunk(bytes(32), len(data), _sha256(data)), data, 5000, Compression.ZSTD)


def _sha256(data: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(data).digest()


def _chunks() -> list[bytes]:
    import zstandard

    packed = zstandard.ZstdCompressor(write_content_size=True)
    return [packed.compress(b"chunk" * 1000), packed.compress(bytes(5000)), packed.compress(b"")]


# --------------------------------------------------------------------------------------- boot loaders


def _uboot_env(data: bytes) -> None:
    for copy in (data, zlib.crc32(data[1:]).to_bytes(4, "little") + data):
        found = uboot_env.decode(copy)
        if found is not None:
            changed = found[0].having({"evsed_slot": "b"})
            assert changed.get("evsed_slot") == "b"
            assert uboot_env.decode(uboot_env.encode(changed, found[1], len(copy) + 64)) is not None


def _sdboot_entry(data: bytes) -> None:
    found = sdboot_entries.fields(data)
    assert all(name and value for name, value in found.items())


def _tryboot(data: bytes) -> None:
    found = tryboot.decode(data)
    if found is not None:
        assert tryboot.decode(tryboot.encode(found)) == found


def _file_record(data: bytes) -> None:
    found = file_selector.decode(data, ("a", "b"))
    if found is not None:
        assert file_selector.decode(file_selector.encode(found), ("a", "b")) == found


def _rauc_words(data: bytes) -> None:
    words = data.decode("utf-8", "replace")
    assert len(str(failure(words))) < 2_000
    assert not (says_busy(words) and len(words) < 5) and isinstance(says_no_primary(words), bool)


def _entries() -> list[bytes]:
    folder = Path(__file__).parents[2] / "packaging" / "boot"
    return [file.read_bytes() for file in sorted((folder / "sdboot").glob("*.conf*"))]


# ----------------------------------------------------------------------------------- files from afar


def _location(data: bytes) -> None:
    location = parse_location(data.decode("utf-8", "surrogateescape"), DEFAULT_PORTS)
    assert str(location).isprintable() or location.scheme == "file"
    assert "\n" not in str(location)


_LOCATIONS: Final = (
    b"https://user:pa%20ss@files.example.com:8443/a/b?c=d#e",
    b"http://[2001:db8::1]/fw.evsb",
    b"ftp://files.example.com/%2Fetc/fw",
    b"file:///var/lib/fw.evsb",
    b"/var/lib/fw.evsb",
)


class _Canned:
    """A connected socket on which the given bytes come, a few at a time; what is sent to it is lost."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.family = socket.AF_INET6 if b"229 " in data else socket.AF_INET

    def recv_into(self, buffer: memoryview) -> int:
        return self._data.readinto(buffer[:1000])

    def sendall(self, data: bytes) -> None:
        pass

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", 21

    settimeout = setsockopt = sendall
    close = shutdown = lambda self: None


def _downloaded(opener: Opener, location: Location) -> None:
    """All of the file, as the gateway reads it."""
    with RemoteFile(
        opener,
        location,
        _LIMITS,
        on_pause=lambda _paused: None,
        cancelled=lambda: False,
        clock_ms=lambda: 0,
        sleep=lambda _s: None,
    ) as remote:
        size = min(remote.size, _READ_MAX_BYTES)
        assert len(remote.read(0, size)) == size
        assert len(remote.read(size // 2, 1 if size else 0)) <= 1  # a step back: asked for by a range


def _connections(data: bytes) -> Callable[..., Any]:
    """Each connection gets the next part; the last one again and again."""
    parts = data.split(_APART)
    return lambda *_, **__: _Canned(parts.pop(0) if len(parts) > 1 else parts[0])


class _CannedHttp(HttpOpener):
    def __init__(self, connect: Callable[..., Any], location: Location) -> None:
        super().__init__(location, {"http", "https"}, _LIMITS, TransferTls(), lambda: 0)
        self._canned = connect

    def _connect(self, location: Location) -> Wire:
        return Wire(cast(socket.socket, self._canned()), 60, lambda: 0)


def _http(data: bytes) -> None:
    location = parse_location("http://user:password@files.example.com/fw", {"http"})
    _downloaded(_CannedHttp(_connections(data), location), location)


def _http_answers() -> list[bytes]:
    whole = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: "a"\r\n\r\n0123456789'
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789"
    moved = b"HTTP/1.1 302 Found\r\nLocation: https://other.example.com:444/x?y\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5;x=y\r\n56789\r\n0\r\nTrailer: 1\r\n\r\n"
    unsized = b"HTTP/1.1 200 OK\r\n" + chunked
    ranged = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n" + chunked
    late = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\nRetry-After: 5\r\n\r\n"
    orders = ((whole, part), (whole[:-5], part, part), (moved, whole, part), (unsized, ranged, part), (late, whole))
    return [_APART.join(order) for order in orders]


def _ftp(data: bytes) -> None:
    location = parse_location("ftp://user:password@files.example.com/fw", {"ftp"})
    connect = _connections(data)

    def connect_data(address: tuple[str, int], *_: Any, **__: Any) -> Any:
        socket.getaddrinfo("192.0.2.1", address[1], flags=socket.AI_NUMERICHOST)  # as the real one does at first
        return connect()

    with (
        mock.patch.object(over_ftp, "connect", connect),
        mock.patch("socket.create_connection", connect_data),
    ):
        _downloaded(FtpOpener(location, _LIMITS, TransferTls(), lambda: 0), location)


def _ftp_answers() -> list[bytes]:
    login = b"220 hello\r\n331 password\r\n230-welcome\r\n230 in\r\n200 binary\r\n213 10\r\n213 20261124080000\r\n"
    passive = b"227 Entering Passive Mode (192,0,2,1,4,1)\r\n"
    whole = login + passive + b"150 here it comes\r\n"
    later = login + passive + b"350 from there\r\n150 here it comes\r\n"
    extended = login + b"229 Entering (|||1025|)\r\n150 here it comes\r\n"
    orders = ((whole, b"0123456789", later, b"56789"), (extended, b"0123456789"), (b"220 hello\r\n530 no\r\n",))
    return [_APART.join(order) for order in orders]


def targets() -> list[Target]:
    refused, lost = (UpdateRefused,), (SourceLost,)
    return [
        Target("bundle_head", _head, lambda: [_bundle()[: _header().payloads_min]], refused, 20_000),
        Target("bundle_signed", _signed_manifest, lambda: [_manifest_bytes()], refused, 8192),
        Target("bundle_manifest", _manifest, lambda: [_manifest_bytes()], refused, 8192),
        Target("bundle_signatures", _signatures, lambda: [_block_bytes()], refused, 8192),
        Target("bundle_certificate", _certificate, _certificates, refused),
        Target("csms_roots", _csms_roots, _der_files, (NotARoot,)),
        Target("bundle_chunk", _chunk, _chunks, refused),
        Target("trust_roots", _roots, _root_files, (TrustStoreUnusable,)),
        Target(
            "trust_revoked",
            lambda data: load_revoked(data.decode("utf-8", "replace")),
            lambda: [b"# revoked\n" + b"ab" * 32 + b"\n" + b":".join([b"CD"] * 32)],
            (TrustStoreUnusable,),
        ),
        Target("uboot_env", _uboot_env, lambda: [b"\x01evsed_slot=a\0evsed_left=3\0bootdelay=2\0\0\0\0"]),
        Target("sdboot_entry", _sdboot_entry, _entries),
        Target("tryboot_file", _tryboot, lambda: [tryboot.encode(tryboot.Autoboot(2, 3))], max_bytes=513),
        Target("selector_file", _file_record, lambda: [file_selector.encode(file_selector.only_good(("a", "b"), "a"))]),
        Target(
            "rauc_words",
            _rauc_words,
            lambda: [b"LastError: signature verification failed: Verify error:certificate has expired", b"rauc busy"],
        ),
        Target("location", _location, lambda: _LOCATIONS, lost, 3000),
        Target("http_answers", _http, _http_answers, lost, 8192),
        Target("ftp_answers", _ftp, _ftp_answers, lost, 8192),
    ]
