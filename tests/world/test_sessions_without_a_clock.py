"""A session of a station that knows no time is told with the right one as soon as the CSMS tells it (field fault 6)."""

from __future__ import annotations

import pytest

from agent.core.context import Context
from agent.core.facts import Token
from agent.sim.scenario.expectations import available, charging, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.verbs import (
    CARD,
    STATION,
    DropLink,
    Kill,
    RestoreLink,
    RestorePower,
    cut_power,
    plug,
    swipe,
    unplug,
)
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.station.archive import Archive
from agent.station.tariffs import TariffBook
from tests.world.hearing import frames_heard, payloads

BILLED = ("StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent")


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("lasts_s", [2, 20])
def test_no_message_tells_the_year_1970(version: str, lasts_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page of the queue must not go out before the clock's own row is on disk."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("a station", expect(online())), rig)
        await rig.do(DropLink())
        await rig.do(cut_power())
        await rig.wait(2_000)
        await rig.do(RestorePower(clock_lost=True))
        await rig.wait(60_000)
        frames = frames_heard(rig, monkeypatch)
        await play(scenario("begins", plug(), expect(preparing()), swipe(CARD), expect(charging())), rig)
        await rig.wait(lasts_s * 1_000)
        await play(scenario("ends", unplug(), expect(available())), rig)
        await rig.do(RestoreLink())
        await rig.wait(200_000)
        messages = payloads(frames, *BILLED)
        told = [each.get("timestamp") or each["meterValue"][0]["timestamp"] for each in messages]
        assert len(told) >= 4
        assert [each for each in told if each.startswith("1970")] == []

    on_a_world_rig(version, story)


def clock(rig: WorldRig) -> tuple[str, bool]:
    """Its quality, and whether the station shows the true time."""
    assert rig.world.life is not None
    ctx: Context = rig.world.life.station.logic.core.ctx
    return ctx.time_status, abs(ctx.wall_ms - rig.world.true_wall_ms()) < 2_000


async def dark_hours(rig: WorldRig) -> None:
    """The power is away for three of them, the clock stands, and nobody can be asked."""
    await play(scenario("a station", expect(online())), rig)
    await rig.do(DropLink())
    await rig.do(cut_power())
    await rig.wait(3 * 3_600_000)
    await rig.do(RestorePower(clock_stood=True))
    await rig.wait(60_000)
    assert clock(rig) == ("U", False)


def test_what_the_csms_told_a_boot_holds_in_all_of_it() -> None:
    async def story(rig: WorldRig) -> None:
        await dark_hours(rig)
        await rig.do(RestoreLink())
        await play(scenario("it is told the time", expect(online())), rig)
        await rig.wait(60_000)
        assert clock(rig) == ("S", True)
        await rig.do(DropLink())
        for _ in range(2):
            await rig.do(Kill(STATION))
            await rig.wait(120_000)
            assert clock(rig) == ("S", True)

    on_a_world_rig("2.0.1", story)


def test_no_tariff_of_the_future_prices_a_start_by_a_clock_that_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    so_late_ms: list[int] = []
    choose = TariffBook.for_start

    def chosen(book: TariffBook, evse: int, token: Token, group: str | None, wall_ms: int, shown_ms: int) -> str | None:
        so_late_ms.append(wall_ms)
        return choose(book, evse, token, group, wall_ms, shown_ms)

    async def story(rig: WorldRig) -> None:
        await dark_hours(rig)
        monkeypatch.setattr(TariffBook, "for_start", chosen)
        await play(scenario("begins", plug(), expect(preparing()), swipe(CARD), expect(charging())), rig)
        assert so_late_ms and set(so_late_ms) == {0}

    on_a_world_rig("2.0.1", story)


@pytest.mark.parametrize("found_by", ["a look", "a restart"])
def test_a_time_server_that_answers_after_the_start_is_heard(found_by: str) -> None:
    """A station without a CSMS would else not know the time until its next start, and of older rows never."""

    async def story(rig: WorldRig) -> None:
        await dark_hours(rig)
        began_ms = rig.world.true_wall_ms()
        await play(scenario("begins", plug(), expect(preparing()), swipe(CARD), expect(charging())), rig)
        rig.world._stood_ms, rig.world._clock_stood = 0, False
        if found_by == "a look":
            await rig.wait(20_000)
            assert clock(rig) == ("I", True)
        await rig.do(Kill(STATION))
        await rig.wait(60_000)
        assert clock(rig) == ("I", True)
        ((_, begin, _),) = Archive(rig.world.disk.path).transactions(None, 1)
        assert begin.trusted_time and abs(begin.wall_ms - began_ms) < 60_000

    on_a_world_rig("2.0.1", story)
