"""What a station does from time to time: room on disk, the live tariff, a whole check of the ledger."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import agent.station.upkeep
from agent.cli.processes import EXIT_CONFIG, EXIT_IO
from agent.core.events import LedgerRoom
from agent.core.facts import Fact, LogEntry, LogFact, SecurityFact, TariffFact
from agent.ipc.codec import encode_fact
from agent.ledger.space import Reserve
from agent.sim.virtual_time import run_virtual
from agent.sim.world.disk import FreeSpace
from agent.station.build import make_durable_directory
from agent.station.logic import PricesChanged
from agent.station.upkeep import CHECK_EVERY_S, CHECK_FIRST_AFTER_S, ROOM_EVERY_S, Upkeep
from tests.unit.ledger.making import new_row, opened, write
from tests.unit.ledger.test_store import tamper

TARIFF = {"tariffId": "live-1", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.4}]}}


@dataclass
class World:
    """Shell and billing in one."""

    given: list[LedgerRoom | PricesChanged] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    retired: int = 0
    used: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    busy: bool = False

    @property
    def tariffs(self) -> World:
        return self

    def give(self, event: LedgerRoom | PricesChanged) -> None:
        self.given.append(event)

    def append(self, *facts: Fact, on_durable: Callable[[], None] | None = None) -> None:
        assert all(encode_fact(fact) for fact in facts), "or the process would end here"
        self.facts += facts

    def retire(self) -> None:
        self.retired += 1

    def learn_live(self, text: str) -> tuple[str, list[TariffFact]]:
        from agent.tariff.parse import content_hash, parse_tariff

        tariff, content = parse_tariff(text), content_hash(text)
        new = [] if content in self.known else [TariffFact(content, tariff.tariff_id, "live", text)]
        self.known.add(content)
        return content, new

    def use_live_tariff(self, content: str) -> None:
        self.used.append(content)


def upkeep(folder: Path, world: World, *, floor_bytes: int = 1, refuses: str = "", live: Path | None = None) -> Upkeep:
    ledger = folder / "ledger.sqlite"
    any_world: Any = world
    reserve = Reserve(ledger, size_bytes=4096, floor_bytes=floor_bytes)
    return Upkeep(
        any_world,
        any_world,
        ledger,
        live_tariff=live,
        reserve=reserve,
        floor_bytes=floor_bytes,
        look=os.statvfs,
        refuses=lambda: refuses,
        config_file=None,
    )


def test_with_room_there_is_a_reserve_and_no_alarm(tmp_path: Path) -> None:
    world = World()
    care = upkeep(tmp_path, world)
    care.look_at_room()
    assert world.given == [LedgerRoom(True)]
    assert (tmp_path / "ledger.sqlite.reserve").stat().st_size == 4096
    assert care.alarm() == ""


def test_below_the_floor_nothing_new_begins_and_the_alarm_says_so(tmp_path: Path) -> None:
    world = World()
    care = upkeep(tmp_path, world, floor_bytes=2**60)
    care.look_at_room()
    assert world.given == [LedgerRoom(False, scarce=True)]
    assert "no new transactions" in care.alarm()
    assert not (tmp_path / "ledger.sqlite.reserve").exists()


def test_between_mark_and_floor_only_readings_are_left_out_and_that_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, floor_bytes = World(), 4 * 1024 * 1024
    care = upkeep(tmp_path, world, floor_bytes=floor_bytes)
    said: list[str] = []
    monkeypatch.setattr(agent.station.upkeep.log, "warning", said.append)
    for free in (2.1, 2.0, 1.9, 1.0, 2.1, 2.3):  # in floors; a little above the mark it is still scarce
        found = FreeSpace(int(free * floor_bytes))
        care._look = lambda _, found=found: found  # type: ignore[misc]
        care.look_at_room()
        codes = [each.code for each in care.troubles()]
        assert codes == (["disk_scarce"] if free in (1.9, 1.0, 2.1) and len(world.given) > 2 else [])
    assert world.given == [LedgerRoom(True, scarce=each) for each in (False, False, True, True, True, False)]
    assert care.alarm() == "" and len(said) == 2


def test_damage_that_nobody_has_acknowledged_refuses_starts_too(tmp_path: Path) -> None:
    world = World()
    care = upkeep(tmp_path, world, refuses="the ledger was damaged")
    care.look_at_room()
    assert world.given == [LedgerRoom(False)]
    assert care.alarm() == "the ledger was damaged"


def test_a_disk_that_cannot_be_looked_at_counts_as_full(tmp_path: Path) -> None:
    world = World()
    upkeep(tmp_path / "gone", world).look_at_room()
    assert world.given == [LedgerRoom(False, scarce=True)]


def test_a_full_disk_with_a_ledger_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    world = World()
    care = upkeep(tmp_path, world, floor_bytes=2**60)
    (tmp_path / "ledger.sqlite").write_bytes(b"no ledger")
    care.look_at_room()
    assert world.given == [LedgerRoom(False, scarce=True)]
    [found] = care.troubles()
    assert found.code == "disk_unreadable" and "ledger.sqlite" in found.detail


def test_a_live_tariff_is_taken_up_once_and_its_text_kept_once(tmp_path: Path) -> None:
    world, file = World(), tmp_path / "price.json"
    care = upkeep(tmp_path, world, live=file)
    care.look_at_tariff()  # not there yet
    assert (world.used, world.facts) == ([], [])
    file.write_text(json.dumps(TARIFF))
    care.look_at_tariff()
    care.look_at_tariff()
    assert len(world.used) == len(world.facts) == 1
    file.unlink()
    file.write_text(json.dumps(TARIFF, indent=1))  # the same content, written anew
    care.look_at_tariff()
    assert len(world.used) == 2
    assert len(world.facts) == 1
    assert world.given == [PricesChanged()] * 2


CUT_EMOJI = json.dumps(TARIFF | {"tariffId": "live \ud83d"})


@pytest.mark.parametrize(
    "text", ["", "{", '{"tariffId": "x"}', "\ufeff", "9" * 70_000, CUT_EMOJI, json.dumps(TARIFF | {"\ud83d": 1})]
)
def test_a_live_tariff_that_is_none_is_told_once_and_changes_nothing(tmp_path: Path, text: str) -> None:
    world, file = World(), tmp_path / "price.json"
    care = upkeep(tmp_path, world, live=file)
    file.write_text(text)
    care.look_at_tariff()
    care.look_at_tariff()
    assert [fact.entry for fact in world.facts if isinstance(fact, LogFact)] == [LogEntry.TARIFF_REFUSED]
    assert (world.used, world.given) == ([], [])


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    world, file = World(), tmp_path / "price.json"
    file.write_bytes(b"\xff\xfe\x00")
    upkeep(tmp_path, world, live=file).look_at_tariff()
    assert len(world.facts) == 1


EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"


@pytest.fixture
def checking(tmp_path: Path) -> tuple[Upkeep, World]:
    """Upkeep that checks the ledger of its configuration by ``evsed ledger verify``, a process of its own."""
    file = tmp_path / "evsed.toml"
    file.write_text(EXAMPLE.read_text().replace('data_dir = "/var/lib/evsed"', f'data_dir = "{tmp_path}"'))
    opened(tmp_path / "ledger.sqlite")
    write(tmp_path / "ledger.sqlite", new_row(1), new_row(2))
    world = World()
    care = upkeep(tmp_path, world)
    care._config_file = file
    return care, world


def what_it_tells(world: World) -> list[str]:
    return [each.event_type if isinstance(each, SecurityFact) else type(each).__name__ for each in world.facts]


TAMPERED = "TamperDetectionActivated"


def test_what_the_whole_check_finds_is_an_alarm_and_two_facts(
    checking: tuple[Upkeep, World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it may not lower its priority (the unit's filter) is no harm."""

    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr("agent.station.upkeep.os.setpriority", forbidden)
    care, world = checking
    asyncio.run(care._check_ledger())
    assert (care.alarm(), world.facts) == ("", [])
    tamper(tmp_path / "ledger.sqlite", "UPDATE ledger SET body = x'7b7d' WHERE seq = 2")
    asyncio.run(care._check_ledger())
    assert care.alarm() and what_it_tells(world) == ["LogFact", TAMPERED]


