"""The manifest's parser: what is right is read as it stands, what is wrong is refused at its exact place."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from agent.firmware.bundle.layout import MANIFEST_BYTES_MAX, Header
from agent.firmware.bundle.parse import ZSTD_GROWTH_MAX, parse_manifest
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Manifest, PayloadType, Requires
from tests.unit.firmware.bundle.making import BUILT_MS, CHUNK, Forge

Edit = Callable[[dict[str, Any]], object]
HEX = "ab" * 32


def header_of(forge: Forge) -> Header:
    return Header(1000, 100, forge.payloads_offset + len(forge.content))


def parsed(edit: Edit, content: bytes = bytes(10_000)) -> Manifest:
    """What the parser makes of a right manifest after ``edit``."""
    forge = Forge.new(content)
    edit(forge.manifest)
    return parse_manifest(json.dumps(forge.manifest).encode(), header_of(forge))


def refusal(edit: Edit, content: bytes = bytes(10_000)) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        parsed(edit, content)
    assert caught.value.refusal is Refusal.MALFORMED
    return caught.value


def put(path: str, value: object) -> Edit:
    """``payloads.0.size`` and the like."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]

    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for part in parents:
            place = place[part]
        place[last] = value

    return edit


def drop(path: str) -> Edit:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]

    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for part in parents:
            place = place[part]
        del place[last]

    return edit


def both(first: Edit, then: Edit) -> Edit:
    def edit(manifest: dict[str, Any]) -> None:
        first(manifest)
        then(manifest)

    return edit


# --------------------------------------------------------------------------------------- right ones


def test_manifest_is_read_as_it_stands() -> None:
    manifest = parsed(put("requires", {"agent": "2.0", "mcu": ""}))
    assert manifest.compatible == ("acme,ac22",)
    assert (manifest.hardware_min, manifest.hardware_max) == (1, 3)
    assert (manifest.version, manifest.security_epoch, manifest.built_ms) == ("2.1.0", 3, BUILT_MS)
    assert manifest.requires == Requires(agent="2.0")
    (payload,) = manifest.payloads
    assert (payload.type, payload.target, payload.size) == (PayloadType.SLOT_IMAGE, "rootfs", 10_000)
    assert [payload.chunk_length(index) for index in range(3)] == [CHUNK, CHUNK, 10_000 - 2 * CHUNK]
    assert payload.chunk_offsets() == [payload.offset + index * CHUNK for index in range(3)]


def files_payload(*files: tuple[str, int]) -> Edit:
    """The payload becomes one of files of these paths and sizes, one after the other."""

    def edit(manifest: dict[str, Any]) -> None:
        at, entries = 0, []
        for path, size in files:
            entries.append({"path": path, "offset": at, "size": size, "mode": "0644"})
            at += size
        manifest["payloads"][0] |= {"type": "files", "files": entries}

    return edit


def test_files_are_read() -> None:
    manifest = parsed(files_payload(("overlays/a b.dtbo", 9_000), ("empty", 0), ("Last", 1_000)))
    assert [(each.path, each.offset, each.size, each.mode) for each in manifest.payloads[0].files] == [
        ("overlays/a b.dtbo", 0, 9_000, 0o644),
        ("empty", 9_000, 0, 0o644),
        ("Last", 9_000, 1_000, 0o644),
    ]


def zstd_payload(*sizes: int) -> Edit:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["payloads"][0] |= {"compression": "zstd", "chunks": [[HEX, size, HEX] for size in sizes]}

    return edit


def test_stored_sizes_of_compressed_chunks_make_the_layout() -> None:
    manifest = parsed(zstd_payload(4_000, 4_000, 2_000))
    assert manifest.payloads[0].stored_size == 10_000
    assert manifest.payloads[0].chunk_offsets()[2] == manifest.payloads[0].offset + 8_000


def second(**changes: Any) -> Edit:
    """A second payload of 100 bytes behind the first one."""

    def edit(manifest: dict[str, Any]) -> None:
        first = manifest["payloads"][0]
        first |= {"size": 1_000, "chunks": [HEX]}
        begin = first["offset"] + 4_096
        size = 10_000 - 4_096
        manifest["payloads"].append(
            {
                **first,
                "name": "boot",
                "target": "boot",
                "offset": begin,
                "size": size,
                "chunks": [HEX] * 2,
                **changes,
            }
        )

    return edit


