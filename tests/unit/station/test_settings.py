"""Settings as the CSMS writes them: each change is one row, and what changes nothing is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from agent.config.catalogue import PASSWORD, key
from agent.config.load import load
from agent.config.networks import PRIORITY
from agent.config.station_model import build_device_model
from agent.config.variable import Key
from agent.core.events import Configured, LedgerRoom
from agent.core.facts import LogFact, SecurityFact
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station
from agent.ipc.port import News, SettingsChanged, SettingWrite
from agent.ledger.state import Namespace, Put, StateChange
from agent.sim.virtual_time import run_virtual
from agent.station.settings import Settings

CONFIG = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
HEARTBEAT, INTERVAL = key("OCPPCommCtrlr.HeartbeatInterval"), key("SampledDataCtrlr.TxUpdatedInterval")
LONG_PASSWORD = "a-password-of-the-csms"


class Bystander:
    """Tokens, monitoring and networks, which have nothing against a value."""

    def configure(self) -> None: ...

    def look_soon(self) -> None: ...

    def wrong_order(self, value: str) -> str:
        return ""


@dataclass
class Bench:
    kept: list[StateChange] = field(default_factory=list)
    facts: list[LogFact | SecurityFact] = field(default_factory=list)
    told: list[News] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = build_device_model(CONFIG)
        self.core = Station(StationSettings((EvseHardware(1, 32_000),)), lambda: "tx")
        beside = cast(Any, Bystander())
        self.settings = Settings(CONFIG, self.model, self.core, beside, beside, beside, self, lambda: 0, asyncio.Lock())

    def give(self, event: Configured | LedgerRoom) -> None:
        self.core.step(event, 0)

    def publish(self, news: News) -> None:
        self.told.append(news)

    async def save(self, changes: Sequence[StateChange]) -> None:
        await asyncio.sleep(0.01)
        self.kept += changes

    def append(self, *facts: LogFact | SecurityFact) -> None:
        self.facts += facts

    async def write(self, *values: tuple[Key, str]) -> list[str]:
        return await self.settings.set(
            [SettingWrite(name.component, name.variable, text) for name, text in values], "1.6"
        )


def test_the_same_value_twice_is_one_row() -> None:
    """A CSMS that configures its stations at every boot would leave rows that stay for years."""
    made = Bench()
    for _ in range(3):
        assert run_virtual(made.write((HEARTBEAT, "77"))) == ["Accepted"]
    assert made.kept == [Put(Namespace.SETTING, "OCPPCommCtrlr.HeartbeatInterval", "77")]
    [fact] = made.facts
    assert isinstance(fact, LogFact) and fact.details[1:3] == (("before", "300"), ("after", "77"))
    assert made.told == [SettingsChanged({"OCPPCommCtrlr.HeartbeatInterval": "77"})]


def test_of_many_values_those_that_change_are_written() -> None:
    made = Bench()
    default = made.model.text(HEARTBEAT)
    assert run_virtual(made.write((HEARTBEAT, f" {default}"), (INTERVAL, "61"), (HEARTBEAT, "x"))) == [
        "Accepted",
        "Accepted",
        "Rejected",
    ]
    assert made.told == [SettingsChanged({"SampledDataCtrlr.TxUpdatedInterval": "61"})]
    assert len(made.facts) == len(made.kept) == 1


def test_what_waits_for_a_restart_says_so_though_nothing_changes() -> None:
    made = Bench()
    assert run_virtual(made.write((PRIORITY, made.model.text(PRIORITY)))) == ["RebootRequired"]
    assert (made.kept, made.facts, made.told) == ([], [], [])


def test_a_secret_that_stays_as_it_is_is_no_security_event() -> None:
    made = Bench()
    for _ in range(2):
        assert run_virtual(made.write((PASSWORD, LONG_PASSWORD))) == ["Accepted"]
    assert [type(fact) for fact in made.facts] == [LogFact, SecurityFact] and len(made.told) == 1
    assert LONG_PASSWORD not in repr(made.facts)
    run_virtual(made.write((PASSWORD, LONG_PASSWORD[::-1])))
    assert len(made.facts) == 4


def test_writes_at_once_are_made_one_after_another() -> None:
    """The second is held against the value that the first has written, not against the one before."""

    async def at_once(*values: str) -> list[list[str]]:
        return list(await asyncio.gather(*(made.write((HEARTBEAT, value)) for value in values)))

    made = Bench()
    default = made.model.text(HEARTBEAT)
    assert run_virtual(at_once("77", "77", default)) == [["Accepted"]] * 3
    assert made.model.text(HEARTBEAT) == default
    assert [change.value for change in made.kept if isinstance(change, Put)] == ["77", default]


@pytest.mark.parametrize(
    ("enough", "scarce", "status"),
    [
        (False, True, "Rejected"),
        (True, True, "Accepted"),
        (False, False, "Accepted"),  # no transaction may begin after damage, but there is room
    ],
)
def test_where_the_disk_has_no_room_nothing_is_changed_but_the_password(
    enough: bool, scarce: bool, status: str
) -> None:
    made = Bench()
    made.give(LedgerRoom(enough, scarce))
    unchanged = made.model.text(INTERVAL)
    written = run_virtual(made.write((HEARTBEAT, "77"), (INTERVAL, unchanged), (PASSWORD, LONG_PASSWORD)))
    assert written == [status, "Accepted", "Accepted"]
    assert made.model.text(PASSWORD) == LONG_PASSWORD and len(made.told) == 1