def test_a_ledger_that_cannot_be_read_is_a_finding(checking: tuple[Upkeep, World], tmp_path: Path) -> None:
    care, world = checking
    (tmp_path / "ledger.sqlite").write_bytes(b"no ledger" * 1_000)
    asyncio.run(care._check_ledger())
    assert care.alarm() and what_it_tells(world) == ["LogFact", TAMPERED]


@pytest.mark.parametrize("before", ["", "row 7: hash does not fit"])
def test_a_configuration_that_is_being_edited_is_no_tampering(checking: tuple[Upkeep, World], before: str) -> None:
    """Nor does it take back what was found before."""
    care, world = checking
    assert care._config_file is not None
    care._config_file.write_text("[station]\nidentiy = 'typo'\n")
    care.found = before
    asyncio.run(care._check_ledger())
    assert care.alarm() == before
    [fact] = world.facts
    assert isinstance(fact, LogFact) and fact.entry is LogEntry.VERIFICATION_FAILED
    assert "exit code 78" in dict(fact.details)["why"]


def test_a_check_that_the_kernel_ends_is_no_tampering(
    checking: tuple[Upkeep, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of memory."""
    care, world = checking
    begin = asyncio.create_subprocess_exec

    async def begin_and_end(*command: str, **pipes: Any) -> asyncio.subprocess.Process:
        process = await begin(*command, **pipes)
        process.kill()
        return process

    monkeypatch.setattr("agent.station.upkeep.asyncio.create_subprocess_exec", begin_and_end)
    asyncio.run(care._check_ledger())
    assert care.alarm() == "" and what_it_tells(world) == ["LogFact"]


def ends(monkeypatch: pytest.MonkeyPatch, care: Upkeep, code: int, said: bytes) -> None:
    """The whole check says this, and ends with this exit code."""

    async def begin(*_: object, **__: object) -> Process:
        process = Process(said)
        process.returncode = code
        return process

    monkeypatch.setattr("agent.station.upkeep.asyncio.create_subprocess_exec", begin)
    monkeypatch.setattr("agent.station.upkeep.os.setpriority", lambda *_: None)
    asyncio.run(care._check_ledger())


NO_FINDING = [b"", b"Killed", b"[]", b'{"findings": []}']


@pytest.mark.parametrize("said", NO_FINDING)
@pytest.mark.parametrize("code", [-9, EXIT_CONFIG, EXIT_IO])
def test_a_check_that_could_not_look_is_no_finding(
    code: int, said: bytes, checking: tuple[Upkeep, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    care, world = checking
    ends(monkeypatch, care, code, said)
    assert care.alarm() == "" and what_it_tells(world) == ["LogFact"]


@pytest.mark.parametrize("said", NO_FINDING)
@pytest.mark.parametrize("code", [1, 70])
def test_a_check_that_failed_as_it_looked_is_a_finding(
    code: int, said: bytes, checking: tuple[Upkeep, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever forges a row that our code fails at is never found."""
    care, world = checking
    ends(monkeypatch, care, code, said)
    assert f"exit code {code}" in care.alarm() and what_it_tells(world) == ["LogFact", TAMPERED]


@pytest.mark.parametrize("code", [1, -9])
def test_what_it_found_is_told_with_half_a_character(
    code: int, checking: tuple[Upkeep, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a forged row it may quote one, which no fact can hold."""
    care, world = checking
    ends(monkeypatch, care, code, b'{"findings": [{"text": "\\ud83d!"}]}')
    assert care.alarm() == "?!" and what_it_tells(world) == ["LogFact", TAMPERED]


class Process:
    """A whole check that says this, or nothing until it is killed."""

    pid = 1

    def __init__(self, said: bytes | None = None) -> None:
        self.returncode: int | None = None
        self._said = said

    async def communicate(self) -> tuple[bytes, bytes]:
        if self._said is None:
            await asyncio.Future()
        return self._said or b"", b""

    def kill(self) -> None:
        self.returncode = -9


def run_upkeep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_s: float, at_s: float, then: Callable[[], None]
) -> tuple[World, Upkeep, list[Process]]:
    """Upkeep for some time, beside checks that do not end; ``then`` happens within."""
    world, checks = World(), list[Process]()

    async def begin(*_: object, **__: object) -> Process:
        checks.append(Process())
        return checks[-1]

    monkeypatch.setattr("agent.station.upkeep.asyncio.create_subprocess_exec", begin)
    monkeypatch.setattr("agent.station.upkeep.os.setpriority", lambda *_: None)
    care = upkeep(tmp_path, world, live=tmp_path / "price.json")
    care._config_file = tmp_path / "evsed.toml"

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(care.run())
        await asyncio.sleep(at_s)
        then()
        await asyncio.sleep(for_s - at_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(main())
    return world, care, checks


def test_while_the_whole_check_runs_all_else_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace_the_price() -> None:
        (tmp_path / "price.json").write_text(json.dumps(TARIFF))

    world, _, checks = run_upkeep(tmp_path, monkeypatch, CHECK_FIRST_AFTER_S + 7_300, 660.0, replace_the_price)
    assert [check.returncode for check in checks] == [-9], "it ends with the station"
    assert len(world.used) == 1
    assert world.retired == 3
    looks = sum(isinstance(each, LedgerRoom) for each in world.given)
    assert looks == 1 + (CHECK_FIRST_AFTER_S + 7_300) // ROOM_EVERY_S


def test_a_whole_check_that_does_not_end_is_ended_told_and_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for_s = CHECK_FIRST_AFTER_S + CHECK_EVERY_S + 60
    world, care, checks = run_upkeep(tmp_path, monkeypatch, for_s, 0.0, lambda: None)
    assert [check.returncode for check in checks] == [-9, -9]
    assert [fact.entry for fact in world.facts if isinstance(fact, LogFact)] == [LogEntry.VERIFICATION_FAILED]
    assert len(world.facts) == 1, "nobody has tampered with anything"
    assert care.alarm() == ""


def test_a_whole_check_that_cannot_be_begun_is_left_to_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory or no process was left for it."""

    def no_process_is_left() -> None:
        async def refuse(*_: object, **__: object) -> Process:
            begin = monkeypatch.setattr
            begin("agent.station.upkeep.asyncio.create_subprocess_exec", works)
            raise BlockingIOError(11, "Resource temporarily unavailable")

        works = asyncio.create_subprocess_exec
        monkeypatch.setattr("agent.station.upkeep.asyncio.create_subprocess_exec", refuse)

    for_s = CHECK_FIRST_AFTER_S + CHECK_EVERY_S + 60
    world, _, checks = run_upkeep(tmp_path, monkeypatch, for_s, 0.0, no_process_is_left)
    assert len(checks) == 1, "of the second day"
    assert len([each for each in world.given if isinstance(each, LedgerRoom)]) > CHECK_EVERY_S / ROOM_EVERY_S


def test_an_error_of_ours_in_the_whole_check_ends_upkeep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    care = upkeep(tmp_path, World())

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(care, "_check_ledger", broken)
    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        run_virtual(care.run())


def test_a_directory_is_made_once_with_all_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "lib" / "evsed"
    make_durable_directory(folder)
    make_durable_directory(folder)
    assert folder.is_dir()
