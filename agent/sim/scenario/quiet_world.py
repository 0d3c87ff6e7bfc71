"""A world in which nothing happens by itself, on a site without whims: what the world rig plays on.

Charter: ``World`` with a plain site in place of a drawn one, nobody who comes, and a ``Listener`` at its back office.

Units: ms of virtual time, s in settings.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.config.load import load
from agent.ocpp.timestamps import to_rfc3339
from agent.sim.scenario import verbs
from agent.sim.scenario.listener import Listener
from agent.sim.world.calm import rest
from agent.sim.world.manners import Manners
from agent.sim.world.pace import SECONDS
from agent.sim.world.profile import QUIET
from agent.sim.world.site import make_site
from agent.sim.world.vehicle import Habit, Vehicle
from agent.sim.world.wire import Network
from agent.sim.world.world import World

_ATTEMPTS: Final = 2
_ROLLOVER_KWH: Final = 100_000
_SETTINGS: Final = {
    "SampledDataCtrlr.TxUpdatedInterval": "1",
    "AlignedDataCtrlr.Interval": "0",
    "SampledDataCtrlr.SignReadings": "false",
    "TxCtrlr.StopTxOnEVSideDisconnect": "true",
    "OCPPCommCtrlr.WebSocketPingInterval": "1",
    "OCPPCommCtrlr.MessageAttempts[TransactionEvent]": str(_ATTEMPTS),
    "OCPPCommCtrlr.MessageAttemptInterval[TransactionEvent]": "1",
    "OCPPCommCtrlr.RetryBackOffRandomRange": "0",
}
_WANTED: Final = (32_000, 600, 3)  # of a supply, a resume window, phases


class _NoWhims(random.Random):
    """Draws the plain site: what is wanted where it is offered, else what comes first; nothing that is optional."""

    def choice(self, options: Any) -> Any:
        return next((each for each in options if each in _WANTED), options[0])

    def random(self) -> float:
        return 0.999


class Car(Vehicle):
    """A car that pauses and goes on when it is told to."""

    def pause(self) -> None:
        self._awake = False
        self.changed()

    def wake(self) -> None:
        self._awake = True
        self.changed()

    def take_habit(self, habit: Habit) -> None:
        self.habits |= {habit}
        self.changed()

    def lose_habits(self) -> None:
        self.habits = frozenset()
        self.changed()


class QuietWorld(World):
    """A world in which only the rig does anything."""

    def __init__(self, version: str, folder: Path) -> None:
        profile = replace(QUIET, manners=Manners(booked_anyway=0.0))
        seed = 0 if version == "1.6" else 1
        make_site(folder, seed, _NoWhims(), version, SECONDS)
        super().__init__(seed, profile, SECONDS, load(_plain_site(folder / "evsed.toml")))
        self.office.excuses.attempts = _ATTEMPTS
        for outlet in self.outlets.values():
            outlet.meter.step_mwh = 1  # a fine meter: draws are tiny
        self.listener = Listener(self.office)
        self.network = Network(self.listener, self.chance("network"))

    def begin(self) -> None:
        self._switch_on()

    def csms_time(self) -> str:
        return to_rfc3339(self._csms_wall_ms())

    def step_csms_clock(self, by_ms: int) -> None:
        self.csms_tells_wrong_time(self._csms_error_ms + by_ms)

    def spoil_clock(self, *, lost: bool, stood: bool) -> None:
        """At the next boot the machine's clock begins in 1970, or where it stood."""
        self._clock_lost, self._clock_stood = lost, stood

    async def rest(self) -> None:
        """Wait until nothing is left to do, and let all accounts agree."""
        await rest(self)
        if self.failure is None:
            self.accounts.settle()


def _plain_site(file: Path) -> Path:
    """The drawn site's file with the settings that scenarios rest on, and their second card."""
    text = file.read_text()
    for name in _SETTINGS:
        text = re.sub(rf'^"{re.escape(name)}" = .*\n', "", text, flags=re.MULTILINE)
    values = "".join(f'"{name}" = {value}\n' for name, value in _SETTINGS.items())
    text = text.replace("[settings]\n", f"[settings]\n{values}")
    text = text.replace("[evse.meter]\n", f"[evse.meter]\nrollover_kwh = {_ROLLOVER_KWH}\n")
    file.write_text(f'{text}\n[[token]]\nid = "{verbs.OTHER_CARD}"\n')
    return file
