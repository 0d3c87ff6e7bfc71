"""Monitors at work: values and troubles become events for the CSMS.

Charter: the station's part of OCPP 2.0.1 block N. It keeps the monitors, looks at their values once a second, takes
troubles from the station's health as they come, and writes what is to be told as rows of the ledger, which is the
queue: rows are told in order, once, over link losses and restarts. It decides nothing about power and never runs
within the handling of an event of the station.

An event is written only if somebody will hear of it: severity within ActiveMonitoringLevel, and either a link that
speaks 2.x or, without a link, a severity within OfflineQueuingSeverity. What cannot be told now is not lost: what was
told is remembered (over restarts too, N07.FR.14), and compared with what holds as soon as it can be. So the CSMS hears
of what holds then; what came and went meanwhile stays untold.

Limits: a monitor speaks ``BURST`` times at once and then every ten seconds; all that the CSMS has set, and all that are
hard-wired, together ``BURST_OF_ALL`` times and then every twenty seconds, since every row stays for years. At most
``UNTOLD_MAX`` rows wait. An alert or a change that has to wait is told late; of the others the next event says how many
were left out.

Sources: OCPP 2.0.1 part 2 N03 to N08; checklist 20-TE-11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from agent.allowance import Allowance
from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.model import Config
from agent.config.monitoring_catalogue import (
    ACTIVE_BASE,
    ACTIVE_LEVEL,
    BASES,
    MONITORING_ENABLED,
    OFFLINE_SEVERITY,
)
from agent.config.station_model import modules_of
from agent.config.variable import DataType
from agent.core.facts import EventFact, EventTrigger, Fact, MonitorOrigin
from agent.core.station import Station
from agent.health.catalogue import CATALOGUE
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.codec import CodecError, from_json, from_stored, to_json, to_plain
from agent.ipc.monitors import ClearMonitorStatus, Monitor, MonitorAnswer, MonitorWrite, SetMonitorStatus
from agent.ipc.port import SettingsChanged
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.monitoring.book import FIRST_CUSTOM_ID, SEVERITIES, MonitorBook, key_of
from agent.monitoring.hard_wired import Trouble, monitors_of
from agent.monitoring.rules import Memory, Now, Spoken, evaluate

LOOK_EVERY_S: Final = 1.0
BURST, REFILL_MS = 10, 10_000
BURST_OF_ALL, REFILL_OF_ALL_MS = 200, 20_000
UNTOLD_MAX: Final = {MonitorOrigin.CUSTOM: 500, MonitorOrigin.HARD_WIRED: 1_000}
VALUE_MAX_CHARS, INFO_MAX_CHARS = 2_500, 500

_NEXT_ID, _CUSTOM, _ALERT, _TOLD = "next", "custom", "alert", "told"  # keys of the kept state
_RAISED, _CLEARED = Spoken(EventTrigger.ALERTING), Spoken(EventTrigger.ALERTING, cleared=True)
_PROBLEM: Final = key("ChargingStation.Problem")

log = structlog.get_logger("monitoring")


class Shell(Protocol):
    def now_ms(self) -> int: ...

    def publish(self, news: SettingsChanged) -> None: ...

    async def save(self, changes: Sequence[StateChange]) -> None: ...

    def commit(self, facts: Sequence[Fact], changes: Sequence[StateChange]) -> None:
        """Facts and changes in one commit."""
        ...


class Archive(Protocol):
    """What the ledger holds already; ``agent.station.archive.Archive`` is one."""

    def state(self, namespace: Namespace) -> dict[str, str]: ...

    def untold_events(self) -> int:
        """How many rows of monitors wait for the CSMS."""
        ...


class Monitoring:
    """See the module. ``refresh`` brings the device model's computed values up to date."""

    def __init__(
        self,
        config: Config,
        model: DeviceModel,
        core: Station,
        archive: Archive,
        shell: Shell,
        refresh: Callable[[], None],
    ) -> None:
        self._has_csms = config.csms is not None
        self._model = model
        self._core = core
        self._archive = archive
        self._shell = shell
        self._refresh = refresh
        self._hard_wired = monitors_of(modules_of(config))
        kept = archive.state(Namespace.MONITOR)
        next_id = int(kept.get(_NEXT_ID, FIRST_CUSTOM_ID))
        self._book = MonitorBook(model, set(self._hard_wired.values()), _custom(kept), next_id)
        self._memories = {each.id: Memory(alerting=f"{_ALERT} {each.id}" in kept) for each in self._book.custom}
        self._told = {each for each in self._hard_wired if _told_key(each) in kept}
        self._seen: dict[tuple[Part, int], tuple[PartHealth, ...]] = {}
        self._allowances: dict[int, Allowance] = {}
        self._of_all = {origin: Allowance(BURST_OF_ALL, REFILL_OF_ALL_MS) for origin in MonitorOrigin}
        self._left_out: dict[int, int] = {}
        self._dialect: str | None = None
        self._held_back = False
        self._untold: int | None = None  # rows that wait, counted once in a look
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        if self._book.custom:
            self._look_later(LOOK_EVERY_S)

    def close(self) -> None:
        """Look no more, whatever the devices still tell while they are closed."""
        self._closed = True
        self._look_later(None)

    # ------------------------------------------------------------------------------ what happens

    def link(self, dialect: str | None) -> None:
        """The CSMS came, with this version of OCPP, or went (None)."""
        if dialect != self._dialect:
            self._dialect = dialect
            self.look_soon()

    def hear(self, parts: Sequence[PartHealth]) -> None:
        """The health of these parts changed."""
        for place in dict.fromkeys((each.part, each.evse) for each in parts):
            self._seen[place] = tuple(each for each in parts if (each.part, each.evse) == place)
        self.look_soon()

    def look_soon(self) -> None:
        """Look as soon as what happens now is over."""
        self._look_later(0)

    def provide(self) -> None:
        """Bring the problem variables up to date."""
        present = self._present()
        true = {self._hard_wired[trouble].name for trouble in present}
        for monitor in self._hard_wired.values():
            if monitor.name.connector is None:  # a connector's has more to it than health
                self._model.put(key_of(monitor.name), "true" if monitor.name in true else "false")
        if any(row.condition is Condition.FAULT for row in present.values()):
            self._model.put(_PROBLEM, "true")

    # ---------------------------------------------------------------------------------- requests

    def monitors(self) -> list[Monitor]:
        return self._book.all()

    async def set(self, writes: Sequence[MonitorWrite]) -> list[MonitorAnswer]:
        """N04. Durable before it returns."""
        before = {each.id: each for each in self._book.custom}
        answers = [self._book.set(write) for write in writes]
        changed = {answer.id for answer in answers if answer.status is SetMonitorStatus.ACCEPTED}
        changes: list[StateChange] = []
        for monitor in self._book.custom:
            if monitor.id in changed:
                changes += self._changed(before.get(monitor.id), monitor)
        if changes:
            await self._shell.save([*changes, Put(Namespace.MONITOR, _NEXT_ID, str(self._book.next_id))])
        self.look()
        return answers

    def _changed(self, before: Monitor | None, monitor: Monitor) -> list[StateChange]:
        """A monitor begins anew; one that alerts is held against its new threshold (N07.FR.11)."""
        memory = self._memories.get(monitor.id, Memory())
        alerting = memory.alerting and before is not None and before.type is monitor.type
        self._memories[monitor.id] = Memory(alerting=alerting)
        kept = Put(Namespace.MONITOR, f"{_CUSTOM} {monitor.id}", to_json(to_plain(monitor)).decode())
        return [kept] if alerting else [kept, Delete(Namespace.MONITOR, f"{_ALERT} {monitor.id}")]

    async def clear(self, ids: Sequence[int]) -> list[ClearMonitorStatus]:
        """N06. What alerts goes without a word (N07.FR.12)."""
        statuses = [self._book.clear(monitor_id) for monitor_id in ids]
        gone = [each for each, status in zip(ids, statuses, strict=True) if status is ClearMonitorStatus.ACCEPTED]
        if gone:
            await self._shell.save(self._forget(gone))
        return statuses

    async def set_base(self, base: str) -> str:
        """N03; a GenericDeviceModelStatusEnumType. This product has no preconfigured monitors."""
        if base not in BASES:
            return "NotSupported"
        gone = [] if base == "All" else self._book.clear_custom()
        await self._set(ACTIVE_BASE, base, self._forget(gone))
        return "Accepted"

    async def set_level(self, severity: int) -> str:
        """N05; a GenericStatusEnumType."""
        if severity not in SEVERITIES:
            return "Rejected"
        await self._set(ACTIVE_LEVEL, str(severity))
        self.look_soon()
        return "Accepted"

    async def _set(self, name: str, value: str, more: Sequence[StateChange] = ()) -> None:
        self._model.put(key(name), value)
        await self._shell.save([Put(Namespace.SETTING, name, value), *more])
        self._shell.publish(SettingsChanged({name: value}))

    def _forget(self, ids: Sequence[int]) -> list[StateChange]:
        for monitor_id in ids:
            for known in (self._memories, self._allowances, self._left_out):
                known.pop(monitor_id, None)
        return [Delete(Namespace.MONITOR, f"{what} {each}") for each in ids for what in (_CUSTOM, _ALERT)]

    # ----------------------------------------------------------------------------------- looking

    def look(self) -> None:
        """Hold everything against what was told of it."""
        self._held_back, self._untold = False, None
        self._tell_troubles()
        custom = self._book.custom
        if custom:
            self._refresh()
            now_ms = self._shell.now_ms()
            for monitor in custom:
                self._look_at(monitor, Now(now_ms, now_ms + self._core.ctx.wall_offset_ms))
        self._look_later(LOOK_EVERY_S if custom or self._held_back else None)

    def _look_later(self, after_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if after_s is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(after_s, self.look)

    def _look_at(self, monitor: Monitor, now: Now) -> None:
        memory = self._memories.get(monitor.id, Memory())
        if monitor.transaction and not self._runs_at(monitor):
            self._memories[monitor.id] = Memory(alerting=memory.alerting)
            return
        name = key_of(monitor.name)
        value, numeric = self._model.text(name), self._model.spec(name).type in (DataType.INTEGER, DataType.DECIMAL)
        after, spoken = evaluate(monitor, memory, value, now, numeric=numeric)
        if spoken is None or self._spoke(monitor, spoken, value) or spoken.trigger is EventTrigger.PERIODIC:
            self._memories[monitor.id] = after

    def _spoke(self, monitor: Monitor, spoken: Spoken, value: str) -> bool:
        """Tell it if that can be done now."""
        if not self._is_heard(monitor):
            return False
        left_out = self._left_out.get(monitor.id, 0)
        if not self._has_room(monitor):
            self._left_out[monitor.id] = left_out + (spoken.trigger is not EventTrigger.ALERTING)
            return False
        changes: list[StateChange] = []
        if spoken.trigger is EventTrigger.ALERTING:
            kept = f"{_ALERT} {monitor.id}"
            change = Delete(Namespace.MONITOR, kept) if spoken.cleared else Put(Namespace.MONITOR, kept, "")
            changes.append(change)
        info = f"{left_out} events of this monitor before this one were left out" if left_out else ""
        self._tell(monitor, spoken, value, changes, info=info)
        self._left_out.pop(monitor.id, None)
        return True

    # ---------------------------------------------------------------------------------- troubles

    def _present(self) -> dict[Trouble, PartHealth]:
        """What health says is wrong. A code at a place that cannot have it (the gateway's mistake) is nobody's."""
        rows = {(row.code, row.evse): row for rows in self._seen.values() for row in rows if row.code}
        return {trouble: row for trouble, row in rows.items() if trouble in self._hard_wired}

    def _tell_troubles(self) -> None:
        present = self._present()
        for trouble, row in present.items():
            if trouble not in self._told and self._may_tell(self._hard_wired[trouble]):
                put = Put(Namespace.MONITOR, _told_key(trouble), "")
                self._tell_trouble(trouble, row, [put])
                self._told.add(trouble)
        for trouble in sorted(self._told - set(present)):
            self._tell_end(trouble, present)

    def _tell_trouble(self, trouble: Trouble, row: PartHealth, changes: Sequence[StateChange]) -> None:
        info = f"{row.reason}. {row.remedy}"
        self._tell(self._hard_wired[trouble], _RAISED, "true", changes, code=trouble[0], info=info)

    def _tell_end(self, trouble: Trouble, present: dict[Trouble, PartHealth]) -> None:
        """A trouble is over. What shares its monitor is told again, or the CSMS would think that all is well."""
        code, monitor = trouble[0], self._hard_wired[trouble]
        if not self._is_looked_at(trouble) or not self._may_tell(monitor):
            return
        same = any(self._hard_wired[each].name == monitor.name for each in present)
        change = Delete(Namespace.MONITOR, _told_key(trouble))
        info = f"over: {CATALOGUE[code].text}"
        self._tell(monitor, _CLEARED, "true" if same else "false", [change], code=code, info=info)
        self._told.discard(trouble)
        for other, row in present.items():
            if other in self._told and self._hard_wired[other] == monitor:
                self._tell_trouble(other, row, [])

    def _is_looked_at(self, trouble: Trouble) -> bool:
        """Whether health knows how the part of a trouble is: after a start nobody does at first."""
        code, evse = trouble
        rows = self._seen.get((CATALOGUE[code].part, evse), ())
        return any(row.condition is not Condition.UNKNOWN for row in rows)

    # ---------------------------------------------------------------------------------- telling

    def _may_tell(self, monitor: Monitor) -> bool:
        return self._is_heard(monitor) and self._has_room(monitor)

    def _is_heard(self, monitor: Monitor) -> bool:
        """Whether anybody will hear of it. Nobody does in OCPP 1.6, which has StatusNotification for troubles."""
        level = self._model.integer(key(ACTIVE_LEVEL))
        if not self._has_csms or not self._model.boolean(key(MONITORING_ENABLED)) or monitor.severity > level:
            return False
        if self._dialect is None:
            return monitor.severity <= self._model.integer(key(OFFLINE_SEVERITY))
        return self._dialect != "1.6"

    def _has_room(self, monitor: Monitor) -> bool:
        """Whether the limits allow one more event of this monitor; if so it counts."""
        own = self._allowances.setdefault(monitor.id, Allowance(BURST, REFILL_MS))
        both, at_ms = (own, self._of_all[monitor.origin]), self._shell.now_ms()
        free = all(each.has_one(at_ms) for each in both)
        ctx = self._core.ctx
        free = free and (monitor.origin is MonitorOrigin.HARD_WIRED or (ctx.ledger_room and not ctx.ledger_scarce))
        if self._untold is None:
            self._untold = self._archive.untold_events()
        if not free or self._untold >= UNTOLD_MAX[monitor.origin]:
            self._held_back = True
            return False
        self._untold += 1
        for each in both:
            each.take()
        return True

    def _tell(
        self,
        monitor: Monitor,
        spoken: Spoken,
        value: str,
        changes: Sequence[StateChange],
        *,
        code: str = "",
        info: str = "",
    ) -> None:
        """Write the event."""
        fact = EventFact(
            monitor.name,
            spoken.trigger,
            monitor.id,
            monitor.origin,
            monitor.severity,
            value[:VALUE_MAX_CHARS],
            cleared=spoken.cleared,
            tech_code=code,
            tech_info=info[:INFO_MAX_CHARS],
            in_tx=None if monitor.name.evse is None else self._running().get(monitor.name.evse),
        )
        self._shell.commit([fact], changes)
        log.info("event", variable=str(key_of(monitor.name)), code=code, cleared=spoken.cleared, value=fact.value)

    def _running(self) -> dict[int, str]:
        return {evse_id: evse.flow.tx.tx_id for evse_id, evse in self._core.evses.items() if evse.flow.tx is not None}

    def _runs_at(self, monitor: Monitor) -> bool:
        """Whether a transaction runs where the monitor looks."""
        running = self._running()
        return bool(running) if monitor.name.evse is None else monitor.name.evse in running


def _custom(kept: dict[str, str]) -> list[Monitor]:
    """The CSMS's monitors as they were kept; what cannot be read (written by a newer release) is left out."""
    found = []
    for name, text in kept.items():
        if not name.startswith(f"{_CUSTOM} "):
            continue
        try:
            found.append(from_stored(from_json(text.encode()), Monitor))
        except CodecError as error:
            log.warning("kept monitor cannot be read", monitor=name, why=str(error))
    return sorted(found, key=lambda monitor: monitor.id)


def _told_key(trouble: Trouble) -> str:
    code, evse = trouble
    return f"{_TOLD} {evse} {code}"
