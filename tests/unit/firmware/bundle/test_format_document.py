"""The format document's example and limits are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from agent.firmware.bundle import certificates, fields, layout, parse, signatures, versions
from agent.firmware.manifest import CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN
from tests.unit.firmware.bundle.making import image, make_bundle

DOCUMENT = (Path(__file__).parents[4] / "docs" / "bundle-format.md").read_text()


def dump(data: bytes, begin: int, length: int) -> str:
    """Offset, 16 bytes in hex, and what of them prints."""
    lines = []
    for at in range(begin, begin + length, 16):
        piece = data[at : min(at + 16, begin + length)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{at:08x}  {piece.hex(' '):<47}  {text}")
    return "\n".join(lines)


def example() -> list[str]:
    """The blocks of the document's example."""
    data = make_bundle(image(b"Hello, charger!\n"), signers=[])
    header = layout.parse_header(data[: layout.HEADER_BYTES], len(data))
    begin, length = layout.HEADER_BYTES, header.manifest_length
    text = data[begin : begin + length].decode()
    payload = header.total_size - 16
    block = dump(data, header.signatures_offset, header.signatures_length)
    return [
        dump(data, 0, 32),
        dump(data, begin, length),
        re.sub(r"(,)(?=\"(?:version|payloads|offset|chunks)\")", ",\n", text),
        f"{block}\n{dump(data, payload, 16)}",
    ]


def test_example_is_what_is_made_today() -> None:
    written = DOCUMENT[DOCUMENT.index("## Example") :]
    assert re.findall(r"```\n(.*?)\n```", written, re.DOTALL) == example()


def test_places_named_in_the_example_are_right() -> None:
    data = make_bundle(image(b"Hello, charger!\n"), signers=[])
    header = layout.parse_header(data[: layout.HEADER_BYTES], len(data))
    assert (header.signatures_offset, header.total_size - 16) == (8192, 73728)


def test_limits_are_those_of_the_code() -> None:
    part = DOCUMENT[DOCUMENT.index("## Limits") : DOCUMENT.index("## Making")]
    written = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", part, re.MULTILINE)[1:])
    assert written == {
        "manifest": f"{layout.MANIFEST_BYTES_MAX} bytes",
        "signature block": f"{layout.SIGNATURES_BYTES_MAX} bytes",
        "whole file": f"{layout.BUNDLE_BYTES_MAX} bytes",
        "signatures": str(signatures.SIGNATURES_MAX),
        "certificates in a chain": str(signatures.CHAIN_MAX),
        "certificate": f"{certificates.CERTIFICATE_BYTES_MAX} bytes",
        "payloads": str(fields.PAYLOADS_MAX),
        "chunks, all payloads together": str(fields.CHUNKS_MAX),
        "chunk": f"{CHUNK_BYTES_MAX} bytes (at least {CHUNK_BYTES_MIN}, usually {CHUNK_BYTES_DEFAULT})",
        "growth of a chunk by compression": f"{parse.ZSTD_GROWTH_MAX} bytes",
        "files, all payloads together": str(fields.FILES_MAX),
        "path": f"{fields.PATH_CHARS_MAX} characters, {fields.PATH_PARTS_MAX} parts",
        "name, target": "32 characters",
        "version, product name": f"{versions.VERSION_CHARS_MAX} characters",
        "products": str(fields.COMPATIBLE_MAX),
        "hardware revision": str(fields.HARDWARE_MAX),
        "security epoch": str(fields.EPOCH_MAX),
        "`built`": "years 2020 to 2100",
    }
