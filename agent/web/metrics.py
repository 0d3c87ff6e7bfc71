"""The metrics of a charger, as OpenMetrics text.

Charter: pure; numbers in, text out. Every family is here, and its names and labels are a promise to dashboards and
alert rules elsewhere: docs/monitoring.md lists them. The sets of labels are bounded by the configuration and by the
enumerations of the code: nothing that a driver, a vehicle or a CSMS says ever becomes a label.

Base units as the convention has them: energy in joules (3.6 MJ are a kWh), so that the rate of energy is power in
watts with no factor. What counts begins at 0 with its process; the energy register is the meter's own, and goes on.
A value that is not known now is absent, never 0 and never an old one.

Source: OpenMetrics 1.0.0; Prometheus documentation, "Metric and label naming".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from agent.core.status import ConnectorState, EvseView, FaultCode
from agent.health.model import Condition, PartHealth
from agent.ipc.port import StationStatus
from agent.ipc.statistics import (
    LATENESS_BOUNDS_US,
    BusStatistics,
    EvseStatistics,
    GatewayStatistics,
    LedgerStatistics,
    LinkStatistics,
    ProcessStatistics,
    StationStatistics,
    Temperature,
)
from agent.web.openmetrics import Exposition, decimal

_PHASES = ("L1", "L2", "L3")


def metrics_text(
    status: StationStatus | None,
    statistics: StationStatistics | None,
    health: Sequence[PartHealth],
    gateway: GatewayStatistics,
) -> str:
    """All metrics of this instant. ``status`` and ``statistics`` None: the station does not answer, and only what the
    gateway knows by itself is told. ``health``: the worst of a part first, as the station's port gives it."""
    out = Exposition()
    out.family("evsed_station_up", "gauge", "Whether the station process answers the gateway.")
    out.sample(int(status is not None))
    processes = {"gateway": gateway.process}
    if status is not None:
        _station(out, status)
        _evses(out, status.evses)
    if statistics is not None:
        processes["station"] = statistics.process
        _counted(out, statistics.evses)
        _temperatures(out, statistics.temperatures)
        _buses(out, statistics.buses)
        _ledger(out, statistics.ledger, status)
        _disk(out, statistics)
    if health:
        _health(out, health)
    if gateway.link is not None:
        _link(out, gateway.link)
    _processes(out, processes)
    return out.text()


def _station(out: Exposition, status: StationStatus) -> None:
    out.family("evsed_station", "info", "Which charger this is, and what runs on it.")
    out.sample(
        1,
        identity=status.identity,
        software_version=status.software_version,
        firmware_version=status.firmware_version or status.software_version,
    )
    out.family("evsed_clock_trusted", "gauge", "Whether wall time comes from the CSMS or another trusted source.")
    out.sample(int(status.time_status == "S"))


# ------------------------------------------------------------------------------------------- EVSEs


def _evses(out: Exposition, views: Iterable[EvseView]) -> None:
    views = tuple(views)
    out.family("evsed_evse_state", "gauge", "1 for the state of the connector (OCPP 1.6 ChargePointStatus), else 0.")
    for view in views:
        for state in ConnectorState:
            out.sample(int(view.state is state), evse=view.evse, state=state.value)
    out.family("evsed_evse_fault_active", "gauge", "1 for a fault that the EVSE has now, else 0.")
    for view in views:
        for code in FaultCode:
            out.sample(int(code in view.faults), evse=view.evse, code=code.value)
    flags: dict[str, tuple[str, Callable[[EvseView], bool]]] = {
        "operative": ("Whether the EVSE is available for new sessions.", lambda view: view.operative),
        "contactor_closed": ("Whether the contactor is closed.", lambda view: view.contactor_closed),
        "transaction_running": ("Whether a transaction runs.", lambda view: view.tx_id is not None),
    }
    for name, (help_text, of_view) in flags.items():
        out.family(f"evsed_evse_{name}", "gauge", help_text)
        for view in views:
            out.sample(int(of_view(view)), evse=view.evse)
    _measured(out, views)


