"""Real processes on simulated hardware: a session end to end, and what happens when processes die.

Everything here runs on real ptys, sockets and processes, in real time.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.billing.ledger_check import DocumentCheck
from agent.billing.read import parse as parse_receipt
from agent.core.status import ConnectorState
from agent.ledger.reader import LedgerReader
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage
from agent.sim.story import Story, ledger_energy, read_books
from agent.supervisor import _HANG_S

pytestmark = pytest.mark.wire
KILLS = int(os.environ.get("EVSED_KILLS", "4"))


def on_stage(
    folder: Path,
    version: str,
    boards: tuple[str, ...],
    scene: Callable[[Stage, SimCsms, Story], Awaitable[None]],
    *,
    meter_map: str | None = None,
) -> None:
    async def main() -> None:
        csms = SimCsms(version)
        stage = Stage(folder, await csms.start(), sample_s=1, boards=boards, meter_map=meter_map)
        stage.lay_out()
        try:
            await stage.start()
            await scene(stage, csms, Story(stage, csms, lambda _: None, pace_s=1.0))
        finally:
            await stage.stop()
            await csms.stop()

    asyncio.run(asyncio.wait_for(main(), 180 + 30 * KILLS))


def pid_of(stage: Stage, process: str) -> int:
    """The process of this stage by its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if process.encode() in words and str(stage.config_file).encode() in words:
                return int(entry.name)
    raise LookupError(process)


