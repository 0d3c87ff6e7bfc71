"""What a page says of the station, in words and numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.facts import ChargingState, Token
from agent.core.status import ConnectorState, FaultCode
from agent.health.catalogue import CATALOGUE, DRIVERS
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import PriceView
from agent.ipc.updates import UpdateView
from agent.web.feed import Snapshot
from agent.web.live import driver_fields, technician_fields
from agent.web.words import Clock, duration, size
from tests.support.fake_station import T0_MS
from tests.support.web_rig import status, view

CLOCK = Clock("Europe/Berlin")
S = ConnectorState


def driver(snapshot: Snapshot, *, free: bool = False) -> dict[str, str]:
    return driver_fields(snapshot, CLOCK, free=free, evses=(1,))


@pytest.mark.parametrize(
    ("state", "cp", "tx_id", "free", "title", "tone"),
    [
        (S.AVAILABLE, "A", None, False, "Ready", "ready"),
        (S.PREPARING, "B", None, False, "Connected", "wait"),
        (S.PREPARING, "B", None, True, "Starting", "wait"),
        (S.PREPARING, "A", None, False, "Card accepted", "wait"),
        (S.PREPARING, None, None, False, "Card accepted", "wait"),
        (S.PREPARING, "B", "tx", False, "Starting", "wait"),
        (S.CHARGING, "C", "tx", False, "Charging", "busy"),
        (S.SUSPENDED_EV, "B", "tx", False, "Vehicle is not charging", "wait"),
        (S.SUSPENDED_EVSE, "C", "tx", False, "Waiting for power", "wait"),
        (S.FINISHING, "B", None, False, "Finished", "ready"),
        (S.RESERVED, "A", None, False, "Reserved", "off"),
        (S.UNAVAILABLE, "A", None, False, "Out of service", "off"),
        (S.FAULTED, "A", None, False, "Out of order", "fault"),
    ],
)
def test_driver_is_told_every_state(
    state: ConnectorState, cp: str | None, tx_id: str | None, free: bool, title: str, tone: str
) -> None:
    fields = driver(Snapshot(status=status(view(state=state, cp=cp, tx_id=tx_id))), free=free)
    assert (fields["e1.title"], fields["e1.tone"]) == (title, tone)
    assert fields["e1.hint"]


def test_every_connector_state_has_its_words() -> None:
    for state in ConnectorState:
        assert driver(Snapshot(status=status(view(state=state))))["e1.title"]


def test_driver_sees_power_energy_cost_and_time() -> None:
    charging = view(
        state=S.CHARGING,
        tx_id="tx",
        token=Token("04A2B3C4D5E6F7"),
        charging_state=ChargingState.CHARGING,
        power_mw=11_040_500,
        session_energy_mwh=4_321_000,
    )
    price = PriceView(1, "t", "Energy: 0.45 EUR per kWh; Start: 0.50 EUR", "2.54 EUR")
    snapshot = Snapshot(status=status(charging, prices=(price,)), began={"tx": T0_MS - 65_000})
    fields = driver(snapshot)
    assert {name: fields[f"e1.{name}"] for name in ("power", "energy", "cost", "since", "lasted", "running")} == {
        "power": "11.0",
        "energy": "4.32",
        "cost": "2.54 EUR",
        "since": "Since 08:58",  # in Berlin
        "lasted": "1 min 05 s",
        "running": "yes",
    }
    assert fields["e1.price"] == "Energy: 0.45 EUR per kWh\nStart: 0.50 EUR"
    assert "D5E6F7" not in str(fields)


def test_driver_hears_why_in_plain_words_without_the_details() -> None:
    part = PartHealth(Part.METER, 1, Condition.FAULT, "meter_lost", "energy meter does not answer: no reply in 500 ms")
    fields = driver(Snapshot(status=status(view(state=S.FAULTED)), health=(part,)))
    assert fields["e1.hint"].startswith("Energy meter does not answer. ")


@pytest.mark.parametrize("code", DRIVERS)
@pytest.mark.parametrize("state", [S.FAULTED, S.FINISHING, S.CHARGING])
def test_driver_is_warned_of_what_must_not_be_touched_whatever_else_holds(code: str, state: ConnectorState) -> None:
    entry = CATALOGUE[code]
    by_health = PartHealth(entry.part, 1, entry.condition, code, entry.text, entry.remedy)
    shown = view(state=state, cp="B")
    for snapshot in (
        Snapshot(status=status(shown), health=(by_health,)),
        Snapshot(status=status(replace(shown, faults=(FaultCode.METER_LOST, FaultCode(code))))),
    ):
        fields = driver(snapshot)
        assert (fields["e1.title"], fields["e1.tone"]) == ("Out of order", "fault")
        assert fields["e1.hint"].endswith(DRIVERS[code])
        assert "Unplug" not in fields["e1.hint"]


def test_of_two_dangers_the_worse_is_told_and_that_of_another_evse_is_not() -> None:
    both = view(state=S.FAULTED, faults=(FaultCode.RESIDUAL_CURRENT, FaultCode.CONTACTOR_WELDED))
    assert "do not unplug" in driver(Snapshot(status=status(both)))["e1.hint"].lower()
    other = PartHealth(Part.CONTACTOR, 2, Condition.FAULT, "contactor_welded", "contactor does not open (welded)")
    assert driver(Snapshot(status=status(view()), health=(other,)))["e1.title"] == "Ready"


@pytest.mark.parametrize(("cp", "told"), [("A", False), (None, False), ("B", True), ("C", True)])
def test_only_where_a_vehicle_is_connected_the_driver_is_told_to_unplug(cp: str | None, told: bool) -> None:
    hint = driver(Snapshot(status=status(view(state=S.FAULTED, cp=cp))))["e1.hint"]
    assert ("Unplug" in hint) is told and "another charging point" in hint


def test_a_station_without_csms_has_nobody_to_tell() -> None:
    health = (PartHealth(Part.CSMS_LINK, 0, Condition.ABSENT),)
    alone = status(online=False, head_seq=1_000, delivered_seq=0)
    fields = technician_fields(Snapshot(status=alone, health=health), CLOCK)
    assert (fields["s.link"], fields["s.behind"]) == ("none: this station works alone", "–")
    assert technician_fields(Snapshot(status=alone), CLOCK)["s.link"] == "down"


def test_station_that_is_away_is_said_to_be_away() -> None:
    assert driver(Snapshot())["e1.title"] == "No answer"
    assert technician_fields(Snapshot(), CLOCK)["s.tone"] == "fault"


def test_technician_sees_the_token_masked_and_faults_by_code() -> None:
    shown = view(token=Token("04A2B3C4D5E6F7"), faults=(FaultCode.METER_LOST,), locked=None, contactor_closed=True)
    fields = technician_fields(Snapshot(status=status(shown)), CLOCK)
    assert fields["e1.token"] == "***E6F7"
    assert (fields["e1.faults"], fields["e1.lock"], fields["e1.contactor"]) == ("meter_lost", "no lock", "closed")
    assert fields["s.time"] == "2026-11-24 09:00:00"


def test_update_is_told_with_its_progress() -> None:
    update = UpdateView("downloading", "2.0.0", 3 * 1024 * 1024, 4 * 1024 * 1024, "waits for the session")
    fields = technician_fields(Snapshot(status=status(update=update)), CLOCK)
    assert fields["s.update"] == "downloading 2.0.0, 3.0 MiB of 4.0 MiB"
    assert (fields["s.update_done"], fields["s.update_why"]) == ("75", "waits for the session")


def test_health_counts_and_its_stamp_changes_with_it() -> None:
    ok = PartHealth(Part.METER, 1, Condition.OK)
    bad = PartHealth(Part.METER, 1, Condition.FAULT, "meter_lost", "energy meter does not answer")
    warned = PartHealth(Part.DISK, 0, Condition.WARNING, "disk_low", "little room")
    texts = [
        technician_fields(Snapshot(status=status(), health=health), CLOCK)
        for health in ((), (ok,), (bad, warned), (bad,))
    ]
    assert [each["s.health"] for each in texts] == ["not known", "all well", "1 fault, 1 warning", "1 fault"]
    assert len({each["s.health_stamp"] for each in texts}) == 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (7_500, "2 h 05 min"), (90_000, "1 d 1 h")]
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(1_023, "1023 bytes"), (1_024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
