"""Is it meant for this device: product, revision, epoch, versions, places, sizes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.bundle.device import DeviceFacts, check_device
from agent.firmware.bundle.head import judge_head
from agent.firmware.bundle.versions import version_key
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Manifest, PayloadType, Requires
from tests.unit.firmware.bundle.making import BytesSource, files, image, make_bundle, mcu
from tests.unit.firmware.bundle.pki import NOW, POLICY

DEVICE = DeviceFacts(
    compatible="acme,ac22",
    hardware_revision=2,
    epoch=3,
    agent_version="2.0.0",
    bootloader_version="2025.01-rc3",
    mcu_version="1.4.0",
    targets={
        (PayloadType.SLOT_IMAGE, "rootfs"): 4096,
        (PayloadType.FILES, "boot"): None,
        (PayloadType.MCU_FIRMWARE, "pilot"): 100,
    },
)
BUNDLE = judge_head(
    BytesSource(make_bundle(image(b"x" * 4096), files({"a": b"x" * 9000}), mcu(b"x" * 100))), POLICY, NOW
)


def refused(manifest: Manifest, device: DeviceFacts) -> tuple[Refusal, str]:
    with pytest.raises(UpdateRefused) as caught:
        check_device(manifest, device)
    return caught.value.refusal, caught.value.where


def test_right_device_takes_it() -> None:
    check_device(BUNDLE, DEVICE)
    for revision in (1, 3):
        check_device(BUNDLE, replace(DEVICE, hardware_revision=revision))
    for epoch in (0, 3):
        check_device(BUNDLE, replace(DEVICE, epoch=epoch))


REFUSALS: list[tuple[dict[str, Any], Refusal, str]] = [
    ({"compatible": "acme,ac11"}, Refusal.PRODUCT, "manifest: product.compatible"),
    ({"compatible": "acme,ac2"}, Refusal.PRODUCT, "manifest: product.compatible"),
    ({"compatible": ""}, Refusal.PRODUCT, "manifest: product.compatible"),
    ({"hardware_revision": 0}, Refusal.PRODUCT, "manifest: product.hardware"),
    ({"hardware_revision": 4}, Refusal.PRODUCT, "manifest: product.hardware"),
    ({"epoch": 4}, Refusal.DOWNGRADE, "manifest: security_epoch"),
    ({"targets": {}}, Refusal.UNSUPPORTED, "manifest: payloads[0]"),
    (
        {"targets": {(PayloadType.FILES, "rootfs"): None}},
        Refusal.UNSUPPORTED,
        "manifest: payloads[0]",
    ),
    (
        {"targets": {**DEVICE.targets, (PayloadType.SLOT_IMAGE, "rootfs"): 4095}},
        Refusal.TOO_LARGE,
        "manifest: payloads[0].size",
    ),
    (
        {"targets": {**DEVICE.targets, (PayloadType.MCU_FIRMWARE, "pilot"): 99}},
        Refusal.TOO_LARGE,
        "manifest: payloads[2].size",
    ),
]


@pytest.mark.parametrize(("changes", "refusal", "where"), REFUSALS)
def test_wrong_device_refuses_it(changes: dict[str, Any], refusal: Refusal, where: str) -> None:
    assert refused(BUNDLE, replace(DEVICE, **changes)) == (refusal, where)


@pytest.mark.parametrize("name", ["agent", "bootloader", "mcu"])
def test_minimum_versions(name: str) -> None:
    def with_(least: str, present: str) -> tuple[Manifest, DeviceFacts]:
        manifest = replace(BUNDLE, requires=Requires(**{name: least}))
        changed: Any = {f"{name}_version": present}
        return manifest, replace(DEVICE, **changed)

    enough = [("", ""), ("", "?"), ("2.0", "2.0"), ("2.0", "2.0.0"), ("2.0", "10.0"), ("2.0-rc1", "2.0")]
    for least, present in (*enough, ("2.0", "2.0.post1"), ("2.0", "2.0.1.dev3+gabc"), ("2.0-rc1", "2.0rc1")):
        check_device(*with_(least, present))
    too_old = [("2.0", "1.9"), ("2.0", "2.0-rc9"), ("2.0", ""), ("2.0", "unknown"), ("2.0.1", "2.0+x")]
    for least, present in (*too_old, ("2.0", "2.0rc9"), ("2.0", "2.0.dev9"), ("2.0.1", "2.0.post9")):
        assert refused(*with_(least, present)) == (Refusal.REQUIREMENT, f"manifest: requires.{name}")


# ------------------------------------------------------------------------------------------- versions

RISING = [
    "0",
    "0.9",
    "1.dev1",
    "1.0.dev10",
    "1-2",
    "1a1.dev1",
    "1a1",
    "1a1.post1",
    "1a2",
    "1-alpha",
    "1-alpha.1",
    "1b1",
    "1-beta",
    "1.0rc1.dev3+gabc",
    "1-rc1",
    "1rc2",
    "1-rc10",
    "1",
    "1.post1.dev1",
    "1.0.post1",
    "1.post10",
    "1.0.1.dev1",
    "1.0.1",
    "1.1",
    "1.9",
    "1.10",
    "2023.01-rc3",
    "2023.01",
    "2023.10",
    "1675168902",
]
EQUAL = [("2.1", "2.1.0"), ("2.01", "2.1"), ("0", "0.0"), ("1+a", "1+b"), ("1", "1+dfsg-2"), ("1-rc1", "1-rc.1")]
EQUAL += [("1-rc1", "1rc1"), ("1.0rc1+local", "1rc1"), ("1.dev1", "1.0.dev1+gabc"), ("1.post1", "1.0.post01")]


@pytest.mark.parametrize(("older", "newer"), list(pairwise(RISING)))
def test_order_of_versions(older: str, newer: str) -> None:
    first, second = version_key(older), version_key(newer)
    assert first is not None
    assert second is not None
    assert first < second
    assert all(key < first for each in RISING[: RISING.index(older)] if (key := version_key(each)) is not None)


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_versions(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)


NO_SUFFIX = [
    "1rc",
    "1c1",
    "1alpha1",
    "1.rc1",
    "1RC1",
    "1.dev",
    "1dev1",
    "1.post",
    "1.dev1.post1",
    "1.dev1rc1",
    "1rc1-2",
]


@pytest.mark.parametrize(
    "text", ["", "a", "v1", "1.", ".1", "1..2", "1 ", "1\n", "-1", "1_2", "1-", "٣", "1" * 65, *NO_SUFFIX]
)
def test_what_cannot_be_compared(text: str) -> None:
    assert version_key(text) is None


@given(st.text(alphabet="0123456789.-+~abcRdevpost", max_size=70))
def test_any_two_keys_can_be_compared(text: str) -> None:
    key = version_key(text)
    if key is not None:
        assert key <= key
        assert sum(key < other for other in map(version_key, RISING) if other is not None) >= 0
