"""The metrics' text: what a real parser makes of it, values, and what is absent where it is not known."""

from __future__ import annotations

from dataclasses import replace
from shutil import which
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, generate_latest

from agent.web.metrics import metrics_text
from agent.web.openmetrics import Exposition, decimal
from tests.support.metrics_example import (
    GATEWAY,
    HEALTH,
    NOW_MS,
    STATISTICS,
    STATUS,
    TEXT,
    WITHOUT_CSMS,
    WITHOUT_STATION,
    families,
)


def parsed(text: str) -> dict[str, Metric]:
    """By name."""
    return {family.name: family for family in families(text)}


def value(text: str, sample: str, **labels: str) -> float | None:
    """The one sample of this name with these labels (and no others); None where there is none."""
    found = [
        each.value
        for family in parsed(text).values()
        for each in family.samples
        if each.name == sample and each.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("text", [TEXT, WITHOUT_STATION, WITHOUT_CSMS])
def test_a_real_parser_takes_it(text: str) -> None:
    families = parsed(text)
    assert "evsed_station_up" in families
    assert all(family.documentation for family in families.values())


def test_no_unit_is_missing_where_the_name_has_one() -> None:
    units = {"seconds", "bytes", "joules", "watts", "amperes", "volts", "celsius"}
    for name, family in parsed(TEXT).items():
        last = name.rpartition("_")[2]
        assert family.unit == (last if last in units else ""), name


VALUES = [
    ("evsed_station_up", {}, 1),
    ("evsed_station_info", {"identity": "CP-1", "software_version": "0.1.0", "firmware_version": "0.1.0"}, 1),
    ("evsed_clock_trusted", {}, 1),
    ("evsed_evse_state", {"evse": "1", "state": "Charging"}, 1),
    ("evsed_evse_state", {"evse": "1", "state": "Available"}, 0),
    ("evsed_evse_fault_active", {"evse": "2", "code": "power_module"}, 1),
    ("evsed_evse_fault_active", {"evse": "1", "code": "power_module"}, 0),
    ("evsed_evse_operative", {"evse": "2"}, 0),
    ("evsed_evse_contactor_closed", {"evse": "1"}, 1),
    ("evsed_evse_transaction_running", {"evse": "1"}, 1),
    ("evsed_evse_transaction_running", {"evse": "2"}, 0),
    ("evsed_evse_power_watts", {"evse": "1"}, 11_040.5),
    ("evsed_evse_current_amperes", {"evse": "1", "phase": "L2"}, 15.99),
    ("evsed_evse_voltage_volts", {"evse": "1", "phase": "L1"}, 230.1),
    ("evsed_evse_current_limit_amperes", {"evse": "1"}, 16),
    ("evsed_evse_current_offered_amperes", {"evse": "1"}, 15.9),
    ("evsed_evse_energy_import_joules_total", {"evse": "1"}, 4_444_444_407.6),
    ("evsed_evse_transaction_energy_joules", {"evse": "1"}, 5_403.6),
    ("evsed_evse_transactions_started_total", {"evse": "2"}, 7),
    ("evsed_evse_transactions_ended_total", {"evse": "2"}, 6),
    ("evsed_evse_transaction_seconds_total", {"evse": "1"}, 12_345.678),
    ("evsed_evse_state_seconds_total", {"evse": "1", "state": "Charging"}, 2_000.001),
    ("evsed_evse_faults_total", {"evse": "2", "code": "meter_lost"}, 1),
    ("evsed_evse_temperature_celsius", {"evse": "2", "sensor": "module 1"}, -0.5),
    ("evsed_bus_exchanges_total", {"bus": "/dev/ttyS1"}, 100),
    ("evsed_bus_failures_total", {"bus": "/dev/ttyUSB0", "kind": "silent"}, 3),
    ("evsed_bus_latency_seconds_count", {"bus": "/dev/ttyUSB0"}, 996),
    ("evsed_bus_latency_seconds_sum", {"bus": "/dev/ttyUSB0"}, 0.000009),
    ("evsed_bus_latency_max_seconds", {"bus": "/dev/ttyUSB0"}, 0.000005),
    ("evsed_ledger_rows_written_total", {}, 5_000),
    ("evsed_ledger_rows", {}, 4_000),
    ("evsed_ledger_size_bytes", {}, 3_210_000),
    ("evsed_ledger_waiting_rows", {}, 10),
    ("evsed_ledger_oldest_waiting_age_seconds", {}, 61.5),
    ("evsed_disk_free_bytes", {}, 900_000_000),
    ("evsed_disk_size_bytes", {}, 4_000_000_000),
    ("evsed_health", {"part": "meter", "evse": "2", "condition": "fault"}, 1),
    ("evsed_health", {"part": "meter", "evse": "2", "condition": "warning"}, 0),
    ("evsed_health", {"part": "bus", "evse": "1", "condition": "fault"}, 1),
    ("evsed_health", {"part": "bus", "evse": "1", "condition": "warning"}, 0),
    ("evsed_health_trouble", {"part": "bus", "evse": "1", "code": "bus_garbled"}, 1),
    ("evsed_health_trouble", {"part": "meter", "evse": "2", "code": "meter_implausible"}, 1),
    ("evsed_csms_link_up", {}, 1),
    ("evsed_csms_connected_seconds_total", {}, 1_700),
    ("evsed_csms_reconnects_total", {}, 2),
    ("evsed_csms_failures_total", {"kind": "unreachable"}, 3),
    ("evsed_csms_frames_total", {"direction": "out"}, 42),
    ("evsed_process_uptime_seconds", {"process": "gateway"}, 1_800),
    ("evsed_process_resident_memory_bytes", {"process": "station"}, 48_000_000),
    ("evsed_process_cpu_seconds_total", {"process": "station"}, 61.5),
    ("evsed_loop_lateness_seconds_bucket", {"process": "station", "le": "0.0025"}, 13),
    ("evsed_loop_lateness_seconds_bucket", {"process": "station", "le": "+Inf"}, 15),
    ("evsed_loop_lateness_seconds_count", {"process": "station"}, 15),
    ("evsed_loop_lateness_seconds_sum", {"process": "station"}, 0.001234),
    ("evsed_loop_lateness_max_seconds", {"process": "station"}, 0.000999),
]


@pytest.mark.parametrize(("sample", "labels", "expected"), VALUES)
def test_value(sample: str, labels: dict[str, str], expected: float) -> None:
    assert value(TEXT, sample, **labels) == expected


def test_every_family_is_in_the_table_of_values() -> None:
    given = {sample for sample, _, _ in VALUES}
    told = {each.name for family in parsed(TEXT).values() for each in family.samples}
    assert told == given


@pytest.mark.parametrize(
    "family",
    ["power_watts", "current_amperes", "voltage_volts", "energy_import_joules", "transaction_energy_joules"],
)
def test_what_is_not_measured_now_is_absent(family: str) -> None:
    evses = {each.labels["evse"] for each in parsed(TEXT)[f"evsed_evse_{family}"].samples}
    assert evses == {"1"}


def test_without_the_station_only_what_the_gateway_knows() -> None:
    assert value(WITHOUT_STATION, "evsed_station_up") == 0
    assert value(WITHOUT_STATION, "evsed_csms_link_up") == 1
    names = {name for name in parsed(WITHOUT_STATION) if name.startswith(("evsed_evse", "evsed_ledger", "evsed_bus"))}
    assert names == set()
    assert value(WITHOUT_STATION, "evsed_process_uptime_seconds", process="station") is None


def test_without_a_csms_no_link_is_missed() -> None:
    assert [name for name in parsed(WITHOUT_CSMS) if name.startswith("evsed_csms")] == []


def test_nothing_waits() -> None:
    ledger = replace(STATISTICS.ledger, waiting=0, oldest_waiting_wall_ms=None)
    text = metrics_text(STATUS, replace(STATISTICS, ledger=ledger), HEALTH, GATEWAY)
    assert value(text, "evsed_ledger_oldest_waiting_age_seconds") == 0


def test_a_row_of_the_future_has_no_age() -> None:
    """The clock was set back since."""
    ledger = replace(STATISTICS.ledger, oldest_waiting_wall_ms=NOW_MS + 5_000)
    text = metrics_text(STATUS, replace(STATISTICS, ledger=ledger), HEALTH, GATEWAY)
    assert value(text, "evsed_ledger_oldest_waiting_age_seconds") == 0


def test_a_disk_that_cannot_be_looked_at_has_no_numbers() -> None:
    ledger = replace(STATISTICS.ledger, size_bytes=None)
    text = metrics_text(
        STATUS, replace(STATISTICS, ledger=ledger, disk_free_bytes=None, disk_size_bytes=None), HEALTH, GATEWAY
    )
    assert [name for name in parsed(text) if "_disk_" in name or name == "evsed_ledger_size_bytes"] == []


def test_no_label_comes_from_a_driver_or_a_transaction() -> None:
    told = STATUS.evses[0]
    assert told.token is not None
    assert told.tx_id is not None
    assert told.token.id_token not in TEXT
    assert told.tx_id not in TEXT


@given(st.text())
def test_any_text_in_a_label_comes_back(text: str) -> None:
    out = Exposition()
    out.family("x", "gauge", text)
    out.sample(1, label=text)
    (family,) = families(out.text())
    assert family.samples[0].labels == {"label": text}


@given(st.integers(-(2**63), 2**63), st.integers(0, 6))
def test_decimals_are_exact(number: int, digits: int) -> None:
    whole, _, fraction = decimal(number, digits).partition(".")
    assert len(fraction) <= digits
    assert int(whole + fraction.ljust(digits, "0")) == number
    assert not fraction.endswith("0")


def test_a_family_comes_once_and_is_named_by_its_unit() -> None:
    out = Exposition()
    out.family("a_seconds", "gauge", "", "seconds")
    with pytest.raises(ValueError, match="a_seconds"):
        out.family("a_seconds", "gauge", "", "seconds")
    with pytest.raises(ValueError, match="b_ms"):
        out.family("b_ms", "gauge", "", "seconds")


class _Families:
    """A collector of what was parsed, to be written in Prometheus's older format."""

    def collect(self) -> list[Metric]:
        return list(parsed(TEXT).values())


@pytest.mark.skipif(which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_convention_of_names_is_kept() -> None:
    """promtool reads the older format only: the parsed metrics are written in it by Prometheus's client library."""
    registry = CollectorRegistry()
    registry.register(_Families())
    done = run(
        ["promtool", "check", "metrics"], input=generate_latest(registry), capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.decode() + done.stderr.decode()) == (0, "")