async def kill(stage: Stage, process: str) -> None:
    """kill -9, as soon as there is one: the supervisor may still be waiting to start it again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return os.kill(pid_of(stage, process), signal.SIGKILL)
            except (LookupError, ProcessLookupError):
                await asyncio.sleep(0.05)


async def until(is_so: Callable[[], Awaitable[bool]], within_s: float = 40.0) -> None:
    async with asyncio.timeout(within_s):
        while not await is_so():
            await asyncio.sleep(0.05)


async def is_state(stage: Stage, evse: int, *states: ConnectorState) -> bool:
    status = await stage.status()
    return status is not None and status.evses[evse - 1].state in states


async def all_told(stage: Stage) -> bool:
    station = await stage.station()
    try:
        return (await station.progress()).undelivered == 0
    finally:
        await station.close()


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_story_end_to_end_and_four_books_agree(tmp_path: Path, version: str) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await story.play()
        books = await read_books(stage, csms)
        step_mwh = 1_000 if version == "1.6" else 1
        assert all(each.agree(step_mwh) and each.transactions == 1 for each in books), books
        assert csms.book.violations == [] and csms.book.open == []

    on_stage(tmp_path, version, ("mcu_ac", "openevse", "mcu_dc"), scene)


def test_killed_gateway_does_not_disturb_the_session(tmp_path: Path) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        os.kill(pid_of(stage, "gateway"), signal.SIGKILL)
        for _ in range(20):
            assert (await stage.order(1, "status"))["relay_closed"], "the charge goes on"
            await asyncio.sleep(0.05)
        await until(story._online)
        await stage.order(1, "unplug")
        await until(lambda: is_state(stage, 1, ConnectorState.AVAILABLE))
        await until(lambda: all_told(stage))
        assert len(csms.book.transactions) == 1 and csms.book.open == []

    on_stage(tmp_path, "1.6", ("mcu_ac",), scene)


async def charge(stage: Stage, story: Story) -> None:
    await until(story._online)
    await stage.order(1, "plug")
    await until(lambda: is_state(stage, 1, ConnectorState.PREPARING))
    await story.swipe(1)
    await until(lambda: is_state(stage, 1, ConnectorState.CHARGING))


async def is_open(stage: Stage) -> bool:
    return not (await stage.order(1, "status"))["relay_closed"]


def test_killed_station_leaves_a_subordinate_board_to_itself(tmp_path: Path) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        # Without the supervisor nobody starts the station again: what is left must open by itself.
        os.kill(pid_of(stage, "run"), signal.SIGSTOP)
        os.kill(pid_of(stage, "station"), signal.SIGKILL)
        await until(lambda: is_open(stage), 7.0)  # the MCU's own supervision is 5 s
        os.kill(pid_of(stage, "run"), signal.SIGCONT)

    on_stage(tmp_path, "2.0.1", ("mcu_ac",), scene)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_station_that_dies_or_hangs_makes_an_autonomous_board_safe(tmp_path: Path, end: signal.Signals) -> None:
    """And is started again."""

    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        station = pid_of(stage, "station")
        os.kill(station, end)
        await until(lambda: is_open(stage), _HANG_S + 7.0)
        await until(lambda: is_state(stage, 1, *_SETTLED))
        assert pid_of(stage, "station") != station

    on_stage(tmp_path, "2.0.1", ("openevse",), scene)


def test_typo_and_a_dead_station_make_an_autonomous_board_safe(tmp_path: Path) -> None:
    """The station notes which boards it has; a wrong configuration then ends all processes, in order."""

    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        supervisor, gateway = pid_of(stage, "run"), pid_of(stage, "gateway")
        with stage.config_file.open("a") as file:
            file.write("nonsense =\n")
        os.kill(pid_of(stage, "station"), signal.SIGKILL)
        await until(lambda: is_open(stage), 7.0)
        await until(lambda: are_gone(supervisor, gateway))

    on_stage(tmp_path, "1.6", ("openevse",), scene)


def test_typo_and_a_dead_gateway_do_not_disturb_the_session(tmp_path: Path) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        with stage.config_file.open("a") as file:
            file.write("nonsense =\n")
        os.kill(pid_of(stage, "gateway"), signal.SIGKILL)
        log = stage.folder / "run.log"

        async def refused() -> bool:
            return any('"exit_code": 78' in line and '"gateway"' in line for line in log.read_text().splitlines())

        await until(refused)
        assert not await is_open(stage), "the charge goes on"
        assert await is_state(stage, 1, ConnectorState.CHARGING)

    on_stage(tmp_path, "1.6", ("openevse",), scene)


async def are_gone(*pids: int) -> bool:
    """Also where nobody has asked for their exit code yet."""
    return all(
        not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids
    )


@pytest.mark.parametrize(("version", "board"), [("2.0.1", "mcu_ac"), ("1.6", "openevse")])
def test_random_kills_lose_and_double_nothing(tmp_path: Path, version: str, board: str) -> None:
    """kill -9 of either process at random instants in mid-charge; EVSED_KILLS asks for more than a few."""
    dice = random.Random(2_026)

    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        for number in range(KILLS):
            await until(story._online)
            await until(lambda: is_state(stage, 1, *_SETTLED))
            if not await is_state(stage, 1, ConnectorState.CHARGING):
                await stage.order(1, "plug")
                await until(lambda: is_state(stage, 1, *_PLUGGED))
                await story.swipe(1)
                await until(lambda: is_state(stage, 1, ConnectorState.CHARGING))
            await asyncio.sleep(dice.uniform(0.0, 1.5))
            await kill(stage, dice.choice(["station", "gateway"]))
            if number % 2:
                await asyncio.sleep(dice.uniform(0.0, 0.5))
                await stage.order(1, "unplug")
                await until(lambda: is_state(stage, 1, ConnectorState.AVAILABLE))
        await stage.order(1, "unplug")
        await until(lambda: is_state(stage, 1, ConnectorState.AVAILABLE))
        await until(lambda: all_told(stage))
        view = await stage.order(1, "status")
        ledger_mwh, count = ledger_energy(stage)[1]
        assert len(csms.book.transactions) == count and csms.book.open == []
        assert abs(ledger_mwh - view["metered_mwh"]) <= 500 * count
        # OCPP 1.6 tells whole Wh, so each transaction may be off by less than one.
        assert abs(csms.book.wh * 1_000 - ledger_mwh) <= (1_000 * count if version == "1.6" else 1)
        assert csms.book.violations == []
        assert_proved(stage, count)

    on_stage(tmp_path, version, (board,), scene)


def assert_proved(stage: Stage, transactions: int) -> None:
    """Chain, numbers, signatures and receipts are whole, and every transaction has its bill."""
    with LedgerReader(stage.folder / "data" / "ledger.sqlite") as reader:
        check = DocumentCheck(key.public_der for key in reader.signing_keys())
        assert reader.audit(number_of=check.number_of) == []
        assert check.findings == []
        rows = reader.rows(0, 1_000, kinds=("receipt",))
    assert len(rows) == check.receipts == transactions
    for row in rows:
        receipt = parse_receipt(row.body)
        assert receipt.bill is not None
        assert receipt.bill.total_incl >= 60  # at least the start fee with tax


_PLUGGED = (ConnectorState.PREPARING, ConnectorState.FINISHING)
_SETTLED = (ConnectorState.AVAILABLE, ConnectorState.CHARGING, *_PLUGGED)  # not while a transaction is recovered
