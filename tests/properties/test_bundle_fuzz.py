"""Whatever bytes come as a bundle, a certificate or a chunk: they are refused in typed words, or they are right.

Charter: Hypothesis makes hostile input for every reader of the bundle format; and every single bit of a valid head is
flipped. Nothing but ``UpdateRefused`` may come out (``TrustStoreUnusable``, ``DescriptionWrong`` for local files), in
bounded time and memory.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.firmware.bundle.chunks import content_of
from agent.firmware.bundle.description import DescriptionWrong, load_description
from agent.firmware.bundle.head import judge_head, read_head
from agent.firmware.bundle.layout import HEADER_BYTES, MAGIC, Header, parse_header
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.bundle.signatures import encode_signatures, parse_signatures
from agent.firmware.bundle.signer import check_signing_certificate
from agent.firmware.bundle.trust import TrustStoreUnusable, load_revoked, load_roots
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Chunk, Compression, Manifest
from tests.unit.firmware.bundle.making import BytesSource, Forge, files, image, make_bundle, mcu
from tests.unit.firmware.bundle.pki import NOW, POLICY, ROOT, SIGNER

MEMORY_MAX_BYTES = 16 * 2**20


def manifest_of(data: bytes) -> Manifest | None:
    """What gate B says to these bytes: a manifest, or None for a refusal. Anything else fails the test."""
    source = BytesSource(data)
    try:
        return judge_head(source, POLICY, NOW)
    except UpdateRefused as error:
        assert str(error).isascii()
        assert str(error).isprintable()
        assert len(str(error)) < 1000
        return None
    finally:
        assert len(source.reads) <= 3


# --------------------------------------------------------------------------------------------- headers

lengths = st.integers(0, 2**32 - 1) | st.integers(0, 70_000)
sizes = st.integers(0, 2**64 - 1) | st.integers(0, 200_000)


@given(st.binary(max_size=20_000))
@example(b"")
def test_any_bytes_as_a_bundle(data: bytes) -> None:
    assert manifest_of(data) is None
    assert manifest_of(MAGIC + data) is None


@given(st.integers(0, 3), st.integers(0, 3), lengths, lengths, sizes, st.binary(max_size=20_000))
def test_any_lengths_in_the_header(version: int, flags: int, manifest: int, block: int, size: int, rest: bytes) -> None:
    data = struct.pack("<8sHHIIQ", MAGIC, version, flags, manifest, block, size).ljust(HEADER_BYTES, b"\0") + rest
    assert manifest_of(data) is None
    data = struct.pack("<8sHHIIQ", MAGIC, 1, 0, manifest, block, len(data)).ljust(HEADER_BYTES, b"\0") + rest
    tracemalloc.start()
    try:
        assert manifest_of(data) is None
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX_BYTES
    finally:
        tracemalloc.stop()
    try:
        header = parse_header(data, len(data))
    except UpdateRefused:
        return
    assert header.encode() == data[:HEADER_BYTES]
    assert HEADER_BYTES + header.manifest_length <= header.signatures_offset < header.payloads_min < len(data)


# ------------------------------------------------------------------------------------------- manifests

scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 5000)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "none", "zstd", "files", "slot-image", "mcu-firmware", "ab" * 32, "a/../b", "0644", "1.0"])
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def right_manifest() -> Any:
    """With every type of payload, made by the product."""
    data = make_bundle(image(b"x" * 5000, compression=Compression.ZSTD), files({"a/b": b"1", "c": b"2"}), mcu(b"3"))
    length = int.from_bytes(data[12:16], "little")
    return json.loads(data[HEADER_BYTES : HEADER_BYTES + length]), parse_header(data[:HEADER_BYTES], len(data))


RIGHT, HEADER = right_manifest()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield value, key
        yield from places(below)


def check_manifest(data: bytes, header: Header) -> Manifest | None:
    """A refusal names a place in the manifest; what is accepted keeps the format's promises."""
    try:
        manifest = parse_manifest(data, header)
    except UpdateRefused as error:
        assert error.refusal is Refusal.MALFORMED
        assert error.where == "manifest" or error.where.startswith("manifest: ")
        assert str(error).isascii()
        assert str(error).isprintable()
        return None
    end = header.payloads_min
    for payload in manifest.payloads:
        assert payload.offset % 4096 == 0
        assert payload.offset >= end
        assert sum(payload.chunk_length(index) for index in range(len(payload.chunks))) == payload.size
        assert all(payload.chunk_length(index) > 0 for index in range(len(payload.chunks)))
        assert sum(entry.size for entry in payload.files) in (0, payload.size)
        for entry in payload.files:
            path = (Path("/slot") / entry.path).resolve()
            assert path.is_relative_to("/slot")
            assert path != Path("/slot")
        end = payload.offset + payload.stored_size
    assert end == header.total_size
    return manifest


