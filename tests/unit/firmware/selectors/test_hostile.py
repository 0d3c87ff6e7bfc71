"""Whatever lies on the disk, a selector answers or says ``SlotFailed``; and so does a disk that refuses."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.errors import SlotFailed
from agent.firmware.ports import BootSelector
from agent.firmware.selectors import file, sdboot_entries, tryboot
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.faulty import Faulty
from tests.unit.firmware.selectors.rigs import AUTOBOOT, ENTRIES, ENVIRONMENT, RECORD, RIGS, SLOTS, TEMPLATE

CALLS: Final[list[Callable[[BootSelector], object]]] = [
    lambda each: each.state(),
    lambda each: each.block("b"),
    lambda each: each.activate("b", 3),
    lambda each: each.confirm("a"),
    lambda each: each.revert("a"),
    lambda each: each.repair(),
]

# What lies under which name, beside pure noise.
SHAPES: Final[dict[str, tuple[Path, list[bytes]]]] = {
    "file": (RECORD, [b"{}", b"[[[[", b'{"primary": "a", "slots": {"a": {}, "b": 3}}', b"[" * 3000, b"1" * 5000]),
    "tryboot": (AUTOBOOT, [b"[all]", b"boot_partition=", b"tryboot_a_b=1\n", b"boot_partition=99999999999999999"]),
    "uboot": (ENVIRONMENT[0].path, [b"\0" * 4096, b"\xff" * 4096]),
    "sdboot": (ENTRIES / "evsed-a.conf", [b"linux", b"linux x\nversion 99999999999999999999\nsort-key", b"\n" * 6000]),
}


def outcome(call: Callable[[BootSelector], object], selector: BootSelector) -> None:
    try:
        call(selector)
    except SlotFailed as failed:
        assert str(failed)


@pytest.mark.parametrize("name", RIGS)
@given(data=st.data())
def test_any_content_is_answered_or_refused(name: str, data: st.DataObject) -> None:
    path, shapes = SHAPES[name]
    content = data.draw(
        st.binary(max_size=5000) | st.sampled_from(shapes) | st.binary(max_size=300).map(shapes[0].__add__)
    )
    booted = data.draw(st.sampled_from([None, "a", "b"]))
    disk = RIGS[name].factory()
    disk.put(path, content, device=name == "uboot")
    for call in CALLS:
        outcome(call, RIGS[name].selector(disk, booted))
    if name != "uboot" or len(content) >= 4096:  # a loader's device is as long as it was built for
        RIGS[name].boot(disk)


@given(st.binary())
def test_any_bytes_are_decoded_or_not(content: bytes) -> None:
    tryboot.decode(content)
    file.decode(content, SLOTS)
    sdboot_entries.fields(content)


@given(st.integers(1, 255), st.integers(1, 255))
def test_autoboot_survives_the_round_trip_in_one_sector(good: int, tried: int) -> None:
    autoboot = tryboot.Autoboot(good, tried)
    assert len(tryboot.encode(autoboot)) == 512
    assert tryboot.decode(tryboot.encode(autoboot)) == autoboot


@pytest.mark.parametrize("name", RIGS)
@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("on_read", [False, True])
def test_a_medium_that_refuses_is_named(name: str, code: int, on_read: bool) -> None:
    disk = RIGS[name].factory()
    RIGS[name].selector(disk, "a").activate("b", 3)
    storage: Any = Faulty(disk, code, on_read=on_read)
    selector = RIGS[name].selector(storage, "a")
    for call in (CALLS[1], lambda each: each.activate("b", 2)) if name != "tryboot" else (CALLS[1],):
        with pytest.raises(SlotFailed) as failed:
            call(selector)
        assert failed.value.what.startswith(("/", "U-Boot"))
        assert ("read-write" in failed.value.remedy) is (code == errno.EROFS)
    if not on_read:
        assert selector.state().primary


@pytest.mark.parametrize("name", RIGS)
def test_a_disk_without_anything_is_answered_or_refused(name: str) -> None:
    disk = PowerDisk((Path("/esp"), Path("/boot")))
    for call in CALLS:
        outcome(call, RIGS[name].selector(disk, "a"))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (TEMPLATE.replace("sort-key evsed\n", ""), "sort-key"),
        (TEMPLATE.replace("sort-key evsed", "sort-key {slot}"), "sort-key"),
        (TEMPLATE.replace("{slot}", "a"), "slot"),
        (TEMPLATE.replace("version {version}", "version 7"), "version"),
        (TEMPLATE.replace("linux /{slot}/vmlinuz\n", ""), "first 512"),
        (TEMPLATE.replace("linux /{slot}/vmlinuz\n", "") + "linux /{slot}/vmlinuz\n", "first 512"),
        (TEMPLATE + "efi /x.efi\n", "first 512"),
        (TEMPLATE + "#" * 4000, "longer"),
        ("", "sort-key"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_once(template: str, says: str) -> None:
    disk = RIGS["sdboot"].factory()
    with pytest.raises(SlotFailed, match=says):
        sdboot_entries.EntryFolder(disk, ENTRIES, "evsed", SLOTS, template)
