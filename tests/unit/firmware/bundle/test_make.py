"""Making a bundle: deterministic, streamed, honest about what it was made of, and never leaving half a file."""

from __future__ import annotations

import hashlib
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from agent.firmware.bundle import layout
from agent.firmware.bundle.chunks import content_of
from agent.firmware.bundle.head import judge_head
from agent.firmware.bundle.layout import HEADER_BYTES, Header
from agent.firmware.bundle.make import Description, NotMade, PayloadPlan, create
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.bundle.sign import attach, signing_input
from agent.firmware.errors import UpdateRefused
from agent.firmware.manifest import Compression, Manifest, Payload, PayloadType, Requires
from agent.firmware.storage import FileStorage, opened
from tests.unit.firmware.bundle.making import BUILT_MS, CHUNK, BytesSource, files, image, make_bundle, mcu
from tests.unit.firmware.bundle.pki import NOW, POLICY, SIGNER


def description(*plans: PayloadPlan, **changes: Any) -> Description:
    values: dict[str, Any] = {
        "compatible": ("acme,ac22",),
        "hardware_min": 1,
        "hardware_max": 3,
        "version": "2.1.0",
        "security_epoch": 3,
        "built_ms": BUILT_MS,
        "payloads": plans,
        "requires": Requires(),
    }
    return Description(**{**values, **changes})


def plan(source: Path, kind: PayloadType = PayloadType.SLOT_IMAGE, **changes: Any) -> PayloadPlan:
    values: dict[str, Any] = {"chunk_size": CHUNK, "compression": Compression.NONE}
    return PayloadPlan("rootfs", kind, "rootfs", source, **{**values, **changes})


def contents(data: bytes, payload: Payload) -> bytes:
    """A payload, put together from its admitted chunks."""
    return b"".join(
        content_of(chunk, data[offset : offset + chunk.stored_size], payload.chunk_length(index), payload.compression)
        for index, (chunk, offset) in enumerate(zip(payload.chunks, payload.chunk_offsets(), strict=True))
    )


def judged(data: bytes) -> Manifest:
    return judge_head(BytesSource(data), POLICY, NOW)


# ------------------------------------------------------------------------------------------- contents


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
def test_what_goes_in_comes_out(compression: Compression, size: int) -> None:
    whole, firmware = os.urandom(size), b"firmware" * 99
    tree = {
        "kernel8.img": whole[:100] + b"k" * 5_000,
        "overlays/a.dtbo": b"",
        "overlays/b.dtbo": whole,
        "run.sh*": b"#!",
    }
    data = make_bundle(
        image(whole, compression=compression),
        files(tree, compression=compression),
        mcu(firmware, compression=compression),
    )
    first, second, third = judged(data).payloads
    assert contents(data, first) == whole
    assert (contents(data, third), third.version) == (firmware, "1.4.0")
    joined = contents(data, second)
    found = {each.path: joined[each.offset : each.offset + each.size] for each in second.files}
    assert found == {path.removesuffix("*"): content for path, content in tree.items()}
    assert [each.path for each in second.files] == sorted(found)
    assert [oct(each.mode) for each in second.files] == ["0o644", "0o644", "0o644", "0o755"]


def test_same_sources_make_the_same_bytes() -> None:
    parts = image(b"x" * 10_000, compression=Compression.ZSTD), files({"b": b"1", "a/c": b"2", "a.c": b"3"})
    assert make_bundle(*parts, signers=[]) == make_bundle(*parts, signers=[])


def test_modes_and_times_of_the_builders_files_do_not_matter(tmp_path: Path) -> None:
    made = []
    for mode, name in ((0o600, "one"), (0o666, "two")):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "a"
        file.write_bytes(b"x")
        file.chmod(mode)
        os.utime(file, (mode, mode))
        out = tmp_path / f"{name}.bundle"
        create(description(plan(tmp_path / name, PayloadType.FILES)), out)
        made.append(out.read_bytes())
    assert made[0] == made[1]


def test_signing_moves_nothing_and_changes_only_header_and_signature_area() -> None:
    parts = image(b"x" * 10_000), mcu(b"y" * 10)
    unsigned, signed = make_bundle(*parts, signers=[]), make_bundle(*parts)
    manifest = judged(signed)
    begin = manifest.payloads[0].offset
    assert unsigned[begin:] == signed[begin:]
    assert unsigned[12:16] == signed[12:16]
    length = int.from_bytes(signed[12:16], "little")
    assert unsigned[HEADER_BYTES : HEADER_BYTES + length] == signed[HEADER_BYTES : HEADER_BYTES + length]


