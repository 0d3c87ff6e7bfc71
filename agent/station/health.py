"""The health of the whole station: what core, devices, files, clock and other processes show, gathered and told.

Charter: looks and changes nothing. A trouble that comes or goes is a line in the log and news for whoever is
connected. The gateway tells of its own parts; without it these are unknown. Whoever knows of troubles of its own
(upkeep, updates) is asked for them at each look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import structlog

from agent.core.events import FromMeter, FromPilot, FromPower
from agent.core.evse import Evse
from agent.core.station import Station
from agent.core.status import FaultCode
from agent.health.catalogue import CATALOGUE
from agent.health.fold import Finding, HealthFold, Place, Rest
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import HealthChanged
from agent.ipc.statistics import ProcessStatistics
from agent.station.build import Build
from hal.ports import LossKind, Lost, ModuleFaults

GATEWAY: Final = "gateway"
LOOK_EVERY_MS: Final = 1_000
GATEWAY_AWAY_MS: Final = 60_000
CLOCK_PATIENCE_MS: Final = 600_000
CRASH_SHOWN_MS: Final = 86_400_000
MEMORY_HIGH_BYTES: Final = 128 * 1024 * 1024
LOOP_LATE_US: Final = 500_000
_REPORT_MAX: Final = 32
_REASON_MAX_CHARS: Final = 500

_DEVICES: Final = {FromPilot: Part.PILOT, FromMeter: Part.METER, FromPower: Part.POWER_MODULE}
_OF_THE_STATION: Final = (Part.LEDGER, Part.DISK, Part.CLOCK, Part.SLOTS, Part.PROCESSES)
_OF_THE_GATEWAY: Final = (Part.CSMS_LINK, Part.CERTIFICATES)
_REPORTED: Final = frozenset({*_OF_THE_GATEWAY, Part.PROCESSES})
_BUS_CODES: Final = {LossKind.GONE: "bus_gone", LossKind.GARBAGE: "bus_garbled"}
_LOSS_OF: Final = {
    FaultCode.PILOT_LOST: Part.PILOT,
    FaultCode.METER_LOST: Part.METER,
    FaultCode.METER_IMPLAUSIBLE: Part.METER,
    FaultCode.POWER_MODULE_LOST: Part.POWER_MODULE,
}
_WELL: Final = Rest()
_ABSENT: Final = Rest(Condition.ABSENT)
_SILENT: Final = Rest(Condition.UNKNOWN, "has not answered yet")
_NO_BOARD: Final = Rest(Condition.UNKNOWN, "the pilot board does not answer")
_NO_GATEWAY: Final = Rest(Condition.UNKNOWN, "the gateway does not answer")

log = structlog.get_logger("health")


class Shell(Protocol):
    def publish(self, news: HealthChanged) -> None: ...


class StationHealth:
    """See the module. Call ``hear`` with each device event, ``look`` after every event. ``process`` tells
    of this process, ``troubles`` of what others know of their own."""

    def __init__(
        self,
        build: Build,
        core: Station,
        shell: Shell,
        process: Callable[[], ProcessStatistics],
        troubles: Callable[[], Iterable[Finding]],
    ) -> None:
        self._config = build.config
        self._core = core
        self._shell = shell
        self._process = process
        self._troubles = troubles
        self._crashed = build.boot_cause == "Watchdog"
        self._started_at_ms = build.started_at_ms
        self._fold = HealthFold()
        self._answered: set[Place] = set()
        self._losses: dict[Place, Lost] = {}
        self._alarms: dict[int, str] = {}  # of power modules, by EVSE
        self._faults: list[tuple[FaultCode, ...]] = []  # as they were at the last look
        self._report: tuple[PartHealth, ...] = ()
        self._rests: dict[Place, Rest] = self._rests_now()
        self._gateway_gone_ms: int | None = build.started_at_ms
        self._due_ms = 0

    # --------------------------------------------------------------------------------------- senses

    def hear(self, event: FromPilot | FromMeter | FromPower) -> None:
        """A device said something."""
        place, said = (_DEVICES[type(event)], event.evse), event.event
        if isinstance(said, Lost):
            self._losses[place] = said
            self._answered.discard(place)
        else:
            self._losses.pop(place, None)
            if isinstance(said, ModuleFaults):
                self._alarms[event.evse] = ", ".join(sorted(fault.value.replace("_", " ") for fault in said.faults))
            if place in self._answered:
                return
            self._answered.add(place)
        self._rests = self._rests_now()
        self._due_ms = 0

    def take_report(self, process: str, parts: Sequence[PartHealth]) -> None:
        """A process tells of its own parts, all of them."""
        known = [replace(row, reason=row.reason[:_REASON_MAX_CHARS]) for row in parts if _is_reportable(row)]
        if process != GATEWAY or len(known) < len(parts):
            log.warning("report of parts not taken", process=process[:40], rows=len(parts) - len(known))
        if process == GATEWAY:
            self._hear_gateway(tuple(known[:_REPORT_MAX]), None)

    def gateway_gone(self) -> None:
        self._hear_gateway((), self._core.ctx.at_ms)

    def gateway_is_there(self) -> bool:
        return self._gateway_gone_ms is None

    def _hear_gateway(self, report: tuple[PartHealth, ...], gone_ms: int | None) -> None:
        self._report, self._gateway_gone_ms = report, gone_ms
        self._rests = self._rests_now()
        self._look_now()

    def parts(self) -> list[PartHealth]:
        """See ``agent.ipc.port.StationPort.health``."""
        self._look_now()
        return self._fold.parts(self._core.ctx.wall_offset_ms)

    # ----------------------------------------------------------------------------------------- looks

    def look(self) -> None:
        """Something happened. Faults of an EVSE are seen at once, all else within ``LOOK_EVERY_MS``."""
        faults = [evse.faults.active for evse in self._core.evses.values()]
        if faults != self._faults or self._core.ctx.at_ms >= self._due_ms:
            self._faults = faults
            self._look_now()

    def _look_now(self) -> None:
        ctx = self._core.ctx
        self._due_ms = ctx.at_ms + LOOK_EVERY_MS
        changes = self._fold.look(self._findings(), self._rests, ctx.at_ms, ctx.wall_offset_ms)
        for row in changes.raised:
            tell = log.error if row.condition is Condition.FAULT else log.warning
            more = {"reason": row.reason, "remedy": row.remedy, "latched": row.latched}
            tell("fault", **_words(row), **more, since_wall_ms=row.since_wall_ms)  # no two equal lines: none is dropped
        for row in changes.cleared:
            log.info("fault cleared", **_words(row))
        if changes.parts:
            self._shell.publish(HealthChanged(changes.parts))

    def _findings(self) -> Iterator[Finding]:
        for evse in self._core.evses.values():
            yield from self._of_evse(evse)
        if not self._core.ctx.ledger_ok:
            yield Finding(FaultCode.LEDGER.value)
        yield from self._of_clock()
        yield from self._of_processes()
        for row in self._report:
            if row.code:
                yield Finding(row.code, 0, row.reason)
        yield from self._troubles()

    def _of_evse(self, evse: Evse) -> Iterator[Finding]:
        number = evse.hardware.evse
        for code in evse.faults.active:
            if code is FaultCode.LEDGER:
                continue  # the station's as a whole
            detail = ""
            if code in _LOSS_OF and (loss := self._losses.get((_LOSS_OF[code], number))) is not None:
                detail = loss.detail
            elif code is FaultCode.POWER_MODULE:
                detail = self._alarms.get(number, "")
            yield Finding(code.value, number, detail)
        for (part, where), loss in self._losses.items():
            if where == number and loss.kind in _BUS_CODES:
                yield Finding(_BUS_CODES[loss.kind], number, f"{part.value.replace('_', ' ')}: {loss.detail}")

    def _of_clock(self) -> Iterator[Finding]:
        ctx = self._core.ctx
        if ctx.time_status == "U":
            yield Finding("clock_unset")
        elif ctx.time_status != "S" and self._config.csms is not None and self._runs_for(CLOCK_PATIENCE_MS):
            yield Finding("clock_unconfirmed")

    def _of_processes(self) -> Iterator[Finding]:
        if self._crashed and not self._runs_for(CRASH_SHOWN_MS):
            yield Finding("process_crashed")
        away = self._gateway_gone_ms
        if away is not None and self._config.csms is not None and self._core.ctx.at_ms - away >= GATEWAY_AWAY_MS:
            yield Finding("gateway_away")
        this = self._process()
        if this.rss_bytes >= MEMORY_HIGH_BYTES:
            yield Finding("memory_high")
        if this.lateness.max_us >= LOOP_LATE_US:
            yield Finding("loop_late")

    def _runs_for(self, duration_ms: int) -> bool:
        return self._core.ctx.at_ms - self._started_at_ms >= duration_ms

    # ----------------------------------------------------------------------------------------- rests

    def _rests_now(self) -> dict[Place, Rest]:
        """Rests on who has answered, and on the gateway's report."""
        rests: dict[Place, Rest] = {(part, 0): _WELL for part in _OF_THE_STATION}
        rests[Part.READER, 0] = _ABSENT
        if self._config.update is None:
            rests[Part.SLOTS, 0] = _ABSENT
        for part in _OF_THE_GATEWAY:
            rests[part, 0] = _ABSENT if self._config.csms is None else _NO_GATEWAY
        rests |= {(row.part, 0): Rest(row.condition, row.reason) for row in self._report if not row.code}
        for evse in self._core.evses.values():
            rests |= self._rests_of(evse)
        return rests

    def _rests_of(self, evse: Evse) -> dict[Place, Rest]:
        number = evse.hardware.evse
        board = _WELL if (Part.PILOT, number) in self._answered else _NO_BOARD
        return {
            (Part.PILOT, number): self._answers(Part.PILOT, number),
            (Part.METER, number): self._answers(Part.METER, number),
            (Part.POWER_MODULE, number): self._answers(Part.POWER_MODULE, number) if evse.hardware.dc else _ABSENT,
            (Part.CONTACTOR, number): board,
            (Part.TEMPERATURE, number): board,
            (Part.LOCK, number): _ABSENT if evse.lock is None else board,
            (Part.BUS, number): _WELL,
        }

    def _answers(self, part: Part, number: int) -> Rest:
        return _WELL if (part, number) in self._answered else _SILENT


def _is_reportable(row: PartHealth) -> bool:
    of_code = CATALOGUE.get(row.code)
    fits = not row.code or (of_code is not None and of_code.part is row.part)
    return row.part in _REPORTED and row.evse == 0 and fits


def _words(row: PartHealth) -> dict[str, Any]:
    """What a line of the log says of a trouble."""
    words = {"code": row.code, "part": row.part.value, "severity": CATALOGUE[row.code].severity.name.lower()}
    return words | ({"evse": row.evse} if row.evse else {})
