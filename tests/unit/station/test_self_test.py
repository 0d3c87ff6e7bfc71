"""What a new image must prove: that devices and gateway answer which answered before. Nothing of network or CSMS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.web import WebConfig
from agent.core.events import FromMeter, FromPilot
from agent.station.self_test import DeviceWatch
from hal.ports import Back, LossKind, Lost

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "packaging" / "evsed.example.toml"
ALL = ("pilot 1", "meter 1", "pilot 2", "meter 2")
LOST, BACK = Lost(LossKind.SILENT, "no answer"), Back("model")


@pytest.fixture
def watch() -> DeviceWatch:
    """Of a charger with two EVSEs and a CSMS, which no part of the test is about; its gateway is there."""
    return DeviceWatch(load(EXAMPLE), lambda: True)


def test_all_devices_of_the_configuration_must_answer_and_nothing_else(watch: DeviceWatch) -> None:
    assert watch.silent() == ALL
    for evse in (1, 2):
        watch.hear(FromPilot(evse, BACK))
        watch.hear(FromMeter(evse, BACK))
    assert watch.silent() == ()
    assert watch.missing(()) == []


def test_a_device_that_is_lost_again_does_not_answer(watch: DeviceWatch) -> None:
    watch.hear(FromMeter(2, BACK))
    assert "meter 2" not in watch.missing(())
    watch.hear(FromMeter(2, LOST))
    assert "meter 2" in watch.missing(())


def test_what_was_silent_before_the_update_is_not_held_against_the_image(watch: DeviceWatch) -> None:
    watch.hear(FromPilot(1, BACK))
    watch.hear(FromMeter(1, BACK))
    assert watch.missing(("pilot 2", "meter 2")) == []
    assert watch.missing(("meter 2",)) == ["pilot 2"]


def test_a_device_that_answers_is_not_missing_although_it_was_silent_before(watch: DeviceWatch) -> None:
    for evse in (1, 2):
        watch.hear(FromPilot(evse, BACK))
        watch.hear(FromMeter(evse, BACK))
    assert watch.missing(ALL) == []


@pytest.mark.parametrize(("csms", "page"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_gateway_that_has_something_to_do_must_be_there(csms: bool, page: bool) -> None:
    example, there = load(EXAMPLE), False
    web = WebConfig(port=8080) if page else None
    watch = DeviceWatch(replace(example, csms=example.csms if csms else None, web=web), lambda: there)
    gateway = ["gateway"] if csms or page else []
    assert watch.missing(ALL) == gateway
    assert watch.missing((*ALL, "gateway")) == [], "it was not there before either"
    there = True
    assert watch.missing(ALL) == []


def test_the_gateway_of_a_machine_without_a_network_starts_all_the_same() -> None:
    """It is a part of the test: an unplugged cable, for which systemd waits two minutes, would fail an image."""
    unit = (ROOT / "systemd" / "evsed-gateway.service").read_text()
    assert "After=network.target\n" in unit
    assert "network-online" not in unit