def test_padding_is_zero() -> None:
    data = make_bundle(image(b"x" * 100), mcu(b"y" * 10))
    first, second = judged(data).payloads
    assert data[first.offset + 100 : second.offset] == bytes(CHUNK - 100)
    assert second.offset + 10 == len(data)


def test_large_source_is_streamed(tmp_path: Path) -> None:
    """48 MiB through 4 KiB of buffer: only the chunk table grows."""
    source, out = tmp_path / "image", tmp_path / "bundle"
    with source.open("wb") as file:
        file.truncate(48 * 2**20)
    told: list[tuple[int, int]] = []
    tracemalloc.start()
    try:
        create(description(plan(source, chunk_size=64 * 1024)), out, lambda done, total: told.append((done, total)))
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    finally:
        tracemalloc.stop()
    assert told[-1] == (48 * 2**20, 48 * 2**20)
    assert told == sorted(told)
    attach(out, SIGNER.entry(signing_input(out)))
    with opened(FileStorage().open(out)) as file:
        assert judge_head(file, POLICY, NOW).payloads[0].size == 48 * 2**20


def test_offsets_are_right_where_the_manifest_just_fills_its_blocks(tmp_path: Path) -> None:
    """The manifest's length depends on the offsets in it, and they on its length: every length around the end of a
    block of 4096 bytes is tried. What was made parses, or ``create`` fails."""

    source = tmp_path / "image"
    source.write_bytes(b"x")

    words = [f"payload-{number}" for number in range(16)]
    plans = [PayloadPlan(each, PayloadType.SLOT_IMAGE, each, source, CHUNK, Compression.NONE) for each in words]

    def offset(coarse: int, fine: int) -> int:
        products = tuple(f"{number}{'n' * coarse}" for number in range(16))
        made = create(description(*plans, version="v" * fine, compatible=products), tmp_path / "bundle")
        return made.payloads[0].offset

    coarse = next(each for each in range(0, 60, 3) if offset(each, 1) != offset(each, 64))
    assert len({offset(coarse, fine) for fine in range(1, 65)}) == 2


# --------------------------------------------------------------------------------------------- faults


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def test_links_and_special_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not for others")
    for kind in ("link", "folder link", "dangling", "pipe"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "good").write_bytes(b"x")
        bad = folder / "bad"
        if kind == "pipe":
            os.mkfifo(bad)
        else:
            bad.symlink_to(tmp_path / {"link": "secret", "folder link": "", "dangling": "nowhere"}[kind])
        with pytest.raises(NotMade, match="no regular file") as caught:
            create(description(plan(folder, PayloadType.FILES)), tmp_path / "out")
        assert caught.value.what == str(bad)
        assert "out" not in names(tmp_path)


def test_missing_and_empty_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(NotMade, match="it is empty"):
        create(description(plan(tmp_path / "empty")), tmp_path / "out")
    with pytest.raises(NotMade, match="nothing in it"):
        create(description(plan(tmp_path / "nothing", PayloadType.FILES)), tmp_path / "out")
    with pytest.raises(NotMade, match="no folder"):
        create(description(plan(tmp_path / "empty", PayloadType.FILES)), tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        create(description(plan(tmp_path / "absent")), tmp_path / "out")
    assert names(tmp_path) == {"empty", "nothing"}


def test_what_a_device_would_not_read_is_not_made(tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(b"x")
    for wrong in ({"version": "2 1"}, {"security_epoch": -1}, {"compatible": ()}, {"hardware_min": 9}):
        with pytest.raises(UpdateRefused, match="manifest"):
            create(description(plan(source), **wrong), tmp_path / "out")
    with pytest.raises(UpdateRefused, match="a second payload"):
        create(description(plan(source), plan(source)), tmp_path / "out")
    assert names(tmp_path) == {"image"}


def test_manifest_beyond_its_limit_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "image"
    source.write_bytes(b"x")
    monkeypatch.setattr(layout, "MANIFEST_BYTES_MAX", 300)
    with pytest.raises(UpdateRefused, match="manifest length"):
        create(description(plan(source)), tmp_path / "out")
    assert names(tmp_path) == {"image"}


def test_failure_while_writing_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "image", tmp_path / "out"
    source.write_bytes(b"x")
    out.write_bytes(b"the old one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        create(description(plan(source)), out)
    assert names(tmp_path) == {"image", "out"}
    assert out.read_bytes() == b"the old one"


def test_manifest_of_a_made_bundle_is_its_own_digest(tmp_path: Path) -> None:
    data = make_bundle(signers=[])
    length = int.from_bytes(data[12:16], "little")
    block = int.from_bytes(data[16:20], "little")
    manifest = data[HEADER_BYTES : HEADER_BYTES + length]
    assert parse_manifest(manifest, Header(length, block, len(data))).digest == hashlib.sha256(manifest).digest()
