"""What must hold at the whole station after a kill, a power cut and a Reset: latched faults, a stop that was accepted,
a change of availability that waits, the charging profile of a remote start. And that the world would see it if it did
not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.core.commands import ClearFaults, RemoteStop
from agent.core.events import Recovered
from agent.core.evse import Evse
from agent.core.flow import Flow
from agent.core.status import FaultCode, Outcome
from agent.ledger.reader import LedgerReader
from agent.ledger.state import Namespace
from agent.sim.scenario.expectations import all_told, available, charging, finished, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.rig import RigTrouble
from agent.sim.scenario.verbs import (
    CARD,
    STATION,
    ChangeAvailability,
    Kill,
    Reset,
    RestorePower,
    cut_power,
    fault,
    fault_gone,
    kill,
    plug,
    restore_power,
    swipe,
    unplug,
)
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.device_faults import Fault
from agent.sim.world.order_words import Wish
from agent.station import making
from agent.station.clock import MachineClock
from agent.station.hardware import Hardware
from agent.station.live import LiveStation
from agent.station.making import lasting_faults

CHARGING = scenario("a car charges", expect(online()), plug(), expect(preparing()), swipe(CARD), expect(charging()))
NEXT_CAR = scenario("the next car", expect(available()), *CHARGING.steps, swipe(CARD), expect(finished()), unplug())


async def holds_to_the_end_of_the_session(rig: WorldRig, how: str) -> None:
    """A limit of 10 A, over a restart and no further."""
    await restart(rig, how)
    await play(scenario("it goes on", expect(charging())), rig)
    assert (await rig.look()).evses[0].limit_ma == 10_000
    await play(scenario("it ends", swipe(CARD), expect(finished()), unplug(), expect(available())), rig)
    await play(CHARGING, rig)
    assert (await rig.look()).evses[0].limit_ma != 10_000


async def restart(rig: WorldRig, how: str) -> None:
    if how == "kill":
        await rig.do(Kill(STATION))
    elif how == "power":
        await rig.do(cut_power())
        await rig.wait(2_000)
        await rig.do(restore_power())
    else:
        assert await rig.do(Reset()) == "Accepted"
        await rig.wait(2_000)
    await rig.wait(120_000)


async def shown(rig: WorldRig) -> tuple[str, tuple[str, ...]]:
    evse = (await rig.look()).evses[0]
    return evse.state, evse.faults


def kept(rig: WorldRig) -> dict[str, str]:
    with LedgerReader(rig.world.disk.path) as reader:
        return reader.state(Namespace.FAULT)


async def break_self_test(rig: WorldRig) -> None:
    """The detector fails its self-test in mid-charge; the driver leaves, and the board finds nothing wrong any more."""
    await play(CHARGING, rig)
    outlet = rig.world.outlets[1]
    rig.world.disturb(1)
    outlet.fault(Fault.RESIDUAL_SELF_TEST)
    await rig.wait(60_000)
    outlet.clear(Fault.RESIDUAL_SELF_TEST)
    outlet.unplug(forced=True)
    await rig.wait(60_000)


@pytest.mark.parametrize("how", ["kill", "power", "reset"])
def test_a_latched_fault_outlives_every_restart_until_a_technician_clears_it(how: str) -> None:
    faulted = "Faulted", (FaultCode.RESIDUAL_SELF_TEST.value,)

    async def story(rig: WorldRig) -> None:
        await break_self_test(rig)
        assert await shown(rig) == faulted
        for _ in range(2):
            await restart(rig, how)
            assert await shown(rig) == faulted and kept(rig) == {"1": FaultCode.RESIDUAL_SELF_TEST.value}
        assert rig.world.life is not None
        await rig.world.life.station.service.command(ClearFaults(1))
        await rig.wait(2_000)
        assert kept(rig) == {}
        await restart(rig, how)
        await play(NEXT_CAR, rig)

    on_a_world_rig("1.6", story)


def test_the_world_sees_a_fault_that_ends_with_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "lasting_faults", lambda _: ())

    async def story(rig: WorldRig) -> None:
        await break_self_test(rig)
        await restart(rig, "kill")
        await shown(rig)

    with pytest.raises(RigTrouble, match="residual_self_test ends by itself, or with a restart"):
        on_a_world_rig("1.6", story)


async def stop_and_kill(rig: WorldRig) -> None:
    """The process is killed as soon as it has said that it ends; the end itself is not on disk then."""
    await play(CHARGING, rig)
    assert rig.world.life is not None
    running = rig.world.mirror.open[1]
    rig.world.parties.asks("RequestStopTransaction", {"transactionId": running.tx_id})
    answer = await rig.world.life.station.service.command(RemoteStop(running.tx_id))
    assert answer.outcome is Outcome.ACCEPTED and running.stopped and running.end is None
    await rig.do(Kill(STATION))
    await rig.wait(60_000)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_an_accepted_stop_outlives_a_kill(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        await stop_and_kill(rig)
        await play(scenario("it has ended", expect(finished()), unplug(), expect(all_told())), rig)
        (account,) = (await rig.look()).ledger
        assert account.reason == "Remote"

    on_a_world_rig(version, story)


def test_the_world_sees_a_stop_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    recover = Flow.recover

    def forgetful(flow: Flow, found: Recovered) -> None:
        recover(flow, replace(found, stop=None))

    monkeypatch.setattr(Flow, "recover", forgetful)

    async def story(rig: WorldRig) -> None:
        await stop_and_kill(rig)
        await shown(rig)

    with pytest.raises(RigTrouble, match="goes on after a restart, and had been stopped before"):
        on_a_world_rig("2.0.1", story)


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("evse", [0, 1])
def test_a_scheduled_change_of_availability_outlives_a_restart(how: str, evse: int) -> None:
    async def story(rig: WorldRig) -> None:
        await play(CHARGING, rig)
        assert await rig.do(ChangeAvailability(operative=False, evse=evse)) == "Scheduled"
        await restart(rig, how)
        await play(scenario("it goes on", expect(charging()), unplug()), rig)
        await rig.wait(60_000)
        assert await shown(rig) == ("Unavailable", ())
        assert await rig.do(ChangeAvailability(operative=True, evse=evse)) == "Accepted"
        await restart(rig, how)
        await play(NEXT_CAR, rig)

    on_a_world_rig("1.6", story)


@pytest.mark.parametrize("how", ["kill", "power", "reset"])
@pytest.mark.parametrize(
    ("evse", "statuses"),
    [
        (0, ["Unavailable", "Unavailable", "Unavailable"]),
        (1, ["Available", "Unavailable", "Available"]),
    ],
)
def test_16_st_06_out_of_service_outlives_a_restart(evse: int, statuses: list[str], how: str) -> None:
    """And the CSMS is told so after the boot, connector 0 apart from the others."""

    async def story(rig: WorldRig) -> None:
        await play(scenario("nobody is there", expect(online()), expect(available())), rig)
        assert await rig.do(ChangeAvailability(operative=False, evse=evse)) == "Accepted"
        before = await rig.look()
        await restart(rig, how)
        seen = (await rig.look()).since(before)
        assert seen.boots == 1 and seen.statuses[-3:] == tuple(enumerate(statuses))

    on_a_world_rig("1.6", story)


def test_the_world_sees_a_scheduled_change_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveStation, "_save_availability", lambda *_: None)

    async def story(rig: WorldRig) -> None:
        await play(CHARGING, rig)
        office = rig.world.operator
        await office.send(Wish.AVAILABILITY, "ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
        await restart(rig, "kill")
        await shown(rig)

    with pytest.raises(RigTrouble, match="availability: operative is True, the CSMS was told False"):
        on_a_world_rig("1.6", story)


def remote_start(version: str, profile_id: int, amperes: int) -> tuple[str, dict[str, Any]]:
    """With a TxProfile."""
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amperes}]}
    profile = {"stackLevel": 0, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Relative"}
    if version == "1.6":
        profile |= {"chargingProfileId": profile_id, "chargingSchedule": schedule}
        return "RemoteStartTransaction", {"idTag": CARD, "connectorId": 1, "chargingProfile": profile}
    profile |= {"id": profile_id, "chargingSchedule": [{"id": 1, **schedule}]}
    token = {"idToken": CARD, "type": "ISO14443"}
    return "RequestStartTransaction", {"idToken": token, "evseId": 1, "remoteStartId": 7, "chargingProfile": profile}


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_16_cmd_05_f01_the_profile_of_a_remote_start_holds_for_its_transaction_alone(version: str, how: str) -> None:
    async def story(rig: WorldRig) -> None:
        async def start(profile_id: int, amperes: int) -> str:
            return (await rig.world.office.call(*remote_start(version, profile_id, amperes))).status

        await play(scenario("a car comes", expect(online()), plug(), expect(preparing())), rig)
        assert await start(5, 10) == "Accepted"
        await play(scenario("it charges", expect(charging())), rig)
        assert (await rig.look()).evses[0].limit_ma == 10_000
        assert await start(5, 16) == await start(6, 16) == "Rejected"
        await holds_to_the_end_of_the_session(rig, how)

    on_a_world_rig(version, story)


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_profile_of_a_session_outlives_a_register_that_begins_anew(version: str, how: str) -> None:
    async def story(rig: WorldRig) -> None:
        near = expect(online()), fault("meter", "rollover", 200_000), kill(STATION), expect(available())
        await play(scenario("a car comes", *near, plug(), expect(preparing())), rig)
        assert (await rig.world.office.call(*remote_start(version, 5, 10))).status == "Accepted"
        await play(scenario("it charges", expect(charging())), rig)
        first = rig.world.mirror.open[1].tx_id
        await rig.wait(300_000)
        assert rig.world.mirror.open[1].tx_id != first and (await rig.look()).evses[0].limit_ma == 10_000
        await holds_to_the_end_of_the_session(rig, how)

    on_a_world_rig(version, story)


@pytest.mark.parametrize("evse", [1, 2])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_next_car_does_not_charge_on_a_transaction_of_which_nobody_saw_the_end(version: str, evse: int) -> None:
    async def story(rig: WorldRig) -> None:
        await silent_swap(rig, evse)
        seen = (await rig.look()).evses[evse - 1]
        assert (seen.state, seen.contactor_closed) == ("Preparing", False) and rig.world.mirror.open == {}
        await play(scenario("it pays for itself", swipe(CARD, evse), expect(charging(evse))), rig)

    on_a_world_rig(version, story)


def test_the_world_sees_another_car_that_charges_on_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evse, "_doubt_at_ms", lambda _: None)

    async def story(rig: WorldRig) -> None:
        await silent_swap(rig, 1)
        await shown(rig)

    with pytest.raises(RigTrouble, match="another car charges on the transaction"):
        on_a_world_rig("1.6", story)


async def silent_swap(rig: WorldRig, evse: int) -> None:
    """A board falls silent in mid-charge, the driver leaves, another one comes, and the board is there again."""
    await play(scenario("a car charges", expect(online()), plug(evse), expect(preparing(evse)), swipe(CARD, evse)), rig)
    await play(scenario("and its board falls silent", expect(charging(evse)), fault("pilot", "silent", evse=evse)), rig)
    await rig.wait(60_000)
    rig.world.outlets[evse].unplug(forced=True)
    await rig.wait(1_200_000)
    await rig.do(plug(evse))
    await rig.do(fault_gone("pilot", evse))
    await rig.wait(120_000)


def test_a_fault_of_another_version_keeps_nobody_from_starting() -> None:
    assert lasting_faults("contactor_welded of_tomorrow") == (FaultCode.CONTACTOR_WELDED,)
    assert lasting_faults("") == ()


def test_what_boards_tell_of_being_closed_is_kept_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards are closed one after another and give up their contacts; meanwhile the rest of the station lives on."""
    close = Hardware.close

    async def slowly(hardware: Hardware) -> None:
        monkeypatch.undo()
        for pilot in hardware._pilots.values():
            pilot.allow_power(False)  # type: ignore[union-attr]
        await asyncio.sleep(10)
        await close(hardware)

    monkeypatch.setattr(Hardware, "close", slowly)

    async def story(rig: WorldRig) -> None:
        await play(CHARGING, rig)
        rig.world._station_ended(0)
        await rig.wait(60_000)
        assert Hardware.close is close and kept(rig) == {}
        await play(scenario("it goes on", expect(charging()), swipe(CARD), expect(finished()), unplug()), rig)

    on_a_world_rig("1.6", story)