def _measured(out: Exposition, views: Sequence[EvseView]) -> None:
    _each(out, "power", "watts", "Power drawn, by the meter.", {view.evse: view.power_mw for view in views})
    out.family("evsed_evse_current_amperes", "gauge", "Current drawn, by the meter.", "amperes")
    _phases(out, {view.evse: view.current_ma for view in views})
    out.family("evsed_evse_voltage_volts", "gauge", "Voltage, by the meter.", "volts")
    _phases(out, {view.evse: view.voltage_mv for view in views})
    limits = {view.evse: view.limit_ma for view in views}
    _each(out, "current_limit", "amperes", "What hardware, profiles and load sharing allow, per phase.", limits)
    offered = {view.evse: view.offered_ma for view in views}
    _each(out, "current_offered", "amperes", "What the vehicle is offered, per phase.", offered)
    out.family("evsed_evse_energy_import_joules", "counter", "The meter's own import register.", "joules")
    for view in views:
        if view.energy_import_mwh is not None:
            out.sample(_joules(view.energy_import_mwh), evse=view.evse)
    out.family("evsed_evse_transaction_energy_joules", "gauge", "Energy of the transaction that runs.", "joules")
    for view in views:
        if view.session_energy_mwh is not None:
            out.sample(_joules(view.session_energy_mwh), evse=view.evse)


def _each(out: Exposition, name: str, unit: str, help_text: str, thousandths: Mapping[int, int | None]) -> None:
    """One gauge per EVSE."""
    out.family(f"evsed_evse_{name}_{unit}", "gauge", help_text, unit)
    for evse, value in thousandths.items():
        if value is not None:
            out.sample(decimal(value, 3), evse=evse)


def _phases(out: Exposition, thousandths: Mapping[int, tuple[int | None, int | None, int | None]]) -> None:
    for evse, values in thousandths.items():
        for phase, value in zip(_PHASES, values, strict=True):
            if value is not None:
                out.sample(decimal(value, 3), evse=evse, phase=phase)


def _joules(mwh: int) -> str:
    return decimal(mwh * 36, 1)


def _counted(out: Exposition, evses: Sequence[EvseStatistics]) -> None:
    out.family("evsed_evse_transactions_started", "counter", "Transactions that began.")
    for each in evses:
        out.sample(each.transactions_started, evse=each.evse)
    out.family("evsed_evse_transactions_ended", "counter", "Transactions that ended.")
    for each in evses:
        out.sample(each.transactions_ended, evse=each.evse)
    out.family("evsed_evse_transaction_seconds", "counter", "Time for which a transaction ran.", "seconds")
    for each in evses:
        out.sample(decimal(each.transaction_ms, 3), evse=each.evse)
    out.family("evsed_evse_state_seconds", "counter", "Time that the connector was in each state.", "seconds")
    for each in evses:
        for state, spent_ms in each.state_ms:
            out.sample(decimal(spent_ms, 3), evse=each.evse, state=state.value)
    out.family("evsed_evse_faults", "counter", "How often each fault came.")
    for each in evses:
        for code, times in each.faults:
            out.sample(times, evse=each.evse, code=code.value)


def _temperatures(out: Exposition, temperatures: Iterable[Temperature]) -> None:
    out.family("evsed_evse_temperature_celsius", "gauge", "What devices of the EVSE tell of themselves.", "celsius")
    for each in temperatures:
        out.sample(decimal(each.milli_celsius, 3), evse=each.evse, sensor=each.sensor)


# ---------------------------------------------------------------------------------- lines and disk


def _buses(out: Exposition, buses: Sequence[BusStatistics]) -> None:
    out.family("evsed_bus_exchanges", "counter", "Requests on a line to devices, or messages; failed ones included.")
    for each in buses:
        out.sample(each.exchanges, bus=each.bus)
    out.family("evsed_bus_failures", "counter", "Exchanges that failed: port gone, silent, garbage, refused.")
    for each in buses:
        for kind, times in each.failures:
            out.sample(times, bus=each.bus, kind=kind)
    timed = [each for each in buses if each.timed]
    out.family("evsed_bus_latency_seconds", "summary", "From a request to its whole answer.", "seconds")
    for each in timed:
        out.sample(each.timed, "_count", bus=each.bus)
        out.sample(decimal(each.latency_sum_us, 6), "_sum", bus=each.bus)
    out.family("evsed_bus_latency_max_seconds", "gauge", "The longest since the station's start.", "seconds")
    for each in timed:
        out.sample(decimal(each.latency_max_us, 6), bus=each.bus)


