"""Rules of the simulated world on who pays, why it ended, idle time and alarms: each speaks, and only where due."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from agent.core.facts import ChargingState, StopReason, Token, TransactionFact, Trigger, TxKind
from agent.core.station import Station
from agent.core.status import FaultCode
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.alarms import AGAIN_MS, KEPT_MS, is_false
from agent.sim.world.booking import Book, Booked
from agent.sim.world.device_faults import Fault
from agent.sim.world.parties import LATELY_MS, Parties
from agent.sim.world.plug import NOTICED_MS, Plug
from agent.sim.world.vehicle import Habit
from hal.ports import DUTY_X1, CpState
from tests.unit.world.outlet_rig import Rig, car, in_world

CARD, OTHER = "04A1B2C3", "04FFEEDD"
OFFER = 2_666  # 16 A
RUNS_S = 3 * LATELY_MS / 1_000


@dataclass
class Place:
    """A transaction at EVSE 1 that ran for so long that what began it is of no account any more."""

    rig: Rig
    parties: Parties
    book: Book
    said: list[str] = field(default_factory=list)
    disturbed: int = 0
    core: _Core = field(default_factory=lambda: _Core())

    def start(self, token: str = CARD, by: str = "csms") -> None:
        self.parties.transaction(_fact(TxKind.STARTED, token=Token(token), authorized_by=by))

    async def runs(self) -> None:
        self.parties.card(1, CARD)
        self.start()
        await asyncio.sleep(RUNS_S)

    def end(self, reason: StopReason | None, token: str | None = None) -> None:
        fact = _fact(TxKind.ENDED, token=None if token is None else Token(token), stopped_reason=reason)
        self.parties.transaction(fact)


def _fact(kind: TxKind, **others: Any) -> TransactionFact:
    return TransactionFact(kind, "tx-1", 0, 1, Trigger.AUTHORIZED, ChargingState.CHARGING, offline=False, **others)


@dataclass
class _Behaviour:
    stop_on_unplug: bool = True
    connect_timeout_ms: int = 120_000


@dataclass
class _Core:
    """As much of a station as is asked: what pulling the plug does."""

    behaviour: _Behaviour = field(default_factory=_Behaviour)

    @property
    def ctx(self) -> _Core:
        return self


def place(rig: Rig) -> Place:
    book = Book()
    parties = Parties(
        {1: rig.outlet, 2: rig.outlet},
        book,
        now_ms,
        lambda _: made.disturbed,
        lambda: cast(Station, made.core),
        lambda _, text: made.said.append(text),
    )
    made = Place(rig, parties, book)
    return made


def lived(act: Any) -> list[str]:
    async def story() -> list[str]:
        made = place(Rig("mcu_ac"))
        done = act(made)
        if done is not None:
            await done
        return made.said

    return in_world(story)


START_201 = {"idToken": {"idToken": CARD, "type": "ISO14443"}, "remoteStartId": 1}


@pytest.mark.parametrize(
    ("evse", "token", "order", "by", "right"),
    [
        (1, CARD, None, "csms", True),
        (1, CARD.lower(), None, "csms", True),
        (1, OTHER, None, "csms", False),
        (2, CARD, None, "csms", False),  # another reader
        (1, CARD, None, "remote", False),
        (None, "", {"idTag": CARD, "connectorId": 1}, "remote", True),
        (None, "", {"idTag": CARD}, "csms", True),  # whose token was asked for, too
        (None, "", {"idTag": CARD, "connectorId": 2}, "remote", False),
        (None, "", {"idTag": OTHER, "connectorId": 1}, "remote", False),
        (None, "", START_201 | {"evseId": 1}, "remote", True),
        (None, "", START_201 | {"evseId": 2}, "remote", False),
    ],
)
def test_a_start_rests_on_a_card_here_or_on_an_order(
    evse: int | None, token: str, order: dict[str, Any] | None, by: str, right: bool
) -> None:
    def act(made: Place) -> None:
        if evse is not None:
            made.parties.card(evse, token)
        if order is not None:
            made.parties.asks("RemoteStartTransaction" if "idTag" in order else "RequestStartTransaction", order)
        made.start(by=by)

    assert bool(lived(act)) is not right


@pytest.mark.parametrize(
    ("order", "shown", "since", "right"),
    [
        ({"idTag": OTHER}, False, "stays", False),
        ({"idTag": OTHER}, True, "stays", True),
        ({"idTag": OTHER, "connectorId": 1}, False, "stays", True),
        ({"idTag": OTHER}, False, "comes again", True),
        ({"idTag": OTHER}, False, "another comes", True),
        ({"idTag": OTHER}, False, "noise", True),
    ],
)
def test_an_order_that_names_no_outlet_is_for_no_car_that_has_charged_here(
    order: dict[str, Any], shown: bool, since: str, right: bool
) -> None:
    async def act(made: Place) -> None:
        outlet, first = made.rig.outlet, car()
        outlet.plug(first)
        await made.runs()
        made.parties.card(1, CARD)
        made.end(StopReason.LOCAL, CARD)
        if since == "noise":
            outlet.fault(Fault.PILOT_SILENT)
        elif since != "stays":
            await asyncio.sleep(1)
            outlet.unplug(forced=True)
            made.parties.left(1)
            await asyncio.sleep(1)
            outlet.plug(first if since == "comes again" else car())
        if shown:
            made.parties.card(1, OTHER)
        made.parties.asks("RemoteStartTransaction", order)
        made.start(OTHER, by="csms" if shown else "remote")

    assert bool(lived(act)) is not right


def test_a_card_of_an_hour_ago_starts_nothing() -> None:
    async def act(made: Place) -> None:
        made.parties.card(1, CARD)
        await asyncio.sleep(2 * LATELY_MS / 1_000)
        made.start()

    assert lived(act)


@pytest.mark.parametrize(
    ("left_s", "hidden", "right"),
    [(120, False, False), (120, True, True), (1, False, True), (None, False, True), (500, False, True)],
    ids=["left since", "nobody saw it", "left as it was written", "nobody left", "left before the card"],
)
def test_a_card_whose_car_has_left_starts_nothing(left_s: int | None, hidden: bool, right: bool) -> None:
    async def act(made: Place) -> None:
        if hidden:
            made.rig.outlet.fault(Fault.PILOT_SILENT)
        for at_s in range(600, 0, -1):
            if at_s == 400:
                made.parties.card(1, CARD)
            if at_s == left_s:
                made.parties.left(1)
            await asyncio.sleep(1)
        made.start()

    assert bool(lived(act)) is not right


@pytest.mark.parametrize(
    ("reason", "token", "done", "right"),
    [
        (StopReason.LOCAL, CARD, "card", True),
        (None, CARD, "card", True),
        (None, None, "card", True),
        (StopReason.LOCAL, OTHER, "card", False),
        (StopReason.LOCAL, CARD, "", False),
        (StopReason.REMOTE, None, "order", True),
        (StopReason.REMOTE, None, "number", True),
        (StopReason.REMOTE, None, "another", False),
        (StopReason.REMOTE, None, "card", False),
        (StopReason.EV_DISCONNECTED, None, "leaves", True),
        (StopReason.EV_DISCONNECTED, None, "noise", True),
        (StopReason.EV_DISCONNECTED, None, "", False),
        (StopReason.TIMEOUT, None, "leaves", True),
        (StopReason.TIMEOUT, None, "", False),
        (StopReason.DE_AUTHORIZED, None, "", True),
    ],
)
def test_an_end_is_told_as_the_doing_of_who_did_it(
    reason: StopReason | None, token: str | None, done: str, right: bool
) -> None:
    async def act(made: Place) -> None:
        assert made.rig.outlet.plug(car())
        await made.runs()
        if done == "card":
            made.parties.card(1, CARD)
        elif done == "order":
            made.parties.asks("RequestStopTransaction", {"transactionId": "tx-1"})
        elif done == "another":
            made.parties.asks("RequestStopTransaction", {"transactionId": "tx-2"})
        elif done == "number":
            booked = Booked("1 now 0", 1, "m-1")
            made.book.begin(booked)
            made.parties.asks("RemoteStopTransaction", {"transactionId": made.book.number(booked)})
        elif done == "leaves":
            made.parties.left(1)
        elif done == "noise":
            made.rig.outlet.fault(Fault.BUS_GARBAGE)
        made.end(reason, token)

    assert bool(lived(act)) is not right


@pytest.mark.parametrize(
    ("how", "ends", "disturbed", "right"),
    [
        ("card", True, False, True),
        ("card", False, False, False),
        ("card", False, True, True),
        ("another card", False, False, True),
        ("leaves", True, False, True),
        ("leaves", False, False, False),
    ],
)
def test_the_drivers_card_and_the_plug_end_it_within_a_minute(
    how: str, ends: bool, disturbed: bool, right: bool
) -> None:
    async def act(made: Place) -> None:
        await made.runs()
        if how == "leaves":
            made.parties.left(1)
        else:
            made.parties.card(1, CARD if how == "card" else OTHER)
        await asyncio.sleep(30)
        made.disturbed += disturbed
        if ends:
            made.end(StopReason.LOCAL if how == "card" else StopReason.EV_DISCONNECTED)
        await asyncio.sleep(60)

    assert bool(lived(act)) is not right


@pytest.mark.parametrize(
    ("comes_after_s", "leaves_again", "ends", "right"),
    [
        (None, False, True, True),
        (None, False, False, False),
        (60, False, False, True),
        (60, True, False, False),
        (60, True, True, True),
    ],
)
def test_where_unplugging_does_not_end_it_a_car_that_stays_away_does(
    comes_after_s: int | None, leaves_again: bool, ends: bool, right: bool
) -> None:
    async def act(made: Place) -> None:
        made.core.behaviour.stop_on_unplug = False
        await made.runs()
        made.parties.left(1)
        if comes_after_s is not None:
            await asyncio.sleep(comes_after_s)
            assert made.rig.outlet.plug(car())
            if leaves_again:
                await asyncio.sleep(30)
                assert made.rig.outlet.unplug()
                made.parties.left(1)
        await asyncio.sleep(150)
        if ends:
            made.end(StopReason.TIMEOUT)
        await asyncio.sleep(150)

    assert bool(lived(act)) is not right


@pytest.mark.parametrize(
    ("cp", "duty", "idle_ms"),
    [
        (CpState.B, OFFER, 60_000),
        (CpState.D, OFFER, 60_000),
        (CpState.E, DUTY_X1, 60_000),
        (CpState.B, DUTY_X1, NOTICED_MS),
        (CpState.C, OFFER, NOTICED_MS),
        (CpState.A, OFFER, 0),
    ],
)
def test_idle_is_what_is_offered_and_not_asked_for(cp: CpState, duty: int, idle_ms: int) -> None:
    async def story() -> int:
        plug = Plug(asyncio.get_running_loop(), lambda: None, lambda _: None)
        plug.show(duty, False)
        plug.set_cp(cp)
        await asyncio.sleep(60)
        return plug.idle_ms

    assert run_virtual(story()) == idle_ms


@pytest.mark.parametrize(
    ("fault", "struck", "habit", "since_s", "false"),
    [
        (FaultCode.CONTACTOR_WELDED, None, None, 0, True),
        (FaultCode.CONTACTOR_WELDED, Fault.CONTACTOR_WELDED, None, 0, False),
        (FaultCode.CONTACTOR_WELDED, Fault.RESIDUAL_CURRENT, None, 0, True),
        (FaultCode.BOARD_RESET, Fault.BOARD_RESET, None, 60, False),
        (FaultCode.BOARD_RESET, Fault.BOARD_RESET, None, 600, True),
        (FaultCode.OVER_CURRENT, None, Habit.OVERDRAW, 0, False),
        (FaultCode.OVER_CURRENT, None, None, 0, True),
        (FaultCode.LOCK, Fault.PILOT_SILENT, None, 0, False),
        (FaultCode.METER_LOST, None, None, 0, False),  # not looked at
    ],
)
def test_a_fault_has_a_cause(
    fault: FaultCode, struck: Fault | None, habit: Habit | None, since_s: int, false: bool
) -> None:
    async def story() -> bool:
        rig = Rig("mcu_ac")
        await asyncio.sleep(KEPT_MS / 1_000)
        assert rig.outlet.plug(car(1_000, *([] if habit is None else [habit])))
        if struck is not None:
            rig.outlet.fault(struck)
        await asyncio.sleep(since_s)
        assert not is_false(fault, rig.outlet, now_ms() - AGAIN_MS + 1, 0)
        return is_false(fault, rig.outlet, None, 0)

    assert in_world(story) is false