def test_payloads_follow_each_other() -> None:
    assert [each.name for each in parsed(second()).payloads] == ["rootfs", "boot"]


# --------------------------------------------------------------------------------------- wrong ones

P = "manifest: payloads[0]"
FAULTS: list[tuple[Edit, str, str]] = [
    # shape
    (put("extra", 1), "manifest", "unknown key 'extra'"),
    (put("x\x1b[31m\u202e", 1), "manifest", r"unknown key 'x\\x1b\[31m\\u202e'"),
    (drop("version"), "manifest", "version is missing"),
    (put("product", []), "manifest: product", "an array where an object"),
    (put("payloads", {}), "manifest: payloads", "an object where an array"),
    (put("payloads", []), "manifest: payloads", "0 entries, 1 to 16"),
    (put("payloads.0", None), P, "None where an object"),
    (put("format", 2), "manifest: format", "1 to 1"),
    (put("format", True), "manifest: format", "True where a whole number"),
    (put("format", 1.0), "manifest: format", "1.0 where a whole number"),
    (put("security_epoch", float("nan")), "manifest: security_epoch", "NaN where a whole number"),
    (put("security_epoch", float("inf")), "manifest: security_epoch", "Infinity where"),
    (put("security_epoch", "3"), "manifest: security_epoch", "'3' where a whole number"),
    # values
    (put("security_epoch", -1), "manifest: security_epoch", "0 to 2147483647"),
    (put("security_epoch", 2**31), "manifest: security_epoch", "0 to 2147483647"),
    (put("security_epoch", 10**40), "manifest: security_epoch", "where a whole number"),
    (put("version", ""), "manifest: version", "a version"),
    (put("version", "1.0\n"), "manifest: version", "a version"),
    (put("version", "x" * 65), "manifest: version", "a version"),
    (put("version", "٣"), "manifest: version", "a version"),
    (put("built", "2026-11-20 12:00:00Z"), "manifest: built", "a UTC time"),
    (put("built", "2026-02-30T12:00:00Z"), "manifest: built", "a time that exists"),
    (put("built", "2019-12-31T23:59:59Z"), "manifest: built", "2020 to 2100"),
    (put("built", "2101-01-01T00:00:00Z"), "manifest: built", "2020 to 2100"),
    (put("built", "2026-11-20T12:00:60Z"), "manifest: built", "a time that exists"),
    (put("built", 1_795_000_000), "manifest: built", "a UTC time"),
    (put("product.compatible", []), "manifest: product.compatible", "1 to 16"),
    (put("product.compatible", ["a"] * 2), "manifest: product.compatible", "twice"),
    (put("product.compatible.0", "a b"), "manifest: product.compatible[0]", "a product name"),
    (put("product.hardware.max", 0), "manifest: product.hardware", "min 1 is above max 0"),
    (put("product.hardware.min", -1), "manifest: product.hardware.min", "0 to 65535"),
    (put("product.hardware.step", 1), "manifest: product.hardware", "unknown key"),
    (put("requires", None), "manifest: requires", "None where an object"),
    (put("requires", {"kernel": "1"}), "manifest: requires", "unknown key"),
    (put("requires", {"agent": "newest"}), "manifest: requires.agent", "dotted numbers"),
    (put("requires", {"agent": None}), "manifest: requires.agent", "a version"),
    # payloads
    (put("payloads.0.name", "Root FS"), f"{P}.name", "a word"),
    (put("payloads.0.name", "x" * 33), f"{P}.name", "a word"),
    (put("payloads.0.target", "../x"), f"{P}.target", "a word"),
    (put("payloads.0.type", "script"), f"{P}.type", "one of slot-image"),
    (put("payloads.0.compression", "xz"), f"{P}.compression", "one of none, zstd"),
    (put("payloads.0.chunk_size", 4_095), f"{P}.chunk_size", "4096 to 4194304"),
    (put("payloads.0.chunk_size", 4_097), f"{P}.chunk_size", "no multiple"),
    (put("payloads.0.chunk_size", 8 << 20), f"{P}.chunk_size", "4096 to 4194304"),
    (put("payloads.0.size", 0), f"{P}.size", "1 to"),
    (put("payloads.0.size", 2**53), f"{P}.size", "1 to"),
    (put("payloads.0.size", 9_999), "manifest: payloads", "they end at 22287, the file at 22288"),
    (put("payloads.0.size", 10_001), P, "after the file's end"),
    (put("payloads.0.size", 3 * CHUNK + 1), f"{P}.chunks", "3 entries, 12289 bytes make 4"),
    (put("payloads.0.size", 2 * CHUNK), f"{P}.chunks", "3 entries, 8192 bytes make 2"),
    (put("payloads.0.offset", 12_289), f"{P}.offset", "no multiple of 4096"),
    (put("payloads.0.offset", 8_192), f"{P}.offset", "12288 to"),
    (put("payloads.0.offset", 4096 * 100), f"{P}.offset", "12288 to"),
    (put("payloads.0.offset", -4096), f"{P}.offset", "12288 to"),
    (put("payloads.0.version", "1"), P, "version does not belong"),
    (put("payloads.0.files", []), P, "files does not belong"),
    (put("payloads.0.type", "files"), P, "files is missing"),
    (put("payloads.0.type", "mcu-firmware"), P, "version is missing"),
    (put("payloads.0.chunks.2", "ab"), f"{P}.chunks[2]", "64 lower-case hex"),
    (put("payloads.0.chunks.2", HEX.upper()), f"{P}.chunks[2]", "64 lower-case hex"),
    (put("payloads.0.chunks.1", [HEX, 4096, HEX]), f"{P}.chunks[1]", "an array where 64"),
    (put("payloads.0.chunks", "x"), f"{P}.chunks", "where an array"),
    # compressed
    (put("payloads.0.compression", "zstd"), f"{P}.chunks[0]", "where an array"),
    (zstd_payload(0, 1, 1), f"{P}.chunks[0][1]", "1 to"),
    (zstd_payload(1, CHUNK + ZSTD_GROWTH_MAX + 1, 1), f"{P}.chunks[1][1]", "1 to 69632"),
    (zstd_payload(1, 1, 10_000 - 2 * CHUNK + ZSTD_GROWTH_MAX + 1), f"{P}.chunks[2][1]", "1 to 67344"),
    (zstd_payload(4_000, 4_000, 2_001), P, "after the file's end"),
    # several
    (second(name="rootfs"), "manifest: payloads[1]", "a second payload is named rootfs"),
    (second(target="rootfs"), "manifest: payloads[1]", "a second slot-image for rootfs"),
    (second(offset=12_288), "manifest: payloads[1].offset", "16384 to 16384"),
    (second(offset=20_480), "manifest: payloads[1].offset", "16384 to 16384"),
    (
        both(second(), lambda manifest: manifest["payloads"].reverse()),
        "manifest: payloads[1].offset",
        "12288, 24576 to 24576",
    ),
    (lambda manifest: manifest["payloads"].extend(manifest["payloads"] * 16), "manifest: payloads", "17 entries"),
    # files
    (files_payload(("a", 9_999)), f"{P}.files", "they end at 9999, the content at 10000"),
    (files_payload(("a", 10_001)), f"{P}.files[0].size", "0 to 10000"),
    (files_payload(("a", 2**63)), f"{P}.files[0].size", "0 to 10000"),
    (files_payload(("a", 1), ("a", 9_999)), f"{P}.files[1].path", "there already"),
    (files_payload(("a", 1), ("A", 9_999)), f"{P}.files[1].path", "there already"),
    (files_payload(("a", 1), ("a/b", 9_999)), f"{P}.files[1].path", "there already"),
    (files_payload(("a/b/c", 1), ("A/B", 9_999)), f"{P}.files[1].path", "there already"),
    (both(files_payload(("a", 10_000)), put("payloads.0.files.0.mode", "4755")), f"{P}.files[0].mode", "one of 0444"),
    (both(files_payload(("a", 10_000)), put("payloads.0.files.0.mode", 0o644)), f"{P}.files[0].mode", "one of 0444"),
    (both(files_payload(("a", 10_000)), put("payloads.0.files.0.offset", 1)), f"{P}.files[0].offset", "0 to 0"),
]


