"""The screen of ``status --watch``: what stands on it, at every size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.watching import large, screen
from agent.core.facts import ChargingState
from agent.core.status import ConnectorState, EvseView, FaultCode
from agent.health.catalogue import CATALOGUE
from agent.health.model import PartHealth
from agent.ipc.port import PriceView, StationStatus
from agent.ipc.updates import UpdateView
from tests.support.fake_station import T0_MS

FREE = EvseView(
    evse=1,
    state=ConnectorState.AVAILABLE,
    faults=(),
    cp="A",
    charging_state=None,
    tx_id=None,
    token=None,
    contactor_closed=False,
    locked=None,
    limit_ma=16_000,
    offered_ma=0,
    duty_centipercent=10_000,
    power_mw=0,
    energy_import_mwh=7,
    session_energy_mwh=None,
    voltage_mv=(230_000, None, None),
    current_ma=(0, None, None),
    operative=True,
)
CHARGING = replace(
    FREE,
    state=ConnectorState.CHARGING,
    cp="C",
    charging_state=ChargingState.CHARGING,
    tx_id="t",
    contactor_closed=True,
    locked=True,
    offered_ma=16_000,
    duty_centipercent=2_667,
    power_mw=11_040_000,
    session_energy_mwh=4_256_000,
    current_ma=(15_900, 16_000, 16_100),
)
STATUS = StationStatus(
    *("CP-1", "boot", "0.1.0", 3_720_000, True, "2.0.1", T0_MS, "S", 1_234, 1_230),
    evses=(CHARGING, replace(FREE, evse=2)),
    prices=(PriceView(1, None, "0.45 EUR per kWh", "1.92 EUR"),),
)


def trouble(code: str, evse: int = 0) -> PartHealth:
    entry = CATALOGUE[code]
    return PartHealth(entry.part, evse, entry.condition, code, entry.text, entry.remedy)


def drawn(status: StationStatus = STATUS, *parts: PartHealth, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain for line in screen(status, parts, width, height)]


def test_figures_of_three_lines() -> None:
    assert large("10.2") == ("    _   _ ", "  || |  _|", "  ||_|.|_ ")
    assert large("-") == ("   ", " _ ", "   ")


@pytest.mark.parametrize("number", ["0123456789", "-", "1.5", ""])
def test_the_three_lines_of_figures_are_equally_long(number: str) -> None:
    assert len({len(line) for line in large(number)}) == 1


def test_everything_a_technician_asks_first_is_on_the_screen() -> None:
    text = "\n".join(drawn())
    for words in (
        *("CP-1", "CSMS up, OCPP 2.0.1", "2026-11-24 08:00:00 UTC (S)"),
        *("EVSE 1   CHARGING", "1.92 EUR", "pilot C, duty 26.7 %", "contactor closed, lock locked"),
        *("offered 16.0 A, draws 15.9 16.0 16.1", "EVSE 2   AVAILABLE", "contactor open\n"),
        *("nothing is wrong", "up 1 h 02 min", "ledger 1234, 4 behind", "evsed 0.1.0"),
    ):
        assert words in text
    for line in (*large("11.0"), *large("4.26")):
        assert line in text


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (ConnectorState.SUSPENDED_EV, "VEHICLE PAUSES"),
        (ConnectorState.SUSPENDED_EVSE, "STATION PAUSES"),
        (ConnectorState.FAULTED, "FAULTED"),
        (ConnectorState.PREPARING, "PREPARING"),
    ],
)
def test_states_have_words(state: ConnectorState, word: str) -> None:
    assert f"EVSE 1   {word}" in drawn(replace(STATUS, evses=(replace(FREE, state=state),)))[1]


def test_what_nobody_knows_is_a_dash_and_no_number() -> None:
    unknown = replace(FREE, cp=None, power_mw=None, current_ma=(None, None, None))
    text = "\n".join(drawn(replace(STATUS, evses=(unknown,), online=False)))
    assert "pilot -" in text and "draws" not in text and "CSMS AWAY" in text
    assert "|" not in text, "no figure"


def test_faults_come_before_warnings_and_have_remedies_where_there_is_room() -> None:
    lines = drawn(STATUS, trouble("clock_unset"), trouble("meter_lost", 2))
    at = next(number for number, line in enumerate(lines) if "FAULT" in line)
    assert lines[at] == " FAULT   meter 2: energy meter does not answer"
    assert lines[at + 1].strip() == CATALOGUE["meter_lost"].remedy[:71].strip()
    assert lines[at + 2] == " WARNING clock: clock was not set since power-up"


def test_without_room_for_all_remedies_there_are_none_and_the_rest_is_counted() -> None:
    parts = [trouble(code, 1) for code in FaultCode]
    lines = drawn(STATUS, *parts)
    told = [line for line in lines if line.startswith(" FAULT")]
    assert len(lines) == 24
    assert lines[-2] == f" and {len(parts) - len(told)} more: evsed health"
    assert not any(part.remedy[:20] in line for part in parts for line in lines)


def test_more_evses_than_fit_are_counted() -> None:
    many = tuple(replace(FREE, evse=number) for number in range(1, 9))
    lines = drawn(replace(STATUS, evses=many))
    assert " and 4 more: evsed status" in lines
    assert len(lines) <= 24


def test_an_update_under_way_is_in_the_foot() -> None:
    lines = drawn(replace(STATUS, update=UpdateView("downloading", "1.2.0", 50, 200)))
    assert lines[-1].rstrip().endswith("update: downloading 25 % 1.2.0")


@given(
    st.integers(0, 9),
    st.lists(st.sampled_from(sorted(CATALOGUE)), max_size=12),
    st.integers(20, 200),
    st.integers(3, 60),
)
def test_nothing_is_drawn_beyond_the_screen(evses: int, codes: list[str], width: int, height: int) -> None:
    views = tuple(replace(CHARGING, evse=number) for number in range(1, evses + 1))
    lines = drawn(replace(STATUS, evses=views), *(trouble(code, 1) for code in codes), width=width, height=height)
    assert len(lines) <= height
    assert all(len(line) <= width and "\n" not in line for line in lines)
    assert lines[0].startswith(" CP-1") and lines[-1].startswith(" up 1 h"), "head and foot are always there"
