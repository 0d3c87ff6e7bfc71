"""What a new image must prove: that the devices answer which answered before. Nothing of network or CSMS."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import load
from agent.core.events import FromMeter, FromPilot
from agent.station.self_test import DeviceWatch
from hal.ports import Back, LossKind, Lost

EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"
ALL = ("pilot 1", "meter 1", "pilot 2", "meter 2")
LOST, BACK = Lost(LossKind.SILENT, "no answer"), Back("model")


@pytest.fixture
def watch() -> DeviceWatch:
    """Of a charger with two EVSEs and a CSMS, which no part of the test is about."""
    return DeviceWatch(load(EXAMPLE))


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
