"""N04: what becomes of each monitor that the CSMS may want, by a table; and what hard-wired monitors are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.station_model import build_device_model, modules_of
from agent.core.facts import VariableName
from agent.ipc.monitors import Monitor, MonitorAnswer, MonitorType, MonitorWrite, SetMonitorStatus
from agent.monitoring.book import FIRST_CUSTOM_ID, MonitorBook
from agent.monitoring.hard_wired import monitors_of

CONFIG = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
POWER_MAX_W = CONFIG.evse[0].max_power_w
UPPER, LOWER, DELTA, PERIODIC, ALIGNED = MonitorType
S = SetMonitorStatus

POWER = VariableName("EVSE", "Power", evse=1)
SETTING = VariableName("TxCtrlr", "EVConnectionTimeOut")  # 1 to 86400
PROBLEM = VariableName("EVSE", "Problem", evse=1)
STATE = VariableName("EVSE", "AvailabilityState", evse=1)
DATE_TIME = VariableName("ClockCtrlr", "DateTime")
TRIPPED = VariableName("RCD", "Tripped", evse=1)
FIRST = MonitorWrite(POWER, UPPER, "100", 5)  # is set already
HELD = FIRST_CUSTOM_ID

WRITES: list[tuple[VariableName, MonitorType, str, int, int | None, SetMonitorStatus, str]] = [
    # N04.FR.03, 04: names
    (VariableName("Nothing", "Power", evse=1), UPPER, "1", 5, None, S.UNKNOWN_COMPONENT, "no variable Nothing@1.Power"),
    (VariableName("EVSE", "Power", evse=9), UPPER, "1", 5, None, S.UNKNOWN_COMPONENT, "no variable EVSE@9.Power"),
    (VariableName("EVSE", "Nothing", evse=1), UPPER, "1", 5, None, S.UNKNOWN_VARIABLE, "no variable EVSE@1.Nothing"),
    (VariableName("EVSE", "Power", "x", 1), UPPER, "1", 5, None, S.UNKNOWN_VARIABLE, "no variable EVSE@1.Power[x]"),
    (VariableName("evse", "POWER", evse=1), UPPER, "1", 4, None, S.ACCEPTED, ""),
    # N04.FR.05: what has no order has no threshold
    (STATE, UPPER, "1", 5, None, S.UNSUPPORTED_MONITOR_TYPE, "no threshold for a OptionList"),
    (DATE_TIME, LOWER, "1", 5, None, S.UNSUPPORTED_MONITOR_TYPE, "no threshold for a dateTime"),
    (PROBLEM, UPPER, "0", 5, None, S.ACCEPTED, ""),
    (STATE, DELTA, "1", 5, None, S.ACCEPTED, ""),
    (DATE_TIME, PERIODIC, "60", 5, None, S.ACCEPTED, ""),
    # N04.FR.06, 14: values
    (POWER, LOWER, "-1", 5, None, S.REJECTED, "value: 0 to"),
    (POWER, UPPER, str(POWER_MAX_W), 4, None, S.ACCEPTED, ""),
    (POWER, UPPER, str(POWER_MAX_W + 0.5), 4, None, S.REJECTED, f"value: 0 to {POWER_MAX_W}"),
    (SETTING, LOWER, "0.5", 5, None, S.REJECTED, "value: 1 to 86400"),
    (PROBLEM, UPPER, "2", 5, None, S.REJECTED, "value: 0 to 1"),
    (POWER, DELTA, "-0.1", 5, None, S.REJECTED, "value: 0 to any"),
    (POWER, DELTA, "0", 5, None, S.ACCEPTED, ""),
    (POWER, PERIODIC, "0", 5, None, S.REJECTED, "value: 1 to"),
    (POWER, PERIODIC, "1e300", 5, None, S.REJECTED, "value: 1 to"),
    (POWER, ALIGNED, "86400", 5, None, S.ACCEPTED, ""),
    (POWER, ALIGNED, "86401", 5, None, S.REJECTED, "value: 1 to 86400"),
    # severities
    (POWER, DELTA, "1", -1, None, S.REJECTED, "severity: 0 to 9"),
    (POWER, DELTA, "1", 10, None, S.REJECTED, "severity: 0 to 9"),
    # N04.FR.07: secrets
    (VariableName("SecurityCtrlr", "BasicAuthPassword"), DELTA, "1", 5, None, S.REJECTED, "a secret is not monitored"),
    # N04.FR.10: others of the same kind
    (POWER, UPPER, "200", 5, None, S.DUPLICATE, f"monitor {HELD} is like it"),
    (POWER, LOWER, "200", 5, None, S.ACCEPTED, ""),
    (TRIPPED, UPPER, "0", 0, None, S.DUPLICATE, "is like it"),
    # N04.FR.12, 13, 16, 18: ids
    (POWER, UPPER, "200", 5, HELD, S.ACCEPTED, ""),
    (POWER, DELTA, "200", 6, HELD, S.ACCEPTED, ""),
    (POWER, UPPER, "200", 4, HELD + 1, S.REJECTED, f"no monitor {HELD + 1}"),
    (STATE, DELTA, "1", 5, HELD, S.REJECTED, f"monitor {HELD} is of another variable"),
    (TRIPPED, UPPER, "1", 5, 1, S.REJECTED, "monitor 1 is hard-wired"),
]


@pytest.mark.parametrize(("name", "kind", "value", "severity", "monitor_id", "status", "reason"), WRITES)
def test_n04_every_status(
    name: VariableName,
    kind: MonitorType,
    value: str,
    severity: int,
    monitor_id: int | None,
    status: SetMonitorStatus,
    reason: str,
) -> None:
    book = MonitorBook(build_device_model(CONFIG), monitors_of(modules_of(CONFIG)).values())
    assert book.set(FIRST) == MonitorAnswer(S.ACCEPTED, HELD)
    answer = book.set(MonitorWrite(name, kind, value, severity, id=monitor_id))
    assert answer.status is status
    assert reason in answer.reason
    if status is S.ACCEPTED:
        assert answer == MonitorAnswer(S.ACCEPTED, HELD + 1 if monitor_id is None else monitor_id)
        assert len(book.custom) == 2 - (monitor_id is not None)


def test_ids_of_hard_wired_monitors_do_not_depend_on_the_run() -> None:
    made = monitors_of({1: False})
    assert made["pilot_lost", 1].id != made["diode", 1].id
    first = min(made.values(), key=lambda monitor: monitor.id)
    assert (first.id, first.name) == (1, VariableName("Controller", "Problem"))
    assert made == monitors_of({1: False})


NUMBERS_THAT_ARE_NONE = (
    *("abc", "", "true", "NaN", "-NaN", "sNaN", "Infinity", "-Infinity", "1e999999999", "-1e999999999", "1e16"),
    *("1e99999999999999999999", "0" * 80_000 + "1", "0." + "0" * 80_000 + "1"),
)


@pytest.mark.parametrize("kind", MonitorType)
@pytest.mark.parametrize("value", NUMBERS_THAT_ARE_NONE, ids=lambda value: value[:20])
def test_a_value_that_no_variable_can_have_is_rejected(kind: MonitorType, value: str) -> None:
    """What is kept is compared with values and told for years."""
    for name in (POWER, SETTING, PROBLEM):
        book = MonitorBook(build_device_model(CONFIG), monitors_of(modules_of(CONFIG)).values())
        assert book.set(MonitorWrite(name, kind, value, 5)).status is S.REJECTED
        assert book.custom == []


@pytest.mark.parametrize("value", ["1e15", "0e999999999", "1e-999999999"])
def test_odd_numbers_are_numbers(value: str) -> None:
    book = MonitorBook(build_device_model(CONFIG), ())
    assert book.set(MonitorWrite(POWER, DELTA, value, 5)).status is S.ACCEPTED


def test_a_value_that_older_software_has_kept_is_forgotten() -> None:
    """At each look it would have ended the station."""
    kept = [Monitor(HELD, POWER, DELTA, "NaN", 5), Monitor(HELD + 1, POWER, DELTA, "5", 5)]
    book = MonitorBook(build_device_model(CONFIG), (), kept)
    assert [each.id for each in book.custom] == [HELD + 1]
