"""The maker's description: defaults, and every mistake named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.firmware.bundle.description import BYTES_MAX, DescriptionWrong, load_description
from agent.firmware.bundle.make import PayloadPlan
from agent.firmware.manifest import CHUNK_BYTES_DEFAULT, Compression, PayloadType, Requires
from tests.unit.firmware.bundle.making import BUILT_MS

NOW_MS = BUILT_MS + 5_000

GOOD = """
version = "2.1.0"
security_epoch = 3
built = 2026-11-20T12:00:00Z

[product]
compatible = ["acme,ac22", "acme,ac22-eu"]
hardware = { min = 1, max = 3 }

[requires]
bootloader = "2023.01"

[[payloads]]
name = "rootfs"
type = "slot-image"
target = "rootfs"
source = "rootfs.ext4"

[[payloads]]
name = "boot"
type = "files"
target = "boot"
source = "boot"
compression = "none"
chunk_size = 65536

[[payloads]]
name = "pilot"
type = "mcu-firmware"
target = "pilot"
source = "pilot.bin"
version = "1.4.0"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "boot").mkdir()
    for name in ("rootfs.ext4", "boot/kernel8.img", "pilot.bin"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def problems(folder: Path, text: str | bytes) -> list[str]:
    file = folder / "release.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DescriptionWrong) as caught:
        load_description(file, NOW_MS)
    assert all(problem.startswith("release.toml") and problem.isprintable() for problem in caught.value.problems)
    return [problem.removeprefix("release.toml: ") for problem in caught.value.problems]


def test_right_description_is_read(folder: Path) -> None:
    (folder / "release.toml").write_text(GOOD)
    read = load_description(folder / "release.toml", NOW_MS)
    assert read.compatible == ("acme,ac22", "acme,ac22-eu")
    assert (read.version, read.security_epoch, read.built_ms) == ("2.1.0", 3, BUILT_MS)
    assert (read.hardware_min, read.hardware_max, read.requires) == (1, 3, Requires(bootloader="2023.01"))
    assert read.payloads == (
        PayloadPlan("rootfs", PayloadType.SLOT_IMAGE, "rootfs", folder / "rootfs.ext4", CHUNK_BYTES_DEFAULT),
        PayloadPlan("boot", PayloadType.FILES, "boot", folder / "boot", 65_536, Compression.NONE),
        PayloadPlan("pilot", PayloadType.MCU_FIRMWARE, "pilot", folder / "pilot.bin", version="1.4.0"),
    )


@pytest.mark.parametrize("built", ["2026-11-20T13:00:00+01:00", '"2026-11-20T12:00:00Z"', "2026-11-20T12:00:00.9Z"])
def test_built_in_any_form_of_toml(folder: Path, built: str) -> None:
    (folder / "release.toml").write_text(GOOD.replace("2026-11-20T12:00:00Z", built))
    assert load_description(folder / "release.toml", NOW_MS).built_ms == BUILT_MS


def test_built_is_now_where_nothing_is_said(folder: Path) -> None:
    (folder / "release.toml").write_text(GOOD.replace("built =", "# built ="))
    assert load_description(folder / "release.toml", NOW_MS).built_ms == NOW_MS


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    text = """
version = "2 1"
security_epoch = true
built = 2026-11-20T12:00:00
colour = "red"

[product]
compatible = []
hardware = { min = 3, max = 1 }

[requires]
kernel = "6"

[[payloads]]
name = "root fs"
type = "slot-image"
source = "absent.img"
chunk_size = 5000
version = "1"

[[payloads]]
name = "a"
type = "mcu-firmware"
target = "pilot"
source = "boot"
compression = "xz"

[[payloads]]
name = "a"
type = "files"
target = "boot"
source = "rootfs.ext4"
"""
    found = problems(folder, text)
    beginnings = [
        "unknown key 'colour'",
        "product.hardware: min 3 is above max 1",
        "product.compatible: 0 entries",
        "version: '2 1'",
        "security_epoch: True",
        "built: datetime.datetime(",
        "payloads[0]: target is missing",
        "payloads[0].version: it does not belong",
        "payloads[0].name: 'root fs'",
        "payloads[0].chunk_size: 5000",
        "payloads[0].source: ",
        "payloads[1].version: it is missing",
        "payloads[1].compression: 'xz'",
        "payloads[1].source: ",
        "payloads[2].source: ",
        "payloads[2].name: a second payload",
        "requires: unknown key 'kernel'",
    ]
    for beginning in beginnings:
        assert [each for each in found if each.startswith(beginning)], (beginning, found)
    assert len(found) == len(beginnings), found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "version is missing"),
        ("payloads = 1", "payloads: 1 where an array"),
        ("payloads = [1]", "payloads[0]: 1 where a table belongs"),
        ("product = []", "product: an array where a table belongs"),
        ("version = nan", "version: nan where a version"),
        ("x = ", "it is not TOML"),
        (b"\xff", "it is not TOML"),
        (b"x = " + b"[" * 5000, "it is not TOML"),
        (b"#" * (BYTES_MAX + 1), f"more than {BYTES_MAX} bytes"),
    ],
    ids=range(9),
)
def test_text_that_is_no_description(folder: Path, text: str | bytes, problem: str) -> None:
    assert any(each.startswith(problem) for each in problems(folder, text))


def test_same_place_twice_is_named(folder: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("[[payloads]]") : GOOD.index("[[payloads]]", 200)].replace(
        'name = "rootfs"', 'name = "r"'
    )
    assert problems(folder, twice) == ["payloads[3].target: a second slot-image for rootfs"]


def test_files_that_no_bundle_can_name_are_found_before_anything_is_made(folder: Path) -> None:
    (folder / "boot" / "b:c").write_bytes(b"")
    (folder / "boot" / "ends.").write_bytes(b"")
    found = problems(folder, GOOD)
    assert [each[: each.index(": ", 20)] for each in found] == [
        "payloads[1].source: 'b:c'",
        "payloads[1].source: 'ends.'",
    ]
