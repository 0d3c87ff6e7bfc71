"""One customer at a time, in calm weather: everything that must work when nothing is amiss.

Charter: brings a car with a sound cable to an outlet, lets it charge as ordinary people and operators do, and judges
what customer, CSMS and plug see of it. A customer with a card that only the CSMS knows holds it up before plugging in,
charges under a limit that the CSMS has ordered, is stopped remotely, and pulls the plug without force. Another one is
started remotely, with a cable that bears less than the outlet gives.

Units: ms and s of virtual time, mA.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from agent.ocpp.timestamps import from_rfc3339, to_rfc3339
from agent.sim.world.booking import Booked
from agent.sim.world.order_words import Wish
from agent.sim.world.plugs import ROUNDING_MA
from agent.sim.world.vehicle import Kind, Vehicle

if TYPE_CHECKING:
    from agent.sim.world.world import World

TOLD_WITHIN_S: Final = 60
CHARGES_WITHIN_S: Final = 300
_LIMIT_MA: Final = 10_000
_THIN_CABLE_MA: Final = 13_000
_PROFILE_ID: Final = 77
_CLOCK_MS: Final = 5_000
_DAY_MS: Final = 86_400_000
_WANTS_MWH: Final = 9_000_000  # more than flows while anybody looks


async def with_card(world: World, evse: int, card: str) -> None:
    """The card first, then the plug, then under way by the operator's hand."""
    await _order_limit(world, evse)
    world.swipe(evse, card)
    await asyncio.sleep(5)
    booked = await _charges(world, evse, "a card that only the CSMS knows, then the plug")
    if booked is None:
        return
    _look_at_offer(world, evse)
    await _stop(world, evse, booked)
    await world.operator.send(
        Wish.UNLIMIT, "ClearChargingProfile", _word(world, {"id": _PROFILE_ID}, {"chargingProfileId": _PROFILE_ID})
    )


async def remotely(world: World, evse: int, card: str) -> None:
    """The plug of a thin cable first, then a start by the operator. The car stays, charging."""
    outlet = world.outlets[evse]
    before_mwh = outlet.drawn_mwh
    if not outlet.plug(Vehicle(Kind(cable_ma=_THIN_CABLE_MA), _WANTS_MWH, world.visits[evse])):
        world.wrong(evse, "the next car cannot be plugged in")
        return
    await asyncio.sleep(5)
    of_16 = {"connectorId": evse, "idTag": card}
    of_201 = {"evseId": evse, "idToken": {"idToken": card, "type": "ISO14443"}, "remoteStartId": world.accounts.settled}
    action = _word(world, "RemoteStartTransaction", "RequestStartTransaction")
    order = await world.operator.send(Wish.START, action, _word(world, of_16, of_201))
    await _look_at_charge(world, evse, f"a remote start that was {order.answer.status}", before_mwh)


def _word(world: World, of_16: Any, of_201: Any) -> Any:
    """What is said, by the version that is spoken."""
    return of_16 if world.office.version is not None and world.office.version.is_16 else of_201


async def _charges(world: World, evse: int, how: str) -> Booked | None:
    outlet = world.outlets[evse]
    before_mwh = outlet.drawn_mwh
    if not outlet.plug(Vehicle(Kind(), _WANTS_MWH, world.visits[evse])):
        world.wrong(evse, "the next car cannot be plugged in")
        return None
    return await _look_at_charge(world, evse, how, before_mwh)


async def _look_at_charge(world: World, evse: int, how: str, before_mwh: int) -> Booked | None:
    """Energy flows, and the CSMS was told of it: status, transaction, and its time."""
    began_ms = world.true_wall_ms()
    await asyncio.sleep(CHARGES_WITHIN_S)
    book = world.office.book
    told, booked = book.statuses.get(evse), book.running.get(evse)
    if world.outlets[evse].drawn_mwh == before_mwh:
        world.wrong(evse, f"the next car cannot charge ({how})")
    elif told not in ("Charging", "Occupied"):
        world.wrong(evse, f"a car charges, and the CSMS was told {told}")
    elif booked is None:
        world.wrong(evse, "a car charges, and the CSMS knows of no transaction")
    elif not began_ms - _CLOCK_MS <= from_rfc3339(booked.started_at) <= world.true_wall_ms() + _CLOCK_MS:
        world.wrong(evse, f"a transaction began at {booked.started_at} for the CSMS, it is {to_rfc3339(began_ms)}")
    else:
        return booked
    return None


# ------------------------------------------------------------------------------------------- the limit


async def _order_limit(world: World, evse: int) -> None:
    schedule = {
        "chargingRateUnit": "A",
        "startSchedule": to_rfc3339(world.true_wall_ms() - 2 * _DAY_MS),
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": _LIMIT_MA / 1_000}],
    }
    profile = {"stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    of_16 = profile | {"chargingProfileId": _PROFILE_ID, "chargingSchedule": schedule}
    of_201 = profile | {"id": _PROFILE_ID, "chargingSchedule": [{"id": 1, **schedule}]}
    payload = _word(
        world, {"connectorId": evse, "csChargingProfiles": of_16}, {"evseId": evse, "chargingProfile": of_201}
    )
    order = await world.operator.send(Wish.LIMIT, "SetChargingProfile", payload)
    if order.answer.status != "Accepted":
        world.wrong(evse, f"a limit in calm weather is {order.answer.status or order.answer.fate}")


def _look_at_offer(world: World, evse: int) -> None:
    """The order is seen at the plug, and no less is offered than supply, outlet and order give."""
    outlet, supply_ma = world.outlets[evse], world.config.limits.supply_current_ma
    if outlet.module is not None:
        return
    hard_ma = min(outlet.evse.max_current_ma, outlet.evse.board.limits.max_current_ma)
    most_ma = min(_LIMIT_MA, hard_ma, hard_ma if supply_ma is None else supply_ma)
    if outlet.offered_ma > most_ma + ROUNDING_MA:
        world.wrong(evse, f"{outlet.offered_ma} mA are offered, {_LIMIT_MA} mA were ordered")
    elif outlet.offered_ma < most_ma - 1_000:
        world.wrong(evse, f"only {outlet.offered_ma} mA are offered of {most_ma} mA")


# ------------------------------------------------------------------------------------------- the end


async def _stop(world: World, evse: int, booked: Booked) -> None:
    action = _word(world, "RemoteStopTransaction", "RequestStopTransaction")
    order = await world.operator.send(Wish.STOP, action, {"transactionId": _word(world, booked.number, booked.key)})
    if order.answer.status != "Accepted":
        world.wrong(evse, f"a remote stop in calm weather is {order.answer.status or order.answer.fate}")
    await asyncio.sleep(TOLD_WITHIN_S)
    outlet = world.outlets[evse]
    if evse in world.mirror.open or outlet.contactor_closed:
        world.wrong(evse, "a remote stop was accepted, and the transaction runs")
    elif booked.reason != "Remote":
        world.wrong(evse, f"stopped remotely, and the CSMS was told {booked.reason or 'nothing'}")
    elif not outlet.unplug():
        world.wrong(evse, "the plug cannot be pulled a minute after the end")
