"""The running station and its gateway in numbers: what they take, what they did, how lines, link and disk do.

Charter: plain data that the station answers with and the gateway makes metrics of. Everything that counts does so
from the start of its process, from zero, and never falls before its end; what is not a count is of the instant
it was asked for. What must survive a restart (energy registers, rows, usage by the hour) is kept elsewhere.

Units: ms, us, bytes, 0.001 degrees Celsius; ``wall_ms`` is UTC in milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.core.status import ConnectorState, FaultCode

LATENESS_BOUNDS_US: Final = (1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
"""Upper bounds of the histogram of lateness: from what a quiet machine shows to what a pilot would notice."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late an event loop called back a timer.

    ``counts``: callbacks up to each of ``LATENESS_BOUNDS_US`` late and later than the bound before; the last of them,
    one more than there are bounds, later than all. ``max_us`` is the longest of the last minute or two."""

    counts: tuple[int, ...] = (0,) * (len(LATENESS_BOUNDS_US) + 1)
    sum_us: int = 0
    max_us: int = 0


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """What a process takes. ``rss_bytes`` counts shared pages in full; ``cpu_us`` is user and system time."""

    uptime_ms: int = 0
    rss_bytes: int = 0
    cpu_us: int = 0
    lateness: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """One line to devices, named by its port or channel.

    ``exchanges``: requests, or messages where the device speaks by itself; failed ones included. ``failures`` are by
    ``hal.ports.LossKind``, each kind once. ``timed`` of the exchanges have a latency, from request to whole answer."""

    bus: str
    exchanges: int
    failures: tuple[tuple[str, int], ...]
    timed: int
    latency_sum_us: int
    latency_max_us: int


@dataclass(frozen=True, slots=True)
class EvseStatistics:
    """What an EVSE did. ``state_ms``: time in each connector state; ``faults``: how often each came, all codes."""

    evse: int
    transactions_started: int
    transactions_ended: int
    transaction_ms: int
    state_ms: tuple[tuple[ConnectorState, int], ...]
    faults: tuple[tuple[FaultCode, int], ...]


@dataclass(frozen=True, slots=True)
class Temperature:
    """What a device tells of its own temperature. ``sensor`` names it within its EVSE."""

    evse: int
    sensor: str
    milli_celsius: int


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """``head_seq`` rows were ever written, ``rows`` are held, in ``size_bytes`` on disk with all side files (None: the
    disk cannot be looked at).

    ``waiting`` rows stand behind the cursor of the CSMS, of every kind; the first that it is to be told of is of
    ``oldest_waiting_wall_ms`` (None: there is none). Where no CSMS is configured nothing waits."""

    head_seq: int
    rows: int
    size_bytes: int | None
    waiting: int
    oldest_waiting_wall_ms: int | None


@dataclass(frozen=True, slots=True)
class StationStatistics:
    """See the module. ``disk`` is the file system of the data directory; what is free is what the station may use.
    None: it cannot be looked at."""

    process: ProcessStatistics
    evses: tuple[EvseStatistics, ...]
    buses: tuple[BusStatistics, ...]
    temperatures: tuple[Temperature, ...]
    ledger: LedgerStatistics
    disk_free_bytes: int | None
    disk_size_bytes: int | None


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """The link to the CSMS, from the gateway's start.

    ``up_ms`` is the time for which there was a link; ``reconnects``: links after the first; ``failures``: ends of links
    and of attempts, by ``agent.ocpp.link_failure.FailureKind``, each kind once; ``last_failure`` is in plain words."""

    up: bool
    up_ms: int
    reconnects: int
    failures: tuple[tuple[str, int], ...]
    last_failure: str
    frames_in: int
    frames_out: int


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """What the gateway knows by itself. ``link`` None: no CSMS is configured."""

    process: ProcessStatistics
    link: LinkStatistics | None
