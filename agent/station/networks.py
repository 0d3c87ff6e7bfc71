"""The CSMS moves the station to another CSMS: slots filled, their order judged, the one that works remembered.

Charter: what a CSMS may set of network profiles, kept durably; the gateway goes by it from the next start on. What a
profile is and in which order slots are tried is ``agent.config.networks``'.

A slot that the order names is not written to: a mistake there would cut the station off, and another slot is free.

Source: OCPP 2.0.1 part 2 A05, B09, B10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from agent.config.catalogue import PASSWORD
from agent.config.device_model import DeviceModel
from agent.config.model import Config
from agent.config.networks import (
    ACTIVE,
    CSMS_SLOTS,
    PRIORITY,
    SECURITY_PROFILE,
    order_in,
    outdated,
    profile_in,
    security_profiles_in,
    settings_of,
    worked_last_in,
    wrong_with,
)
from agent.config.variable import Key
from agent.core.facts import LogFact, SecurityFact
from agent.ipc.networks import NetworkProfile
from agent.ipc.port import News, SettingsChanged
from agent.ledger.state import Delete, Namespace, StateChange
from agent.station.changed_settings import keep

log = structlog.get_logger("station")


class Shell(Protocol):
    def publish(self, news: News) -> None: ...

    async def save(self, changes: Sequence[StateChange]) -> None:
        """Returns when the changes are durable."""
        ...

    def append(self, *facts: LogFact | SecurityFact) -> None: ...


class Networks:
    """See the module. ``has_roots``: the CSMS has installed a root of its own. ``turn``: held by whoever changes
    settings; what he finds holds until his own values do."""

    def __init__(
        self, config: Config, model: DeviceModel, has_roots: Callable[[], bool], shell: Shell, turn: asyncio.Lock
    ) -> None:
        self._csms = config.csms
        self._model = model
        self._has_roots = has_roots
        self._shell = shell
        self._turn = turn

    async def store(self, slot: int, profile: NetworkProfile, dialect: str | None) -> str:
        """See ``StationPort.set_network_profile``."""
        async with self._turn:
            return await self._store(slot, profile, dialect)

    async def _store(self, slot: int, profile: NetworkProfile, dialect: str | None) -> str:
        csms = self._csms
        if csms is None:
            return "this station is configured without a CSMS"
        if slot not in CSMS_SLOTS:
            return f"configurationSlot is one of {', '.join(map(str, CSMS_SLOTS))}"
        settings = self._settings()
        if slot in (*order_in(settings), worked_last_in(settings)):
            return f"slot {slot} is in use"
        wrong = wrong_with(
            profile,
            csms,
            self._model.integer(SECURITY_PROFILE),
            has_password=csms.password_file is not None or self._model.text(PASSWORD) != "",
            has_root=csms.ca_file is not None or csms.url.startswith("wss") or self._has_roots(),
        )
        if not wrong:
            await self._keep(settings_of(csms, slot, profile), dialect)
        return wrong

    def wrong_order(self, value: str) -> str:
        """Why NetworkConfigurationPriority cannot be this (a list of known slots); empty: it can (A05, B10)."""
        filled, least = security_profiles_in(self._settings()), self._model.integer(SECURITY_PROFILE)
        for slot in map(int, value.split(",")):
            if slot not in filled:
                return f"slot {slot} is empty"
            if filled[slot] < least:
                return f"slot {slot} has a lower security profile than {least}, which is in use"
        return ""

    async def worked(self, slot: int) -> None:
        """See ``StationPort.network_worked``."""
        async with self._turn:
            await self._worked(slot)

    async def _worked(self, slot: int) -> None:
        settings = self._settings()
        profile = profile_in(settings, slot)
        if profile is None or profile.security_profile < self._model.integer(SECURITY_PROFILE):
            return
        least, filled = profile.security_profile, security_profiles_in(settings)
        listed = [each for each in self._model.members(PRIORITY) if filled.get(int(each), -1) >= least]
        after = {ACTIVE: str(slot), SECURITY_PROFILE: str(least), PRIORITY: ",".join(listed) or str(slot)}
        changed = {name: value for name, value in after.items() if self._model.text(name) != value}
        if changed:
            log.info("network profile works", slot=slot, url=profile.url)
            await self._keep(changed, None)

    async def _keep(self, values: Mapping[Key, str], dialect: str | None) -> None:
        kept = self._model.persistent()
        if all(kept.get(str(name)) == value for name, value in values.items()):
            return
        changed = {str(name): value for name, value in values.items() if self._model.text(name) != value}
        await keep(self._model, self._shell, values, dialect)
        self._shell.publish(SettingsChanged(changed))

    def _settings(self) -> dict[str, str]:
        return self._model.snapshot()


def forgotten(config: Config, stored: Mapping[str, str]) -> list[StateChange]:
    """What is to be kept no longer, since the configuration file names another CSMS."""
    names = outdated(config.csms, stored)
    if names:
        log.warning("the configuration file names another CSMS: what the last one has set of networks is forgotten")
    return [Delete(Namespace.SETTING, name) for name in names]