def _ledger(out: Exposition, ledger: LedgerStatistics, status: StationStatus | None) -> None:
    out.family("evsed_ledger_rows_written", "counter", "Rows that were ever written to the ledger.")
    out.sample(ledger.head_seq)
    out.family("evsed_ledger_rows", "gauge", "Rows that the ledger holds.")
    out.sample(ledger.rows)
    if ledger.size_bytes is not None:
        out.family("evsed_ledger_size_bytes", "gauge", "The ledger's files on disk.", "bytes")
        out.sample(ledger.size_bytes)
    out.family("evsed_ledger_waiting_rows", "gauge", "Rows that the CSMS has yet to be told of: the offline queue.")
    out.sample(ledger.waiting)
    if status is not None:
        name = "evsed_ledger_oldest_waiting_age_seconds"
        out.family(name, "gauge", "Age of the oldest row that waits for the CSMS; 0: none does.", "seconds")
        oldest_ms = ledger.oldest_waiting_wall_ms
        out.sample("0" if oldest_ms is None else decimal(max(0, status.wall_ms - oldest_ms), 3))


def _disk(out: Exposition, statistics: StationStatistics) -> None:
    if statistics.disk_free_bytes is not None:
        out.family("evsed_disk_free_bytes", "gauge", "Room on the file system of the data directory.", "bytes")
        out.sample(statistics.disk_free_bytes)
    if statistics.disk_size_bytes is not None:
        out.family("evsed_disk_size_bytes", "gauge", "Size of the file system of the data directory.", "bytes")
        out.sample(statistics.disk_size_bytes)


# ------------------------------------------------------------------------------------------ health


def _health(out: Exposition, health: Sequence[PartHealth]) -> None:
    worst: dict[tuple[str, int], Condition] = {}
    for each in health:
        worst.setdefault((each.part.value, each.evse), each.condition)
    out.family("evsed_health", "gauge", "1 for the condition of a part, else 0; evse 0 is the station as a whole.")
    for (part, evse), now in worst.items():
        for condition in Condition:
            out.sample(int(now is condition), part=part, evse=evse, condition=condition.value)
    out.family("evsed_health_trouble", "gauge", "1 for each trouble that a part has now; absent without it.")
    for part, evse, code in dict.fromkeys((each.part.value, each.evse, each.code) for each in health if each.code):
        out.sample(1, part=part, evse=evse, code=code)


# -------------------------------------------------------------------------------- link and processes


def _link(out: Exposition, link: LinkStatistics) -> None:
    out.family("evsed_csms_link_up", "gauge", "Whether there is a link to the CSMS.")
    out.sample(int(link.up))
    out.family("evsed_csms_connected_seconds", "counter", "Time for which there was a link.", "seconds")
    out.sample(decimal(link.up_ms, 3))
    out.family("evsed_csms_reconnects", "counter", "Links after the first.")
    out.sample(link.reconnects)
    out.family("evsed_csms_failures", "counter", "Ends of links and of attempts to connect, by what it was.")
    for kind, times in link.failures:
        out.sample(times, kind=kind)
    out.family("evsed_csms_frames", "counter", "OCPP messages.")
    out.sample(link.frames_in, direction="in")
    out.sample(link.frames_out, direction="out")


def _processes(out: Exposition, processes: Mapping[str, ProcessStatistics]) -> None:
    out.family("evsed_process_uptime_seconds", "gauge", "Time since the process began.", "seconds")
    for name, each in processes.items():
        out.sample(decimal(each.uptime_ms, 3), process=name)
    out.family("evsed_process_resident_memory_bytes", "gauge", "Resident memory, shared pages in full.", "bytes")
    for name, each in processes.items():
        out.sample(each.rss_bytes, process=name)
    out.family("evsed_process_cpu_seconds", "counter", "User and system time.", "seconds")
    for name, each in processes.items():
        out.sample(decimal(each.cpu_us, 6), process=name)
    out.family("evsed_loop_lateness_seconds", "histogram", "How late the event loop called back a timer.", "seconds")
    for name, each in processes.items():
        bounds = [*(str(bound_us / 1_000_000) for bound_us in LATENESS_BOUNDS_US), "+Inf"]  # canonical: 1.0, not 1
        sums = list(accumulate(each.lateness.counts))
        for bound, count in zip(bounds, sums, strict=True):
            out.sample(count, "_bucket", process=name, le=bound)
        out.sample(sums[-1], "_count", process=name)
        out.sample(decimal(each.lateness.sum_us, 6), "_sum", process=name)
    out.family("evsed_loop_lateness_max_seconds", "gauge", "The longest of the last minute or two.", "seconds")
    for name, each in processes.items():
        out.sample(decimal(each.lateness.max_us, 6), process=name)