HOUR_MS = 3_600_000


async def power_cut(rig: WorldRig, off_ms: int, *, clock_stood: bool, swap: bool = False) -> None:
    """In mid-charge. Meanwhile (``swap``) the driver leaves, and another plugs in and shows nothing."""
    await play(CHARGING, rig)
    await rig.wait(60_000)
    await rig.do(cut_power())
    if swap:
        await rig.do(unplug())
        await rig.do(plug())
    await rig.wait(off_ms)
    await rig.do(RestorePower(clock_stood=clock_stood))


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("off_ms", [1_000, 3 * HOUR_MS])
def test_a_clock_that_stood_still_over_a_power_cut_resumes_nothing(version: str, off_ms: int) -> None:
    async def story(rig: WorldRig) -> None:
        await power_cut(rig, off_ms, clock_stood=True, swap=True)
        await rig.wait(60_000)
        for _ in range(2):
            seen = (await rig.look()).evses[0]
            assert not seen.contactor_closed and rig.world.mirror.open == {}
            await restart(rig, "kill")
        (account,) = (await rig.look()).ledger
        assert account.reason == "PowerLoss"
        await play(scenario("he shows a card", unplug(), *NEXT_CAR.steps, expect(all_told())), rig)

    on_a_world_rig(version, story)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_charge_outlives_a_short_power_cut_where_a_hardware_clock_agrees(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        await power_cut(rig, 1_000, clock_stood=False)
        await play(scenario("it goes on", expect(charging()), swipe(CARD), expect(finished()), unplug()), rig)

    on_a_world_rig(version, story)


def test_the_world_sees_a_charge_that_goes_on_after_nobody_knows_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MachineClock, "_is_vouched", lambda *_: True)

    async def story(rig: WorldRig) -> None:
        await power_cut(rig, 3 * HOUR_MS, clock_stood=True)
        await rig.wait(60_000)
        await shown(rig)

    with pytest.raises(RigTrouble, match="goes on after a power cut, and nothing tells how long that was"):
        on_a_world_rig("1.6", story)
