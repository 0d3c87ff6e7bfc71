"""C10, C11, C15, C16: what the CSMS says of a token late, in the answer to a transaction's event, and what is kept.

The real core and the real decisions; the CSMS's answers are given by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.load import load
from agent.config.station_model import build_device_model
from agent.core.commands import RemoteStart
from agent.core.events import Event
from agent.core.facts import StopReason, Token, Trigger, TxKind
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState, Outcome
from agent.ipc.port import AuthorizeWanted, News, TokenVerdict
from agent.ledger.state import Clear, Delete, Namespace, Put, StateChange
from agent.station.tokens import Tokens
from hal.ports import CpState
from tests.support.core_world import CoreWorld

CONFIG = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
CARD = Token("04AABBCC")
JANITORS = "Janitors"


class Desk:
    """A station with one EVSE, a disk for its cache, and questions that the CSMS was asked."""

    def __init__(self, disk: dict[str, str] | None = None) -> None:
        self.waited_for: list[StateChange] = []
        self.disk = {} if disk is None else disk
        self.asked: list[AuthorizeWanted] = []
        self.model: DeviceModel = build_device_model(CONFIG)
        self.world = CoreWorld(StationSettings(evses=(EvseHardware(1, 32_000),)))
        self.world.boot()
        self.tokens = Tokens(CONFIG, self.model, self.world.station, self, dict(self.disk))
        self.tokens.link(True, "2.0.1")

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.model.set(key(name.replace("__", ".")), value)
        self.tokens.configure()

    def begin_offline(self) -> str:
        """The card starts without a link; the link is back. The transaction's id."""
        self.tokens.link(False, None)
        self.world.cp(1, CpState.B)
        assert self.tokens.present(CARD, 1) == "accepted"
        self.world.cp(1, CpState.C)
        self.world.run(2_000)
        assert self.world.state() is ConnectorState.CHARGING
        self.tokens.link(True, "2.0.1")
        return self.world.transactions()[0].tx_id

    def answer_to_event(self, tx_id: str | None, verdict: TokenVerdict) -> None:
        self.tokens.verdict(CARD, verdict, request_id=None, tx_id=tx_id)
        self.world.run(20_000)

    # --------------------------------------------------------------------------------- the tokens' shell

    def give(self, event: Event) -> None:
        self.world.give(event)

    def publish(self, news: News) -> None:
        assert isinstance(news, AuthorizeWanted)
        self.asked.append(news)

    def save_lazily(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            assert not isinstance(change, Clear) or change.namespace is Namespace.TOKEN
            if isinstance(change, Put):
                self.disk[change.key] = change.value
            elif isinstance(change, Delete):
                self.disk.pop(change.key, None)
            elif isinstance(change, Clear):
                self.disk.clear()

    async def save(self, changes: Sequence[StateChange]) -> None:
        self.waited_for += changes
        self.save_lazily(changes)


@pytest.mark.parametrize("status", ["Blocked", "Invalid", "NotAtThisLocation"])
def test_c15_an_unknown_card_that_the_csms_refuses_after_the_reconnect_ends_its_transaction(status: str) -> None:
    """StopTxOnInvalidId is true."""
    desk = Desk()
    desk.set(AuthCtrlr__OfflineTxForUnknownIdEnabled="true")
    desk.answer_to_event(desk.begin_offline(), TokenVerdict(status))
    end = desk.world.transactions()[-1]
    assert (end.kind, end.trigger, end.stopped_reason) == (
        TxKind.ENDED,
        Trigger.DEAUTHORIZED,
        StopReason.DE_AUTHORIZED,
    )
    assert not desk.world.evses[1].power


def test_c15_without_stop_on_invalid_id_it_stays_open_and_gets_no_more_energy() -> None:
    desk = Desk()
    desk.set(AuthCtrlr__OfflineTxForUnknownIdEnabled="true", TxCtrlr__StopTxOnInvalidId="false")
    desk.answer_to_event(desk.begin_offline(), TokenVerdict("Invalid"))
    assert all(fact.kind is not TxKind.ENDED for fact in desk.world.transactions())
    assert not desk.world.evses[1].power and desk.world.state() is ConnectorState.SUSPENDED_EVSE


def test_c15_an_unknown_card_that_the_csms_accepts_goes_on_and_is_known_from_then_on() -> None:
    desk = Desk()
    desk.set(AuthCtrlr__OfflineTxForUnknownIdEnabled="true")
    desk.answer_to_event(desk.begin_offline(), TokenVerdict("Accepted"))
    assert desk.world.evses[1].power
    desk.world.cp(1, CpState.A)
    desk.world.run(2_000)
    desk.set(AuthCtrlr__OfflineTxForUnknownIdEnabled="false")
    desk.begin_offline()


def test_c16_an_unknown_card_that_turns_out_to_be_a_master_pass_ends_what_it_began() -> None:
    desk = Desk()
    desk.set(AuthCtrlr__OfflineTxForUnknownIdEnabled="true", AuthCtrlr__MasterPassGroupId=JANITORS)
    desk.answer_to_event(desk.begin_offline(), TokenVerdict("Accepted", JANITORS))
    assert desk.world.transactions()[-1].stopped_reason is StopReason.DE_AUTHORIZED


def test_c16_a_master_pass_that_the_csms_vouches_for_stops_another_cards_transaction_and_starts_none() -> None:
    master = Token("04999999")
    desk = Desk()
    desk.set(AuthCtrlr__MasterPassGroupId=JANITORS)
    desk.world.charge()
    assert desk.tokens.present(master, 1) == "asking the CSMS"
    verdict = TokenVerdict("Accepted", JANITORS)
    desk.tokens.verdict(master, verdict, request_id=desk.asked[-1].request_id, tx_id=None)
    desk.world.cp(1, CpState.B)
    desk.world.run(8_000)
    end = desk.world.transactions()[-1]
    assert (end.kind, end.token, end.stopped_reason) == (TxKind.ENDED, master, StopReason.MASTER_PASS)
    assert desk.tokens.present(master, 1) == "refused: Invalid"
    desk.world.run(8_000)
    assert desk.world.transactions()[-1] == end


@pytest.mark.parametrize("told_by", ["Authorize", "TransactionEvent"])
@pytest.mark.parametrize("status", ["Accepted", "Blocked"])
def test_c10_what_the_csms_said_outlives_a_restart(told_by: str, status: str) -> None:
    """Of the end of a transaction, too, when there is nothing left to stop."""
    desk = Desk()
    if told_by == "Authorize":
        desk.world.cp(1, CpState.B)
        desk.tokens.present(CARD, 1)
        desk.tokens.verdict(CARD, TokenVerdict(status), request_id=desk.asked[-1].request_id, tx_id=None)
    else:
        desk.answer_to_event(None, TokenVerdict(status))
    again = Desk(desk.disk)
    again.tokens.link(False, None)
    again.world.cp(1, CpState.B)
    assert again.tokens.present(CARD, 1) == ("accepted" if status == "Accepted" else "refused: Blocked")


def test_c11_a_cache_that_was_cleared_is_empty_after_a_restart_too() -> None:
    desk = Desk()
    desk.answer_to_event(None, TokenVerdict("Accepted"))
    assert desk.disk != {}
    assert asyncio.run(desk.tokens.clear_cache())
    assert desk.waited_for == [Clear(Namespace.TOKEN)], "confirmed when it is on disk"
    assert desk.disk == {}
    for each in (desk, Desk(desk.disk)):
        each.tokens.link(False, None)
        each.world.cp(1, CpState.B)
        assert each.tokens.present(CARD, 1) == "refused: Unknown"


def test_c09_the_group_may_come_with_the_answer_to_the_start() -> None:
    """16-AUTH-09: the card began without a link, so nobody knew its group; it is known after a restart, too."""
    desk = Desk()
    desk.set(AuthCtrlr__OfflineTxForUnknownIdEnabled="true")
    tx_id = desk.begin_offline()
    desk.answer_to_event(tx_id, TokenVerdict("Accepted", "FLEET"))
    other = Token("0BADCAFE", "ISO14443")
    desk.tokens.present(other, 1)
    desk.tokens.verdict(other, TokenVerdict("Accepted", "OTHERS"), request_id=desk.asked[-1].request_id, tx_id=None)
    assert desk.world.state() is ConnectorState.CHARGING
    desk.tokens.present(other, 1)
    desk.tokens.verdict(other, TokenVerdict("Accepted", "FLEET"), request_id=desk.asked[-1].request_id, tx_id=None)
    desk.world.run(8_000)
    assert desk.world.transactions()[-1].kind is TxKind.ENDED


def test_c01_what_is_said_of_one_evse_is_not_remembered() -> None:
    desk = Desk()
    desk.answer_to_event(None, TokenVerdict("Accepted"))
    assert desk.disk != {}
    desk.answer_to_event(None, TokenVerdict("NotAtThisLocation", everywhere=False))
    assert desk.disk == {}
    desk.tokens.link(False, None)
    desk.world.cp(1, CpState.B)
    assert desk.tokens.present(CARD, 1) == "refused: Unknown"


def test_f01_the_group_of_a_remote_start_that_is_asked_about_is_kept() -> None:
    desk = Desk()
    desk.world.cp(1, CpState.B)

    async def order() -> None:
        assert desk.tokens.remote_start(RemoteStart(CARD, 1, 7, "FLEET")).outcome is Outcome.ACCEPTED

    asyncio.run(order())
    desk.tokens.verdict(CARD, TokenVerdict("Accepted"), request_id=desk.asked[-1].request_id, tx_id=None)
    assert desk.world.transactions()[0].group == "FLEET"
