"""Metrics of a charger in which everything is there: for tests of the text, of dashboards and of alert rules.

Charter: two EVSEs (AC that charges, DC with a fault), every optional value once present and once absent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.core.facts import ChargingState, Token
from agent.core.status import ConnectorState, EvseView, FaultCode
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import StationStatus
from agent.ipc.statistics import (
    BusStatistics,
    EvseStatistics,
    GatewayStatistics,
    Lateness,
    LedgerStatistics,
    LinkStatistics,
    ProcessStatistics,
    StationStatistics,
    Temperature,
)
from agent.web.metrics import metrics_text

NOW_MS: Final = 1_795_507_200_000  # 2026-11-24T08:00:00Z

CHARGING: Final = EvseView(
    evse=1,
    state=ConnectorState.CHARGING,
    faults=(),
    cp="C",
    charging_state=ChargingState.CHARGING,
    tx_id="0d5f6f7a-8a3c-4d7e-9d53-1d0f6c1f2a3b",
    token=Token("04A2B3C4D5E6F7"),
    contactor_closed=True,
    locked=True,
    limit_ma=16_000,
    offered_ma=15_900,
    duty_centipercent=2_650,
    power_mw=11_040_500,
    energy_import_mwh=1_234_567_891,
    session_energy_mwh=1_501,
    voltage_mv=(230_100, 229_900, 230_000),
    current_ma=(16_000, 15_990, 16_010),
    operative=True,
)
FAULTED: Final = EvseView(
    evse=2,
    state=ConnectorState.FAULTED,
    faults=(FaultCode.METER_LOST, FaultCode.POWER_MODULE),
    cp=None,
    charging_state=None,
    tx_id=None,
    token=None,
    contactor_closed=False,
    locked=None,
    limit_ma=0,
    offered_ma=0,
    duty_centipercent=10_000,
    power_mw=None,
    energy_import_mwh=None,
    session_energy_mwh=None,
    voltage_mv=(None, None, None),
    current_ma=(None, None, None),
    operative=False,
)
STATUS: Final = StationStatus(
    identity="CP-1",
    boot_id="boot-1",
    software_version="0.1.0",
    uptime_ms=3_600_000,
    online=True,
    dialect="ocpp2.0.1",
    wall_ms=NOW_MS,
    time_status="S",
    head_seq=5_000,
    delivered_seq=4_990,
    evses=(CHARGING, FAULTED),
)


def _evse(evse: int, **states_ms: int) -> EvseStatistics:
    return EvseStatistics(
        evse,
        transactions_started=7,
        transactions_ended=6,
        transaction_ms=12_345_678,
        state_ms=tuple((state, states_ms.get(state.name, 0)) for state in ConnectorState),
        faults=tuple((code, int(code is FaultCode.METER_LOST)) for code in FaultCode),
    )


STATISTICS: Final = StationStatistics(
    process=ProcessStatistics(
        3_600_000, 48_000_000, 61_500_000, Lateness((9, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1), 1_234, 999)
    ),
    evses=(_evse(1, AVAILABLE=1_000_000, CHARGING=2_000_001), _evse(2, FAULTED=3_000_000)),
    buses=(
        BusStatistics("/dev/ttyUSB0", 1_000, (("gone", 0), ("silent", 3), ("garbage", 1), ("refused", 0)), 996, 9, 5),
        BusStatistics("/dev/ttyS1", 100, (("gone", 1), ("silent", 0), ("garbage", 0), ("refused", 0)), 0, 0, 0),
    ),
    temperatures=(Temperature(2, "module 0", 41_000), Temperature(2, "module 1", -500)),
    ledger=LedgerStatistics(5_000, 4_000, 3_210_000, 10, NOW_MS - 61_500),
    disk_free_bytes=900_000_000,
    disk_size_bytes=4_000_000_000,
)
HEALTH: Final = (
    PartHealth(Part.METER, 1, Condition.OK),
    PartHealth(Part.METER, 2, Condition.FAULT, "meter_lost", "energy meter does not answer", "look at its cable"),
    PartHealth(Part.METER, 2, Condition.FAULT, "meter_implausible", "its register fell", "look at its cable"),
    PartHealth(Part.CERTIFICATES, 0, Condition.WARNING, "certificate_expiring", "expires soon", "renew it"),
    PartHealth(Part.BUS, 1, Condition.FAULT, "bus_gone", "the port is gone", "look at the adapter"),
    PartHealth(Part.BUS, 1, Condition.WARNING, "bus_garbled", "much is damaged", "look at the shield"),
    PartHealth(Part.READER, 1, Condition.ABSENT),
)
GATEWAY: Final = GatewayStatistics(
    ProcessStatistics(1_800_000, 52_000_000, 30_000_000),
    LinkStatistics(True, 1_700_000, 2, (("unreachable", 3), ("silent", 1)), "silent: no pong within 20 s", 40, 42),
)
TEXT: Final = metrics_text(STATUS, STATISTICS, HEALTH, GATEWAY)
WITHOUT_STATION: Final = metrics_text(None, None, (), GATEWAY)
WITHOUT_CSMS: Final = metrics_text(STATUS, STATISTICS, HEALTH, replace(GATEWAY, link=None))


def families(text: str) -> list[Metric]:
    """As Prometheus's own client library reads them; it refuses what the format does not allow (``ValueError``)."""
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