def test_the_right_manifest_is_right() -> None:
    assert check_manifest(json.dumps(RIGHT).encode(), HEADER) is not None


@settings(max_examples=400)
@given(st.data())
def test_right_manifest_with_anything_in_one_or_two_places(data: st.DataObject) -> None:
    changed = copy.deepcopy(RIGHT)
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(list(places(changed))))
        action = data.draw(st.sampled_from(["replace", "drop", "double", "add"]))
        if action == "replace":
            container[key] = data.draw(values)
        elif action == "drop":
            del container[key]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]) if action == "double" else data.draw(values))
        else:
            container[data.draw(st.text(max_size=10))] = data.draw(values)
        if not list(places(changed)):
            break
    check_manifest(json.dumps(changed).encode(), HEADER)


@given(values | st.dictionaries(st.sampled_from(list(RIGHT)), values), lengths, lengths, sizes)
def test_any_json_as_a_manifest(value: Any, manifest: int, block: int, size: int) -> None:
    check_manifest(json.dumps(value).encode(), Header(manifest, block, size))


@given(st.binary(max_size=300), st.integers(0, 600))
def test_any_bytes_in_a_manifest(data: bytes, at: int) -> None:
    right = json.dumps(RIGHT).encode()
    check_manifest(data, HEADER)
    check_manifest(right[:at] + data + right[at:], HEADER)
    check_manifest(right[:at] + data + right[at + len(data) :], HEADER)


# ------------------------------------------------------------------------------------ signature blocks


def check_block(block: bytes) -> None:
    try:
        entries = parse_signatures(block)
    except UpdateRefused as error:
        assert error.refusal in (Refusal.MALFORMED, Refusal.CERTIFICATE)
        assert error.where.startswith("signature block")
        assert str(error).isascii()
    else:
        assert parse_signatures(encode_signatures(entries)) == entries


BLOCK = json.loads(encode_signatures((SIGNER.entry(b"x"), ROOT.issue_ca().issue_leaf().entry(b"x"))))


@given(values | st.dictionaries(st.just("signatures"), values), st.binary(max_size=300))
def test_anything_as_a_signature_block(value: Any, data: bytes) -> None:
    check_block(json.dumps(value).encode())
    check_block(data)
    check_block(data[:150] + json.dumps(BLOCK).encode() + data[150:])


@given(st.data())
def test_right_signature_block_with_anything_in_one_place(data: st.DataObject) -> None:
    changed = copy.deepcopy(BLOCK)
    container, key = data.draw(st.sampled_from(list(places(changed))))
    old = container[key]
    new: Any = data.draw(values)
    if isinstance(old, str) and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(old)))
        new = old[:at] + data.draw(st.text(max_size=5)) + old[at + data.draw(st.integers(0, 5)) :]
    container[key] = new
    check_block(json.dumps(changed).encode())


# ------------------------------------------------------------------------------------------ every bit


class Flipped:
    """A bundle with one byte changed."""

    def __init__(self, data: bytes, at: int, value: int) -> None:
        self._data, self._at, self._value, self.size = data, at, value, len(data)

    def read(self, offset: int, length: int) -> bytes:
        piece = bytearray(self._data[offset : offset + length])
        if offset <= self._at < offset + length:
            piece[self._at - offset] = self._value
        return bytes(piece)


