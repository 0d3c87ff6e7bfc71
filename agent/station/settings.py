"""The settings as the outside sets, reads and reports them.

Charter: what is accepted is durable before it is confirmed, and holds at once in the core and for tokens, unless it
waits for the next start. What a value may be is the device model's; of an order of networks ``networks`` judges, too.
Each change is a row that stays for years: a value that is there already is none, and where the disk has no room left
nothing is changed but the password, since what is left is for the ends of transactions.

Source: OCPP 2.0.1 part 2 B05 to B07.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from agent.config.catalogue import PASSWORD
from agent.config.device_model import DeviceModel, ReportBase, SetResult, SetStatus
from agent.config.model import Config
from agent.config.networks import PRIORITY
from agent.config.report import report_data
from agent.config.variable import Key
from agent.core.events import Configured
from agent.core.facts import LogFact, SecurityFact
from agent.core.station import Station
from agent.ipc.port import News, SettingsChanged, SettingWrite
from agent.ledger.state import StateChange
from agent.station.behaviour import behaviour_of, provide_live_values
from agent.station.changed_settings import keep
from agent.station.monitoring import Monitoring
from agent.station.networks import Networks
from agent.station.tokens import Tokens

log = structlog.get_logger("station")


class Shell(Protocol):
    def give(self, event: Configured) -> None: ...

    def publish(self, news: News) -> None: ...

    async def save(self, changes: Sequence[StateChange]) -> None:
        """Returns when the changes are durable."""
        ...

    def append(self, *facts: LogFact | SecurityFact) -> None: ...


class Settings:
    """See the module."""

    def __init__(
        self,
        config: Config,
        model: DeviceModel,
        core: Station,
        tokens: Tokens,
        monitoring: Monitoring,
        networks: Networks,
        shell: Shell,
        wall_ms: Callable[[], int],
        turn: asyncio.Lock,
    ) -> None:
        self._config = config
        self._model = model
        self._core = core
        self._tokens = tokens
        self._monitoring = monitoring
        self._networks = networks
        self._shell = shell
        self._wall_ms = wall_ms
        self._turn = turn  # what a write finds holds until its own values do

    async def set(self, writes: list[SettingWrite], dialect: str | None) -> list[str]:
        """See ``StationPort.set_settings``; ``dialect`` of the CSMS on the link."""
        async with self._turn:
            return await self._set(writes, dialect)

    async def _set(self, writes: list[SettingWrite], dialect: str | None) -> list[str]:
        results = [self._check(write) for write in writes]
        accepted = {r.key: r.value for r in results if r.key is not None and r.value is not None}
        changed = {key: value for key, value in accepted.items() if value != self._model.text(key)}
        if changed:
            await keep(self._model, self._shell, changed, dialect)
            self._shell.give(Configured(behaviour_of(self._model, self._config)))
            self._tokens.configure()
            self._shell.publish(SettingsChanged({str(key): value for key, value in changed.items()}))
            self._monitoring.look_soon()
        for write, result in zip(writes, results, strict=True):
            if result.reason:
                log.info("setting refused", setting=str(_key(write)), reason=result.reason)
        return [result.status.value for result in results]

    def read(self, reads: list[SettingWrite]) -> list[tuple[str, str | None]]:
        """See ``StationPort.read_settings``."""
        self.refresh()
        results = [self._model.get(_key(read), read.attribute) for read in reads]
        return [(result.status.value, result.value) for result in results]

    def report(self, base: str) -> list[dict[str, Any]] | None:
        """See ``StationPort.report``."""
        try:
            wanted = ReportBase(base)
        except ValueError:
            return None
        self.refresh()
        return [report_data(entry) for entry in self._model.report(wanted)]

    def refresh(self) -> None:
        """Bring the computed values up to date."""
        wall = datetime.fromtimestamp(self._wall_ms() / 1_000, UTC)
        text = wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        provide_live_values(self._model, list(self._core.views()), operative=self._core.available, date_time=text)
        self._monitoring.provide()

    def _check(self, write: SettingWrite) -> SetResult:
        result = self._model.check(_key(write), write.value, write.attribute)
        if result.key == PRIORITY and result.value is not None and (why := self._networks.wrong_order(result.value)):
            return SetResult(SetStatus.REJECTED, reason=why)
        if result.key not in (None, PASSWORD) and result.value != self._model.text(result.key) and self._is_full():
            return SetResult(SetStatus.REJECTED, reason="no room on the ledger's disk")
        return result

    def _is_full(self) -> bool:
        """After damage no transaction may begin either, but there is room."""
        ctx = self._core.ctx
        return ctx.ledger_scarce and not ctx.ledger_room


def _key(write: SettingWrite) -> Key:
    return Key(write.component, write.variable, write.instance, write.evse, write.connector, write.component_instance)
