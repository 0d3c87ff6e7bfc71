"""Monitoring on a bench: a station in virtual time, a ledger in memory that outlives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.config.load import load
from agent.config.station_model import build_device_model, modules_of
from agent.config.variable import Key
from agent.core.facts import EventFact, Fact, VariableName
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station
from agent.health.catalogue import CATALOGUE
from agent.health.model import Condition, PartHealth
from agent.ipc.monitors import MonitorType, MonitorWrite, SetMonitorStatus
from agent.ipc.port import SettingsChanged
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.monitoring.hard_wired import monitors_of
from agent.monitoring.rules import CLEAR_AFTER_MS
from agent.sim.virtual_time import now_ms, run_virtual
from agent.station.monitoring import Monitoring

CONFIG = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
EVSES = modules_of(CONFIG)
TROUBLES = sorted(monitors_of(EVSES))
POWER = VariableName("EVSE", "Power", evse=1)
STATE = VariableName("EVSE", "AvailabilityState", evse=1)
WALL_MS = 1_795_507_200_000
CLEAR_S = CLEAR_AFTER_MS / 1_000 + 2


@dataclass
class Bench:
    """A station's monitoring: what it writes, and what it finds there after a restart."""

    csms: bool = True
    facts: list[EventFact] = field(default_factory=list)
    kept: dict[Namespace, dict[str, str]] = field(default_factory=dict)
    news: list[SettingsChanged] = field(default_factory=list)
    told: int = 0  # facts that the CSMS has
    refreshed: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        config = CONFIG if self.csms else replace(CONFIG, csms=None)
        hardware = tuple(EvseHardware(evse=evse, hard_limit_ma=32_000) for evse in EVSES)
        self.core = Station(StationSettings(evses=hardware), lambda: "tx")
        self.core.ctx.wall_offset_ms = WALL_MS
        self.model = build_device_model(config, stored=self.state(Namespace.SETTING))
        self.monitoring = Monitoring(config, self.model, self.core, self, self, self._refresh)

    def _refresh(self) -> None:
        self.refreshed += 1
        self.monitoring.provide()

    # ------------------------------------------------------------------------------ archive, shell

    def state(self, namespace: Namespace) -> dict[str, str]:
        return dict(self.kept.get(namespace, {}))

    def untold_events(self) -> int:
        return len(self.facts) - self.told

    def now_ms(self) -> int:
        return now_ms()

    def publish(self, news: SettingsChanged) -> None:
        self.news.append(news)

    async def save(self, changes: Sequence[StateChange]) -> None:
        await asyncio.sleep(0.01)
        self._keep(changes)

    def commit(self, facts: Sequence[Fact], changes: Sequence[StateChange]) -> None:
        self.facts += [fact for fact in facts if isinstance(fact, EventFact)]
        self._keep(changes)

    def _keep(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            if isinstance(change, Put):
                self.kept.setdefault(change.namespace, {})[change.key] = change.value
            elif isinstance(change, Delete):
                self.kept.get(change.namespace, {}).pop(change.key, None)

    # ----------------------------------------------------------------------------------------- verbs

    def wrong(self, *codes: str, evse: int = 0, condition: Condition = Condition.OK) -> None:
        """These and no other codes are wrong with their part; with none, ``condition`` is how the parts of all are."""
        for part in {CATALOGUE[code].part for code in codes}:
            entries = [CATALOGUE[code] for code in codes if CATALOGUE[code].part is part]
            self.monitoring.hear([PartHealth(part, evse, e.condition, e.code, e.text, e.remedy) for e in entries])

    def well(self, code: str, evse: int = 0, condition: Condition = Condition.OK) -> None:
        """The part of ``code`` has nothing."""
        self.monitoring.hear([PartHealth(CATALOGUE[code].part, evse, condition)])

    async def put(self, watts: int, seconds: float = 1.0) -> None:
        """EVSE 1 takes so much power for so long."""
        self.model.put(Key("EVSE", "Power", evse=1), str(watts))
        await asyncio.sleep(seconds)

    async def set(self, kind: MonitorType, value: str, name: VariableName = POWER, **more: Any) -> int:
        """The id of a new monitor."""
        (answer,) = await self.monitoring.set([MonitorWrite(name, kind, value, **{"severity": 5} | more)])
        assert answer.status is SetMonitorStatus.ACCEPTED, answer
        assert answer.id is not None
        return answer.id

    @property
    def said(self) -> list[tuple[str, bool]]:
        """Values and whether they are back to normal."""
        return [(fact.value, fact.cleared) for fact in self.facts]

    @property
    def codes(self) -> list[tuple[str, bool]]:
        return [(fact.tech_code, fact.cleared) for fact in self.facts]


def on_a_bench(
    story: Callable[[Bench], Coroutine[Any, Any, None]], *, dialect: str | None = "2.0.1", **more: Any
) -> None:
    async def main() -> None:
        bench = Bench(**more)
        bench.monitoring.link(dialect)
        try:
            await story(bench)
        finally:
            bench.monitoring.close()

    run_virtual(main())
