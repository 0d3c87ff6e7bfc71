"""C05, E01, E02, E05 to E09, E11, F03, F05, 20-TE-02, 20-TE-10: what the CSMS hears of sessions of the core.

The core lives a session with a well-behaved world around it; its rows then go to the CSMS by the dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.core.commands import RemoteStart, RemoteStop, Reset, Unlock
from agent.core.events import Authorized, Deauthorized, LimitSet, LinkChanged, StopAuthorized
from agent.core.facts import Token
from agent.core.settings import Behaviour, EvseHardware, StationSettings
from agent.core.status import ConnectorState, Outcome
from agent.ocpp.v201 import messages
from agent.sim.virtual_time import run_virtual
from hal.ports import BoardFault, BoardFaults, CpState
from tests.conformance.v201.rig import Rig
from tests.support.core_world import TOKEN, CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)
OTHER_CARD = Token("04D4E5F6")
CENTRAL = Token("0be0fd4a-a5d4-4a0b-9a5e-7f3a2c1d9e10", "Central")

Event = dict[str, Any]
Step = Callable[[CoreWorld], object]


def world(behaviour: Behaviour | None = None) -> CoreWorld:
    """Online, with nobody there."""
    made = CoreWorld(StationSettings(evses=(AC,), behaviour=behaviour or Behaviour()))
    made.boot()
    made.give(LinkChanged(True))
    return made


def charging(behaviour: Behaviour | None = None) -> CoreWorld:
    made = world(behaviour)
    made.charge()
    assert made.state() is ConnectorState.CHARGING
    return made


def tx_of(made: CoreWorld) -> str:
    return made.transactions()[0].tx_id


def told(made: CoreWorld) -> list[Event]:
    """All TransactionEvents of what was lived, as the CSMS gets them."""

    async def main() -> list[Event]:
        rig = Rig()
        await rig.station.append(*made.facts)
        async with rig.online():
            await rig.drained()
        return rig.events()

    return run_virtual(main())


def line(event: Event) -> tuple[str, str, str | None]:
    """Type, trigger and stop reason of an event."""
    return event["eventType"], event["triggerReason"], event["transactionInfo"].get("stoppedReason")


def stopped(made: CoreWorld, *steps: Step) -> Event:
    """The one event that follows these steps, which end the transaction."""
    before = len(told(made))
    for step in steps:
        step(made)
    made.run(10_000)
    [ended] = told(made)[before:]
    assert not made.evses[1].power
    return ended


# ---------------------------------------------------------------------------------------------- E01, E02


def test_the_cable_first() -> None:
    """E01, E02, TC_E_03: a cable alone is no transaction (TxStartPoint PowerPathClosed); the card begins it."""
    made = world()
    made.cp(1, CpState.B)
    made.run(600_000)
    assert made.statuses[1] == [ConnectorState.AVAILABLE, ConnectorState.PREPARING] and made.facts == []
    made.authorize(1)
    made.cp(1, CpState.C)
    made.run(1_000)
    started, charge = told(made)
    assert line(started) == ("Started", "Authorized", None)
    assert (started["seqNo"], started["evse"]) == (0, {"id": 1, "connectorId": 1})
    assert started["idToken"] == messages.id_token(TOKEN)
    assert started["transactionInfo"] == {"transactionId": tx_of(made), "chargingState": "EVConnected"}
    assert line(charge) == ("Updated", "ChargingStateChanged", None)
    assert charge["transactionInfo"] == {"transactionId": tx_of(made), "chargingState": "Charging"}


def plug(made: CoreWorld) -> None:
    made.cp(1, CpState.B)


def card(made: CoreWorld) -> None:
    made.authorize(1)


def remote_start(made: CoreWorld) -> None:
    made.command(RemoteStart(CENTRAL, 1, 7))


@pytest.mark.parametrize(
    ("first", "then", "trigger"),
    [
        (plug, card, "Authorized"),
        (plug, remote_start, "RemoteStart"),
        (card, plug, "CablePluggedIn"),
        (remote_start, plug, "CablePluggedIn"),
    ],
)
def test_it_begins_with_whatever_came_last(first: Step, then: Step, trigger: str) -> None:
    """E01, 20-TE-10: one event carries both, and has the trigger that closed the power path."""
    made = world()
    first(made)
    assert made.facts == []
    then(made)
    [started] = told(made)
    assert line(started) == ("Started", trigger, None)


@pytest.mark.parametrize("variable", ["TxStartPoint", "TxStopPoint"])
@pytest.mark.parametrize("point", ["ParkingBayOccupancy", "EVConnected", "Authorized", "DataSigned", "EnergyTransfer"])
def test_no_other_start_or_stop_point_is_taken(variable: str, point: str) -> None:
    """E01, E06: there is one, PowerPathClosed, and a CSMS that wants another is told so."""
    name = {"component": {"name": "TxCtrlr"}, "variable": {"name": variable}}

    async def main() -> tuple[str, str]:
        rig = Rig()
        async with rig.registered():
            change = await rig.csms.ask("SetVariables", {"setVariableData": [name | {"attributeValue": point}]})
            now = await rig.csms.ask("GetVariables", {"getVariableData": [name]})
        [result], [value] = change["setVariableResult"], now["getVariableResult"]
        return result["attributeStatus"], value["attributeValue"]

    assert run_virtual(main()) == ("Rejected", "PowerPathClosed")


def test_a_start_by_the_csms_names_the_token_that_the_csms_made() -> None:
    """C05: its type is Central, and nobody is asked about it."""
    made = world()
    plug(made)
    remote_start(made)
    [started] = told(made)
    assert started["idToken"] == {"idToken": CENTRAL.id_token, "type": "Central"}
    assert started["transactionInfo"]["remoteStartId"] == 7


# -------------------------------------------------------------------------------------------------- E05


def test_a_token_that_the_csms_refuses_ends_the_transaction() -> None:
    """E05: StopTxOnInvalidId is true."""
    made = charging()
    ended = stopped(made, lambda made: made.give(Deauthorized(tx_of(made), stop=True)))
    assert line(ended) == ("Ended", "Deauthorized", "DeAuthorized")


def test_a_token_that_the_csms_refuses_gets_no_energy_until_its_driver_leaves() -> None:
    """E05: StopTxOnInvalidId is false. There is no MaxEnergyOnInvalidId: not a watt-hour more."""
    made = charging()
    made.give(Deauthorized(tx_of(made), stop=False))
    made.run(10_000)
    assert not made.evses[1].power
    assert [line(event) for event in told(made)[2:]] == [
        ("Updated", "Deauthorized", None),
        ("Updated", "ChargingStateChanged", None),
    ]
    assert told(made)[-1]["transactionInfo"]["chargingState"] == "SuspendedEVSE"
    energy_mwh = made.evses[1].energy_mwh
    made.cp(1, CpState.B)
    made.cp(1, CpState.C)
    made.run(600_000)
    assert made.evses[1].energy_mwh == energy_mwh and not made.evses[1].power
    made.cp(1, CpState.A)
    made.run(1_000)
    assert line(told(made)[-1]) == ("Ended", "EVCommunicationLost", "EVDisconnected")


# ------------------------------------------------------------------------------------- E06, E07, E09, F03


def leave(made: CoreWorld) -> None:
    made.cp(1, CpState.A)


def pause(made: CoreWorld) -> None:
    made.cp(1, CpState.B)


@pytest.mark.parametrize(
    ("step", "trigger", "reason"),
    [
        pytest.param(lambda made: made.give(StopAuthorized(1, TOKEN)), "StopAuthorized", "Local", id="E07 card"),
        pytest.param(
            lambda made: made.give(StopAuthorized(1, TOKEN, master_pass=True)), "StopAuthorized", "MasterPass", id="C16"
        ),
        pytest.param(lambda made: made.command(RemoteStop(tx_of(made))), "RemoteStop", "Remote", id="F03 CSMS"),
        pytest.param(leave, "EVCommunicationLost", "EVDisconnected", id="E09 unplugged"),
        pytest.param(
            lambda made: made.command(Reset(immediate=True, hard=True)), "ResetCommand", "ImmediateReset", id="reset"
        ),
        pytest.param(
            lambda made: made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT}))),
            "AbnormalCondition",
            "GroundFault",
            id="fault",
        ),
    ],
)
def test_it_ends_once_when_the_power_path_is_no_longer_closed(step: Step, trigger: str, reason: str) -> None:
    """E06, E07, E09, F03: whatever opens it, one event says so and why."""
    ended = stopped(charging(), step)
    assert line(ended) == ("Ended", trigger, reason)
    assert ended["transactionInfo"]["chargingState"] == ("Idle" if step is leave else "EVConnected")


def test_an_end_names_the_card_that_stopped_it() -> None:
    """E07: not the one that started it, where they are two of one group."""
    ended = stopped(charging(), lambda made: made.give(StopAuthorized(1, OTHER_CARD)))
    assert ended["idToken"] == messages.id_token(OTHER_CARD)


def test_a_vehicle_that_stops_and_then_leaves_is_disconnected() -> None:
    """E09, TC_E_24: the pause is an event of its own."""
    made = charging()
    pause(made)
    made.run(1_000)
    assert told(made)[-1]["transactionInfo"]["chargingState"] == "SuspendedEV"
    ended = stopped(made, leave)
    assert line(ended) == ("Ended", "EVCommunicationLost", "EVDisconnected")
    assert "idToken" not in ended
    assert made.state() is ConnectorState.AVAILABLE and not made.evses[1].locked


def test_a_stop_of_another_transaction_stops_nothing() -> None:
    """F03: an id that nothing here has, or no longer has, is refused."""
    made = charging()
    for tx_id in ("another", "", tx_of(made).upper()):
        [answer] = made.answers(made.command(RemoteStop(tx_id)))
        assert answer.outcome is Outcome.UNKNOWN_TRANSACTION
    made.run(10_000)
    assert made.state() is ConnectorState.CHARGING
    stopped(made, lambda made: made.command(RemoteStop(tx_of(made))))
    [answer] = made.answers(made.command(RemoteStop(tx_of(made))))
    assert answer.outcome is Outcome.UNKNOWN_TRANSACTION


def test_an_unlock_does_not_end_a_transaction() -> None:
    """F05: in 2.0.1 it is refused while one runs; before and after, the cable is given back."""
    made = charging()
    [answer] = made.answers(made.command(Unlock(1, end_transaction=False)))
    assert answer.outcome is Outcome.ONGOING_TRANSACTION
    made.run(10_000)
    assert made.evses[1].locked and made.state() is ConnectorState.CHARGING
    stopped(made, lambda made: made.give(Deauthorized(tx_of(made), stop=True)))
    assert made.evses[1].locked, "until the card that was refused, or an unlock"
    [answer] = made.answers(made.command(Unlock(1, end_transaction=False)) + made.run(1_000))
    assert answer.outcome is Outcome.UNLOCKED and not made.evses[1].locked


# --------------------------------------------------------------------------------------- E08, E11, 20-TE-02


@pytest.mark.parametrize("by", [TOKEN, OTHER_CARD], ids=["TC_E_44 same card", "TC_E_45 same group"])
def test_a_stop_while_the_link_is_lost_is_told_later(by: Token) -> None:
    """E08: as something that happened offline, by the card that did it."""
    made = charging()
    made.give(LinkChanged(False))
    ended = stopped(made, lambda made: made.give(StopAuthorized(1, by)))
    assert line(ended) == ("Ended", "StopAuthorized", "Local")
    assert ended["offline"] is True and ended["idToken"] == messages.id_token(by)


def test_a_link_that_is_lost_for_a_while_leaves_no_gap() -> None:
    """E11, 20-TE-02, TC_E_40: energy flows on; only what happened meanwhile says offline; numbers go on."""
    made = charging(Behaviour(sample_interval_ms=10_000))
    made.run(25_000)
    made.give(LinkChanged(False))
    made.run(20_000)
    assert made.evses[1].power
    made.give(LinkChanged(True))
    made.run(10_000)
    stopped(made, lambda made: made.give(StopAuthorized(1, TOKEN)))
    events = told(made)
    assert [event.get("offline", False) for event in events] == [False] * 4 + [True] * 2 + [False] * 2
    assert [event["seqNo"] for event in events] == list(range(8))
    assert {event["transactionInfo"]["transactionId"] for event in events} == {tx_of(made)}


def test_every_transaction_counts_its_events_from_nought() -> None:
    """20-TE-02."""
    made = charging()
    stopped(made, lambda made: made.give(StopAuthorized(1, TOKEN)))
    made.give(Authorized(1, TOKEN, None))
    made.run(1_000)
    stopped(made, leave)
    first, second = (
        [event["seqNo"] for event in told(made) if event["transactionInfo"]["transactionId"] == tx_id]
        for tx_id in ("tx-1", "tx-2")
    )
    assert first == list(range(len(first))) and second == list(range(len(second)))


# ------------------------------------------------------------------------------------------------ 20-TE-10


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (lambda made: None, "Charging"),
        (pause, "SuspendedEV"),
        (lambda made: made.give(LimitSet(1, 0)), "SuspendedEVSE"),
        (leave, "Idle"),
    ],
)
def test_every_charging_state_is_told(step: Step, state: str) -> None:
    """20-TE-10: EVConnected stands in Started; each other one is told when it is so, and once."""
    made = charging(Behaviour(stop_on_unplug=False))
    step(made)
    made.run(30_000)
    events = told(made)
    assert events[0]["transactionInfo"]["chargingState"] == "EVConnected"
    assert line(events[-1]) == ("Updated", "ChargingStateChanged", None)
    states = [event["transactionInfo"]["chargingState"] for event in events[1:]]
    assert states[-1] == state and states.count(state) == 1
