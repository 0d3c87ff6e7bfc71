"""The archive: bounded, and honest about what is in it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from typing import Any

import pytest

from agent.telemetry.archive import ArchiveWriter, Manifest, Missing, Part
from agent.telemetry.names import archive_name

T0_MS = 1_795_507_200_000


def written(*parts: Part | Missing, limit_bytes: int = 1_000_000) -> tuple[bytes, Manifest]:
    file = io.BytesIO()
    writer = ArchiveWriter(file, {"station": "CP-1"}, T0_MS, limit_bytes)
    for part in parts:
        writer.add(part)
    manifest = writer.close()
    return file.getvalue(), manifest


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {each.name: opened.read() for each in tar if (opened := tar.extractfile(each)) is not None}


def noise(lines: int) -> bytes:
    chance = random.Random(1)
    return b"".join(chance.randbytes(50).hex().encode() + b"\n" for _ in range(lines))


def test_what_goes_in_comes_out_and_the_manifest_says_so() -> None:
    data, manifest = written(Part("a/b.json", b"{}\n"), Missing("c", "no such thing"), Part("d.txt", b""))
    found = contents(data)
    assert found.keys() == {"a/b.json", "d.txt", "manifest.json"} and found["a/b.json"] == b"{}\n"
    told: dict[str, Any] = json.loads(found["manifest.json"])
    assert found["manifest.json"] == manifest.to_json()
    assert told["about"] == {"station": "CP-1"}
    assert told["missing"] == [{"name": "c", "why": "no such thing"}]
    assert told["members"][0] == {
        "name": "a/b.json",
        "bytes": 3,
        "sha256": hashlib.sha256(b"{}\n").hexdigest(),
        "cut_bytes": 0,
    }


def test_the_same_parts_make_the_same_bytes() -> None:
    assert written(Part("a", b"x"))[0] == written(Part("a", b"x"))[0]


def test_it_stays_below_its_limit_and_cuts_the_oldest_lines() -> None:
    whole = noise(5_000)
    data, manifest = written(Part("log", whole, lines=True), Part("next", noise(5), lines=True), limit_bytes=150_000)
    assert len(data) <= 150_000
    kept = contents(data)["log"]
    assert whole.endswith(b"\n" + kept) and 10_000 < len(kept) < len(whole)
    assert manifest.members[0].cut_bytes == len(whole) - len(kept)


def test_what_has_no_lines_is_there_whole_or_not_at_all() -> None:
    _, manifest = written(Part("big", noise(5_000)), Part("small", b"x"), limit_bytes=150_000)
    assert [each.name for each in manifest.members] == ["small"]
    assert manifest.missing == (Missing("big", "no room for it (505000 bytes)"),)


def test_many_small_parts_count_with_their_heads() -> None:
    data, manifest = written(*(Part(f"{number}", b"x") for number in range(500)), limit_bytes=150_000)
    assert len(data) <= 150_000 and manifest.missing


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("CP-1", "evsed-CP-1-diagnostics-20261124T080000Z.tar.gz"),
        ("../ä/é 1", "evsed-.._____1-diagnostics-20261124T080000Z.tar.gz"),
    ],
)
def test_names_are_safe_everywhere(identity: str, name: str) -> None:
    assert archive_name(identity, T0_MS) == name