@pytest.mark.parametrize(("edit", "where", "why"), FAULTS, ids=[f"{row[1]}: {row[2]}" for row in FAULTS])
def test_fault_is_named_at_its_place(edit: Edit, where: str, why: str) -> None:
    error = refusal(edit)
    assert error.where == where
    assert re.search(why, error.why), error.why


PATHS = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "a/../b",
    "../a",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\\b",
    "..\\a",
    "C:x",
    "a\0b",
    "a\nb",
    "a\x7f",
    "a\u202eb",
    "é",
    "\ud800",
    " a",
    "a /b",
    "a.",
    "a./b",
    "a*",
    'a"b',
    "a|b",
    "x" * 256,
    "/".join("a" * 17),
]


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_path_that_could_lead_astray_is_refused(path: str) -> None:
    error = refusal(files_payload((path, 10_000)))
    assert error.where == f"{P}.files[0].path"
    assert str(error).isprintable()
    assert str(error).isascii()


@pytest.mark.parametrize("path", ["a", "...a", ".hidden", "a-b_c+d~1.x", "a/b/c", "x" * 255, "/".join("a" * 16)])
def test_ordinary_paths_are_taken(path: str) -> None:
    assert parsed(files_payload((path, 10_000))).payloads[0].files[0].path == path


# --------------------------------------------------------------------------------------- hostile text


