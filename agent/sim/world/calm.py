"""Calm weather: nothing new happens, what is broken is mended, and then all must come to rest and agree.

Charter: ends every trouble, does what only people can do (a technician clears what only he can end, an operator lets
cars in again), waits a bounded time until nothing is left to do, compares the accounts, and lets one more car charge at
each outlet (``customer``): with a card at one, by a remote start at the other, in turn. Under the latter the contactor
welds: this must be told, and once mended it must be over.

Units: ms of virtual time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from agent.core.commands import ClearFaults, RemoteStop
from agent.core.status import ConnectorState, FaultCode
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms
from agent.sim.world import customer
from agent.sim.world.customer import TOLD_WITHIN_S
from agent.sim.world.device_faults import Fault
from agent.sim.world.life import Life
from agent.sim.world.machine import busy
from agent.sim.world.manners import QUIET as QUIET_MANNERS
from agent.sim.world.order_words import Wish
from agent.sim.world.orders import LOOK_EVERY_S
from agent.sim.world.watch import UNTIL_CLEARED
from agent.sim.world.wire import QUIET as QUIET_NETWORK

if TYPE_CHECKING:
    from agent.sim.world.world import World

HOUR_MS: Final = 3_600_000
ORDERS_END_S: Final = LOOK_EVERY_S + 120  # what an operator had in mind is done by then
RESTS_WITHIN_MS: Final = 6 * HOUR_MS
"""After the last fault everything must have settled by then: no livelock."""


async def calm_down(world: World) -> None:
    """Fair weather: nothing new happens, what is broken is mended, and all must come to rest and agree."""
    world.note(0, "calm weather")
    world.troubles.calm(True)
    world.operator.rates = busy(0.0)
    world.office.unscript()
    world.network.faults = QUIET_NETWORK
    world._clock_error_ms = world._csms_error_ms = 0
    await asyncio.sleep(1)  # those who make trouble end it
    world.office.mind.manners = QUIET_MANNERS  # only now: a rude CSMS that behaves again has its everyday manners
    for outlet in world.outlets.values():
        outlet.clear()
        outlet.unplug(forced=True)
    world.restore_power()
    world.installer.away = False
    world.disk.cut_in_commit, world.disk.sync_fails = None, False
    # A meter that was reset meanwhile is found at the next look.
    await asyncio.sleep(max(ORDERS_END_S, 2 * world.pace.idle_poll_ms / 1_000))
    await world.operator.send(Wish.UNLIMIT, "ClearChargingProfile", {})
    await rest(world)
    await world.operator.send(Wish.TRIGGER, "TriggerMessage", {"requestedMessage": "Heartbeat"})
    await asyncio.sleep(TOLD_WITHIN_S)
    world.clock_doubted = False  # the CSMS has told the right time
    _settle(world)
    with_card = world.accounts.settled // 2 % 2
    for number, evse in enumerate(world.outlets):
        card = f"CA{world.accounts.settled:06X}{evse:02X}"  # one that only the CSMS knows
        if number % 2 == with_card:
            await customer.with_card(world, evse, card)
        else:
            await customer.remotely(world, evse, card)
            await _welds(world, evse, card)
    await rest(world)
    await asyncio.sleep(TOLD_WITHIN_S)
    _look_at_statuses(world, "Available", *world.outlets)
    _settle(world)
    world.note(0, "the weather turns")
    world.office.mind.manners = world.profile.manners
    world.network.faults = world.profile.network
    world.operator.rates = busy(world.profile.orders)
    world.troubles.calm(False)


def _settle(world: World) -> None:
    world.accounts.settle()
    world.hearing.look()
    world.keeping.look(world.accounts.oldest_seq())


async def rest(world: World) -> None:
    """Wait until nothing is left to do."""
    until_ms = now_ms() + RESTS_WITHIN_MS
    while (left := await unrest(world)) and world.failure is None:
        if now_ms() >= until_ms:
            world.wrong(0, f"no rest {RESTS_WITHIN_MS // HOUR_MS} hours after the last fault: {left}")
            return
        await asyncio.sleep(60)


async def unrest(world: World) -> str:
    """What is still going on; a technician and the operator help where only they can."""
    life, office = world.life, world.office
    if life is None:
        return "the station does not run"
    if office.version is None or office.registration != "Accepted":
        return "the CSMS does not see the station"
    await _help(world, life)
    core = life.station.logic.core
    for evse, view in zip(core.evses, core.views(), strict=True):
        if view.state is not ConnectorState.AVAILABLE:
            return f"EVSE {evse} is {view.state.value} ({', '.join(fault.value for fault in view.faults)})"
        if world.outlets[evse].locked:  # a bolt takes its time
            return f"EVSE {evse} is locked"
    if life.station.service.delivered_seq < world.mirror.told_seq:
        return "the CSMS has not been told everything"
    return ""


async def _help(world: World, life: Life) -> None:
    """A technician clears what only he can end; the operator lets cars in again, and restarts a station whose meter was
    exchanged or reset, since its driver then waits for somebody to decide that."""
    views = life.station.logic.core.views()
    if any(FaultCode.METER_IMPLAUSIBLE in view.faults for view in views) and now_ms() - world.reset_ms > HOUR_MS:
        world.reset_ms = now_ms()
        kind = "Hard" if world.office.version is Version.V16 else "Immediate"
        await world.operator.send(Wish.RESET, "Reset", {"type": kind})
        return
    for (evse, outlet), view in zip(world.outlets.items(), views, strict=True):
        if not UNTIL_CLEARED.isdisjoint(view.faults):
            await life.station.service.command(ClearFaults(evse))
        tx = life.station.logic.core.evses[evse].flow.tx
        if tx is not None and outlet.vehicle is None:  # where a lost vehicle does not end it
            world.parties.asks("RequestStopTransaction", {"transactionId": tx.tx_id})
            await life.station.service.command(RemoteStop(tx.tx_id))
    for evse in (0, *world.outlets):
        if world.operator.availability.get(evse, True) is not True:
            await _make_operative(world, evse)


async def _make_operative(world: World, evse: int) -> None:
    if world.office.version is Version.V16:
        payload: dict[str, Any] = {"connectorId": evse, "type": "Operative"}
    else:
        payload = {"operationalStatus": "Operative", **({"evse": {"id": evse}} if evse else {})}
    await world.operator.send(Wish.AVAILABILITY, "ChangeAvailability", payload)


async def _welds(world: World, evse: int, card: str) -> None:
    """The contactor of a car that charges, and the driver stops."""
    outlet = world.outlets[evse]
    world.disturb(evse)
    outlet.fault(Fault.CONTACTOR_WELDED)
    world.swipe(evse, card)
    await asyncio.sleep(TOLD_WITHIN_S)
    if not outlet.board.minds_contact:  # an OpenEVSE that sleeps finds it when it is to charge again
        world.swipe(evse, card)
        await asyncio.sleep(TOLD_WITHIN_S)
    _look_at_weld(world, evse)
    outlet.unplug(forced=True)
    outlet.clear(Fault.CONTACTOR_WELDED)


def _look_at_weld(world: World, evse: int) -> None:
    """The station knows it, and has told the CSMS."""
    life = world.life
    if life is None or FaultCode.CONTACTOR_WELDED not in life.station.logic.core.evses[evse].faults.active:
        world.wrong(evse, "the contactor has welded under a car, and the station does not say so")
    _look_at_statuses(world, "Faulted", evse)


def _look_at_statuses(world: World, right: str, *evses: int) -> None:
    for evse in evses:
        told = world.office.book.statuses.get(evse)
        if told != right:
            world.wrong(evse, f"the CSMS was told {told}, it is {right}")
