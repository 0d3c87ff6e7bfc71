"""What a CSMS says wrongly again and again, for years, must not fill the ledger, least of all the room of ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agent.core.clock import ROWS_AT_ONCE
from agent.ipc.certificates import CertificateUse
from agent.ledger.space import FLOOR_BYTES
from agent.security.roots import HashAlgorithm, read_root
from agent.sim.scenario.expectations import online
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.disk import FreeSpace
from agent.station.allowed_rows import AT_ONCE
from agent.station.service import StationService
from tests.unit.firmware.bundle.pki import make_root
from tests.world.hearing import frames_heard, payloads

HOURS = 3
POLLS: dict[str, tuple[str, dict[str, Any]]] = {
    "1.6": ("GetConfiguration", {"key": None}),
    "2.0.1": ("GetBaseReport", {"requestId": "1", "reportBase": "FullInventory"}),
}
PEM = make_root("Root").certificate_pem
HASH = read_root(PEM).hash(HashAlgorithm.SHA256)
Work = Callable[[StationService, int], Awaitable[object]]


def service(rig: WorldRig) -> StationService:
    assert rig.world.life is not None
    return rig.world.life.station.service


def fill_the_disk(rig: WorldRig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rig.world.life is not None
    monkeypatch.setattr(rig.world.life.station.upkeep, "_look", lambda _: FreeSpace(FLOOR_BYTES // 2))


async def rows_of(rig: WorldRig, work: Callable[[int], Awaitable[object]], minutes: int) -> int:
    """How many rows it makes, done once a minute."""
    before = rig.world.mirror.head_seq
    for minute in range(minutes):
        await work(minute)
        await rig.wait(60_000)
    return rig.world.mirror.head_seq - before


@pytest.mark.parametrize("version", POLLS)
def test_a_poll_that_breaks_its_schema_is_told_at_once_and_then_once_an_hour(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        async def poll(_: int) -> None:
            await rig.world.office.call(*POLLS[version])

        await play(scenario("on", expect(online())), rig)
        frames = frames_heard(rig, monkeypatch)
        assert await rows_of(rig, poll, 60 * HOURS) == HOURS
        told = payloads(frames, "SecurityEventNotification")
        assert [each["type"] for each in told] == ["InvalidMessages"] * HOURS
        counts = [int(each["techInfo"].partition(":")[0]) for each in told]
        assert counts == [1, 60, 60], "none is left out of the count"
        fill_the_disk(rig, monkeypatch)
        await rig.wait(120_000)
        assert await rows_of(rig, poll, 61) == 0

    on_a_world_rig(version, story)


async def refused_tariff(station: StationService, _: int) -> None:
    assert (await station.set_default_tariff(0, "{}")).startswith("Rejected")


async def root_in_and_out(station: StationService, _: int) -> None:
    assert (await station.install_certificate(CertificateUse.CSMS_ROOT, PEM)).status == "Accepted"
    assert (await station.delete_certificate(HASH, "")).status == "Accepted"


async def security_event(station: StationService, _: int) -> None:
    await station.security_event("FailedToAuthenticateAtCsms", "401")


def clocks(apart_ms: int) -> Work:
    """Each odd word is so much ahead, as the answers of two nodes to Heartbeat."""

    async def clock(station: StationService, number: int) -> None:
        now_ms = (await station.status()).wall_ms
        await station.clock(now_ms + (apart_ms if number % 2 else -apart_ms))

    return clock


@pytest.mark.parametrize(
    ("work", "most"),
    [
        (refused_tariff, AT_ONCE),
        (root_in_and_out, AT_ONCE),
        (security_event, AT_ONCE),
        (clocks(1_200), 0),
        (clocks(15_000), ROWS_AT_ONCE),
        (clocks(25_000), ROWS_AT_ONCE + AT_ONCE),
    ],
    ids=["tariff", "root", "event", "clocks a second apart", "clocks", "clocks, and SettingSystemTime"],
)
def test_what_is_said_every_minute_makes_some_rows_and_below_the_floor_none(
    work: Work, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(rig: WorldRig) -> None:
        await play(scenario("on", expect(online())), rig)
        made = await rows_of(rig, lambda number: work(service(rig), number), 45)
        assert most - 1 <= made <= most, "the first row of the clock is there already"
        fill_the_disk(rig, monkeypatch)
        await rig.wait(120_000)
        assert await rows_of(rig, lambda number: work(service(rig), number), 20) == 0

    on_a_world_rig("2.0.1", story)


def test_the_time_holds_below_the_floor_and_is_a_row_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CSMS whose clock was wrong and is right now: what a later start reads is made up for by its next word."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("on", expect(online())), rig)
        with monkeypatch.context() as full:
            fill_the_disk(rig, full)
            await rig.wait(120_000)
            before_ms, rows = (await service(rig).status()).wall_ms, rig.world.mirror.head_seq
            await service(rig).clock(before_ms + 3_600_000)
            assert (await service(rig).status()).wall_ms - before_ms >= 3_600_000
            assert rig.world.mirror.head_seq == rows
        await rig.wait(120_000)
        rows = rig.world.mirror.head_seq
        await service(rig).clock((await service(rig).status()).wall_ms)
        assert rig.world.mirror.head_seq == rows + 1
        await service(rig).clock((await service(rig).status()).wall_ms)
        assert rig.world.mirror.head_seq == rows + 1

    on_a_world_rig("2.0.1", story)
