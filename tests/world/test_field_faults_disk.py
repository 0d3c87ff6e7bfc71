"""Field fault 3 at the whole station: files that a blackout tore, zeroed or lost.

A simulated station has one transaction told, a second one in the ledger only, and loses its power. Its files are
damaged in every way that the list has, and it starts again: it must start, keep what is sound, say what is not, and
charge the next car. Damage at every sector of the ledger by itself is ``tests/unit/ledger``'s and ``tests/crash``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.core.facts import Token
from agent.core.status import FaultCode
from agent.ipc.port import SettingWrite
from agent.ledger.reader import LedgerReader
from agent.sim.scenario.expectations import all_told, available, charging, finished, offline, online, preparing
from agent.sim.scenario.play import draw, expect, play, scenario
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.verbs import (
    CARD,
    STATION,
    ChangeAvailability,
    Limit,
    Reset,
    cut_power,
    drop_link,
    kill,
    plug,
    restore_link,
    restore_power,
    swipe,
    unplug,
)
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.device_faults import Fault
from agent.station.service import StationService

VERSIONS = ("1.6", "2.0.1")
RESUME_WINDOW_MS = 660_000
TAMPER = "TamperDetectionActivated"
Damage = Callable[[Path], object]

SESSION = (
    plug(),
    expect(preparing()),
    swipe(CARD),
    expect(charging()),
    draw(wh=1, for_ms=1_100),
    swipe(CARD),
    expect(finished()),
    unplug(),
    expect(available()),
)
BEFORE = scenario(
    "one session told, one not",
    expect(online()),
    *SESSION,
    expect(all_told()),
    drop_link(),
    expect(offline()),
    *SESSION,
)
AFTER = scenario("the next car", expect(online()), expect(available()), *SESSION, expect(all_told()))


class DamagedWorld(QuietWorld):
    """Somebody was at its disk: it cannot know what must be there, and says only what the program itself does wrong."""

    def _find_what_is_on_disk(self) -> None:
        self.mirror.resume_at(0)

    def wrong(self, evse: int, text: str) -> None:
        if "error of the program" in text:
            super().wrong(evse, text)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garbled(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00\x80" * (file.stat().st_size // 4 + 1))


def without_a_sector(file: Path) -> None:
    """The 512 bytes at two thirds are zeros."""
    data, at = bytearray(file.read_bytes()), file.stat().st_size * 2 // 3 // 512 * 512
    data[at : at + 512] = bytes(512)
    file.write_bytes(data)


WAYS = {each.__name__: each for each in (zeroed, emptied, halved, garbled, without_a_sector)}
GONE = "gone"


@dataclass(frozen=True, slots=True)
class After:
    """When the next car has charged. ``told``: transactions of the CSMS that are whole; ``evidence``: what was set
    aside, by the end of its name, ``damaged`` what was there before."""

    told: int
    events: tuple[str, ...]
    complaints: tuple[str, ...]
    evidence: dict[str, bytes]
    damaged: dict[str, bytes]


def contents(ledger: Path, kind: str) -> dict[str, bytes]:
    """The ledger and its log, where they are there."""
    files = {end: ledger.with_name(ledger.name + kind + end) for end in ("", "-wal")}
    return {end: file.read_bytes() for end, file in files.items() if file.exists()}


def start_again(version: str, name: str, damage: Damage, wait_ms: int = 0) -> After:
    async def story(rig: WorldRig) -> After:
        world = rig.world
        await play(BEFORE, rig)
        await rig.do(cut_power())
        ledger = world.disk.path
        file = ledger.with_name(name)
        if not file.exists():  # a note that is left only now and then
            file.write_bytes(b"RemoteReset")
        damage(file)
        damaged = contents(ledger, "")
        await rig.do(restore_power())
        await rig.do(restore_link())
        await rig.wait(wait_ms)
        await play(scenario("it is back", expect(online())), rig)
        if contents(ledger, ".damaged-1"):
            await let_a_person_see(rig)
        await play(AFTER, rig)
        with LedgerReader(ledger) as reader:
            assert not list(reader.audit())
        book = world.office.book
        evidence = contents(ledger, ".damaged-1")
        whole = sum(each.starts >= 1 and each.ends >= 1 for each in book.transactions.values())
        return After(whole, tuple(book.security_events), world.listener.complaints(), evidence, damaged)

    return on_a_world_rig(version, story, DamagedWorld)


async def let_a_person_see(rig: WorldRig) -> None:
    """Faults and limits are lost with such a file: nothing starts, after a further restart neither, until a person has
    seen it."""
    await rig.do(plug())
    for _ in range(2):
        await rig.wait(30_000)
        assert await station(rig).present_token(Token(CARD), 1) == "not available now"
        await rig.do(kill(STATION))
    await rig.wait(30_000)
    assert "fault, availability, profile" in (await station(rig).status()).alarm
    assert await station(rig).acknowledge_damage()
    await rig.do(kill(STATION))
    await play(scenario("it leaves", unplug(), expect(available())), rig)
    assert not await station(rig).acknowledge_damage()


def station(rig: WorldRig) -> StationService:
    assert rig.world.life is not None
    return rig.world.life.station.service


@pytest.mark.parametrize("version", VERSIONS)
def test_field_fault_03_what_was_promised_outlives_a_bad_sector(version: str) -> None:
    """A latched fault, Inoperative, a limit and a setting: the damage is in a row, and takes nothing else with it."""

    async def promises(rig: WorldRig) -> list[object]:
        faulted, closed = (await rig.look()).evses
        settings = await station(rig).read_settings([SettingWrite("OCPPCommCtrlr", "HeartbeatInterval", "")])
        schedule = await station(rig).composite_schedule(0, 60, "A")
        assert schedule is not None
        return [faulted.state, faulted.faults, closed.state, schedule.periods, settings]

    async def story(rig: WorldRig) -> None:
        await play(scenario("a session", expect(online()), *SESSION), rig)
        rig.world.disturb(1)
        rig.world.outlets[1].fault(Fault.RESIDUAL_SELF_TEST)
        await rig.wait(60_000)
        rig.world.outlets[1].clear(Fault.RESIDUAL_SELF_TEST)
        assert await rig.do(Limit(10)) == await rig.do(ChangeAvailability(operative=False, evse=2)) == "Accepted"
        assert await station(rig).set_settings([SettingWrite("OCPPCommCtrlr", "HeartbeatInterval", "77")]) == [
            "Accepted"
        ]
        assert await rig.do(Reset()) == "Accepted"  # the log of the ledger goes into the file
        await rig.wait(120_000)
        before = await promises(rig)
        assert before[:3] == ["Faulted", (FaultCode.RESIDUAL_SELF_TEST.value,), "Unavailable"]
        await rig.do(cut_power())
        ledger = rig.world.disk.path
        ledger.write_bytes(ledger.read_bytes().replace(b'"product":"evsed"', bytes(17)))
        await rig.do(restore_power())
        await rig.wait(120_000)
        assert contents(ledger, ".damaged-1")
        assert await promises(rig) == before
        assert "fault" not in (await station(rig).status()).alarm

    on_a_world_rig(version, story, DamagedWorld)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", ["zeroed", "emptied", "halved", "garbled", GONE])
def test_field_fault_03_damaged_ledger(version: str, way: str) -> None:
    """All of it is kept as evidence, a fresh one begins, and the CSMS hears of it."""
    after = start_again(version, "ledger.sqlite", WAYS.get(way, Path.unlink))
    assert after.evidence == after.damaged
    assert TAMPER in after.events
    assert after.told == 2 and not after.complaints


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", [*WAYS, GONE])
def test_field_fault_03_damaged_log_of_the_ledger(version: str, way: str) -> None:
    """What was in the log is lost with it, the sound rows before are kept: no fresh ledger begins."""
    # Where the end of a transaction is lost, it is open again, and must have ended before the next car comes.
    after = start_again(version, "ledger.sqlite-wal", WAYS.get(way, Path.unlink), RESUME_WINDOW_MS)
    assert not after.evidence and TAMPER not in after.events
    assert after.told >= 2


@pytest.mark.parametrize("way", ["zeroed", "emptied", "garbled", GONE])
@pytest.mark.parametrize("name", ["boot-cause", "kernel-boot"])
def test_field_fault_03_damaged_notes_of_the_last_run(name: str, way: str) -> None:
    """They are hints only: nothing is lost."""
    after = start_again("2.0.1", name, WAYS.get(way, Path.unlink))
    assert not after.evidence and not after.complaints
    assert after.told == 3