def refused_text(data: bytes) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        parse_manifest(data, Header(len(data), 100, 10**6))
    assert caught.value.refusal is Refusal.MALFORMED
    return caught.value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "an array where an object"),
        (b"null", "where an object"),
        (b'{"format":1}{', "not JSON"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"format":1,"format":1}', "twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 2_000_000, "more than"),
        (b"[" + b"0," * 2_000_000 + b"0]", "more than"),
        (b'{"format":' + b"9" * 1_000_000 + b"}", "is missing"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else value,
)
def test_text_that_is_no_manifest(data: bytes, why: str) -> None:
    assert why in refused_text(data).why


def test_repeated_key_is_refused_at_its_place() -> None:
    data = json.dumps(Forge.new().manifest).replace('"min": 1', '"min": 1, "max": 3').encode()
    error = refused_text(data)
    assert (error.where, error.why) == ("manifest: product.hardware", "a key is named twice")


def test_largest_hostile_text_stays_within_memory() -> None:
    worst = [
        b'{"payloads":[' + b"[]," * ((MANIFEST_BYTES_MAX - 20) // 3) + b"[]]}",
        b"[" + b'"ab",' * ((MANIFEST_BYTES_MAX - 20) // 5) + b'"ab"]',
        b'"' + b"x" * (MANIFEST_BYTES_MAX - 2) + b'"',
        b"[" * MANIFEST_BYTES_MAX,
    ]
    for data in worst:
        tracemalloc.start()
        try:
            assert len(str(refused_text(data))) < 300
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()


def test_largest_right_manifest_is_read() -> None:
    """65,536 chunks, which is all there may be; one more is refused."""
    offset = Forge.new().payloads_offset

    def parsed_with(count: int) -> Manifest:
        manifest = Forge.new().manifest
        manifest["payloads"][0] |= {"size": count * CHUNK, "chunks": [HEX] * count}
        return parse_manifest(json.dumps(manifest).encode(), Header(1000, 100, offset + count * CHUNK))

    assert len(parsed_with(65_536).payloads[0].chunks) == 65_536
    with pytest.raises(UpdateRefused, match="1 to 268435456 are allowed"):
        parsed_with(65_537)


def test_limits_hold_for_all_payloads_together() -> None:
    offset = Forge.new().payloads_offset

    def parsed_with(first: dict[str, Any], second: dict[str, Any]) -> Manifest:
        manifest = Forge.new().manifest
        base, at = manifest["payloads"][0], offset
        manifest["payloads"] = []
        for name, changes in (("a", first), ("b", second)):
            manifest["payloads"].append({**base, "name": name, "target": name, "offset": at, **changes})
            at += changes["size"]
        return parse_manifest(json.dumps(manifest).encode(), Header(1000, 100, at))

    def chunks(count: int) -> dict[str, Any]:
        return {"size": count * CHUNK, "chunks": [HEX] * count}

    def files(count: int) -> dict[str, Any]:
        entries = [{"path": f"{at}", "offset": at * CHUNK, "size": CHUNK, "mode": "0644"} for at in range(count)]
        return {"type": "files", "files": entries, **chunks(count)}

    assert len(parsed_with(chunks(65_000), chunks(536)).payloads) == 2
    with pytest.raises(UpdateRefused, match=r"payloads\[1\].size"):
        parsed_with(chunks(65_000), chunks(537))
    assert len(parsed_with(files(4_000), files(96)).payloads) == 2
    with pytest.raises(UpdateRefused, match=r"payloads\[1\].files: 97 entries"):
        parsed_with(files(4_000), files(97))