@pytest.mark.parametrize("part", ["header", "manifest", "signature block"])
def test_every_flipped_bit_of_a_head_is_refused(part: str) -> None:
    data = Forge.new(b"x" * 5000).build((ROOT.issue_ca().issue_leaf(),))
    header = parse_header(data[:HEADER_BYTES], len(data))
    begin, length = {
        "header": (0, HEADER_BYTES),
        "manifest": (HEADER_BYTES, header.manifest_length),
        "signature block": (header.signatures_offset, header.signatures_length),
    }[part]
    assert manifest_of(data) is not None
    accepted = []
    for at in range(begin, begin + length):
        for bit in range(8):
            flipped = Flipped(data, at, data[at] ^ 1 << bit)
            try:
                judge_head(flipped, POLICY, NOW)
            except UpdateRefused:
                continue
            if part != "signature block" or said(flipped) != said(Flipped(data, 0, data[0])):
                accepted.append((at, bit))
    assert accepted == []


def said(source: Flipped) -> list[bytes]:
    """What the certificates of a head say. Around that, X.509 has ways to write the same signature differently (how
    many bits of its last byte are unused), which change nothing: revocation goes by keys."""
    return [each.tbs_certificate_bytes for entry in read_head(source).signatures for each in entry.chain]


# ---------------------------------------------------------------------------------------- certificates

DER = SIGNER.certificate.public_bytes(Encoding.DER)


def check_certificate(text: str) -> bool:
    try:
        signer = check_signing_certificate(text, POLICY, NOW)
    except UpdateRefused as error:
        assert error.refusal is Refusal.CERTIFICATE
        assert str(error).isascii()
        return False
    assert signer.fingerprint == SIGNER.fingerprint
    return True


@settings(max_examples=300)
@given(st.integers(0, len(DER)), st.integers(0, 6), st.binary(max_size=6))
def test_certificate_with_other_bytes_in_it_is_refused(at: int, drop: int, put: bytes) -> None:
    changed = DER[:at] + put + DER[at + drop :]
    if check_certificate(changed.hex()):
        assert load_der_x509_certificate(changed).tbs_certificate_bytes == SIGNER.certificate.tbs_certificate_bytes
    else:
        assert changed != DER


@given(st.text(max_size=300), st.integers(0, 800), st.integers(0, 20))
def test_any_text_as_a_certificate(text: str, at: int, drop: int) -> None:
    pem = SIGNER.certificate_pem
    assert not check_certificate(text)
    check_certificate(pem[:at] + text + pem[at + drop :])


@given(st.text(max_size=100), st.binary(max_size=100))
def test_any_signature_of_a_file(text: str, digest: bytes) -> None:
    signer = check_signing_certificate(SIGNER.certificate_pem, POLICY, NOW)
    with pytest.raises(UpdateRefused):
        signer.verify(hashlib.sha256(digest).digest(), text)


@given(st.binary(max_size=300), st.text(max_size=100), st.integers(0, 800))
def test_any_trust_store(data: bytes, text: str, at: int) -> None:
    pem = SIGNER.certificate_pem.encode()
    for each in (data, pem[:at] + data + pem[at:]):
        with pytest.raises(TrustStoreUnusable):  # a signer is no root
            load_roots(each)
    try:
        assert all(len(found) == 64 for found in load_revoked(text))
    except TrustStoreUnusable as error:
        assert str(error).isascii()


# ----------------------------------------------------------------------------------- chunks and texts

CONTENT = b"chunk" * 1000
FRAME_AT = st.integers(0, 60)


@given(st.binary(max_size=200), FRAME_AT, st.integers(0, 20), st.integers(1, 6000))
def test_signed_nonsense_for_the_decompressor(put: bytes, at: int, drop: int, length: int) -> None:
    import zstandard

    right = zstandard.ZstdCompressor(write_content_size=True).compress(CONTENT)
    stored = right[:at] + put + right[at + drop :]
    chunk = Chunk(hashlib.sha256(CONTENT).digest(), len(stored), hashlib.sha256(stored).digest())
    tracemalloc.start()
    try:
        assert content_of(chunk, stored, length, Compression.ZSTD) == CONTENT
    except UpdateRefused as error:
        assert error.refusal is Refusal.CORRUPT
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY_MAX_BYTES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(alphabet='[]{}"=.,\n abcpayloads019', max_size=200).map(str.encode))
def test_any_description(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "release.toml"
    file.write_bytes(data)
    with pytest.raises(DescriptionWrong) as caught:
        load_description(file, 1_795_000_000_000)
    assert str(caught.value).replace("\n", "").isprintable()
