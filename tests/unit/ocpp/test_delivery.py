"""The delivery pump without any dialect: cursor, order, ids, retry counts (16-TX-01 to 05, 20-TE-04, 05)."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.core.facts import BootFact
from agent.ipc.port import CsmsTx, Record
from agent.ocpp.backoff import BackoffSettings
from agent.ocpp.delivery import message_id
from agent.ocpp.dialect import Line, until_link_gone
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import Payload
from agent.ocpp.link import Link
from agent.ocpp.retry import HANG_UPS, PATIENCE_S, RetryPolicy
from agent.ocpp.rpc import CallOutcome, LinkLost, Priority, TimedOut
from agent.ocpp.session import Session
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms, run_virtual
from tests.support.fake_station import T0_MS
from tests.unit.ocpp.delivery_rig import CUT, MUTE, NO, OK, ONCE, TOLD, TOO_BIG, Peer, Pump


def test_order_one_at_a_time_and_the_cursor_follows() -> None:
    """20-TE-05: strictly in order."""

    async def main() -> None:
        pump, peer = Pump(*(TOLD if number % 2 == 0 else MUTE for number in range(80))), Peer()
        await pump.run(peer)
        assert [row for row, *_ in peer.sent] == list(range(1, 80, 2))
        assert pump.station.delivered_seq == 80  # rows that concern nobody move it too
        assert pump.station.records_asked_max == 16

    run_virtual(main())


def test_wakes_on_appended_rows() -> None:
    async def main() -> None:
        pump, peer = Pump(TOLD), Peer()
        running = asyncio.create_task(pump.run(peer, for_s=100))
        await asyncio.sleep(50)
        await pump.station.append(TOLD)
        assert len(peer.sent) == 1
        pump.delivery.wake()
        await asyncio.sleep(1)
        assert len(peer.sent) == 2
        await running

    run_virtual(main())


@pytest.mark.parametrize(("failure", "new_id"), [(NO, True), (NO, False), (TimedOut(), True), (TimedOut(), False)])
def test_retries_are_spaced_counted_and_end_in_a_drop(failure: CallOutcome, new_id: bool) -> None:
    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD, new_id_on_retry=new_id), Peer([failure] * 3)
        await pump.run(peer)
        assert [(row, at_ms) for row, _, _, at_ms in peer.sent] == [(1, 0), (1, 60_000), (1, 180_000), (2, 180_000)]
        assert len({sent_id for row, sent_id, _, _ in peer.sent if row == 1}) == (3 if new_id else 1)
        assert pump.translator.given == [1]
        assert pump.station.csms_txs == {"tx-1": CsmsTx("tx-1", -1, given_up=True)}
        counters = pump.delivery.counters
        assert (counters.delivered, counters.dropped, counters.retried) == (1, 1, 2)

    run_virtual(main())


def test_a_changed_policy_holds_at_once() -> None:
    async def main() -> None:
        pump, peer = Pump(TOLD), Peer([NO, NO])
        running = asyncio.create_task(pump.run(peer))
        await asyncio.sleep(30)
        pump.policy = RetryPolicy(2, 1)
        await running
        assert pump.translator.given == [1]

    run_virtual(main())


def test_16_tx_04_lost_links_never_count_and_repeat_the_id() -> None:
    async def main() -> None:
        pump = Pump(TOLD, TOLD)
        peers = [Peer([CUT]) for _ in range(10)] + [Peer()]
        for peer in peers:
            await pump.run(peer)
            await asyncio.sleep(PATIENCE_S)
        assert len({peer.sent[0][1] for peer in peers}) == 1
        assert pump.delivery.counters.dropped == 0
        assert pump.station.delivered_seq == 2

    run_virtual(main())


@pytest.mark.parametrize(("lives", "links"), [(True, 3), (False, 5)])
def test_refusals_count_over_reconnects_and_so_do_time_outs_where_the_csms_lives(lives: bool, links: int) -> None:
    async def main() -> None:
        pump = Pump(TOLD)
        outcomes: list[CallOutcome] = [TimedOut(), NO, TimedOut(), NO, NO]
        for outcome in outcomes[:links]:
            assert pump.translator.given == []
            await pump.run(Peer([outcome, CUT], answers_beats=lives))
        assert pump.translator.given == [1]

    run_virtual(main())


@pytest.mark.parametrize("attempts", [1, 3])
def test_16_tx_03_nothing_is_given_up_while_nothing_is_answered(attempts: int) -> None:
    """Nor is it told again and again meanwhile: a CSMS that is only slow may book each."""

    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD, TOLD), Peer(silent_until_ms=7_200_000)
        pump.policy = RetryPolicy(attempts, 60)
        await pump.run(peer)
        assert [row for row, *_ in peer.sent] == [1, 1, 2, 3]
        assert peer.sent[1][3] == 7_200_000, "at the first Heartbeat that is answered"
        assert pump.delivery.counters.dropped == 0

    run_virtual(main())


class Serial(Peer):
    """Works on one call at a time, and 70 s on row 1; the station waits 30 s."""

    busy_until_ms = 0

    async def call(self, action: str, payload: dict[str, Any], **more: Any) -> CallOutcome:
        if payload.get("row") == 1:
            self.busy_until_ms = max(self.busy_until_ms, now_ms()) + 70_000
        wait_s = (self.busy_until_ms - now_ms()) / 1_000
        outcome = await super().call(action, payload, **more)
        await asyncio.sleep(min(max(wait_s, 0), 30))
        return TimedOut() if wait_s > 30 else outcome


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("new_id", [True, False])
def test_16_tx_03_a_row_that_keeps_the_csms_busy_for_longer_than_a_heartbeat_waits_ends(
    attempts: int, new_id: bool
) -> None:
    """The Heartbeat right behind it is never answered, the one a minute later always."""

    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD, TOLD, new_id_on_retry=new_id), Serial()
        pump.policy = RetryPolicy(attempts, 60)
        await pump.run(peer, for_s=7 * 86_400)
        assert [row for row, *_ in peer.sent] == [1] * (attempts + 1) + [2, 3], "nor are the others told to a busy CSMS"
        assert pump.translator.given == [1]
        assert pump.delivery.counters.delivered == 2

    run_virtual(main())


@pytest.mark.parametrize("flaps_after_s", [None, 5])
def test_a_link_that_comes_and_goes_does_not_shorten_the_patience(flaps_after_s: float | None) -> None:
    """The operator's 400 s x (1 + ... + 9) pass before the tenth refusal, whatever the link does meanwhile."""

    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD), Peer([NO] * 10)
        pump.policy = RetryPolicy(10, 400)
        while not pump.translator.given:
            await pump.run(peer, for_s=flaps_after_s or 100_000)
            await asyncio.sleep(15)
        last_at_ms = [at_ms for row, _, _, at_ms in peer.sent if row == 1][-1]
        assert 18_000_000 <= last_at_ms < 18_000_000 + 10 * 20_000

    run_virtual(main())


async def hang_up(pump: Pump, peers: Sequence[Peer], every_s: float) -> int:
    """How many of these connections it takes until the first row is over."""
    for number, peer in enumerate(peers, 1):
        await pump.run(peer, for_s=600)
        if pump.station.delivered_seq:
            return number
        await asyncio.sleep(every_s)
    return 0


def test_a_message_at_which_the_csms_hangs_up_stops_nothing_for_ever() -> None:
    """It answers everything else: after patience, shorter; then the next message goes, and the count tells."""

    async def main() -> None:
        pump = Pump(TOLD, TOLD)
        pump.translator.shorter = ({"form": "short"}, {"form": "none"})
        peers = [Peer([CUT]) for _ in range(1_000)]
        taken = await hang_up(pump, peers, every_s=30)
        assert taken > PATIENCE_S / 30
        forms = [form for peer in peers for form in peer.forms]
        assert forms == ["full"] * (taken - 3) + ["short", "none", "full"], "the last is the next message's"
        assert pump.translator.given == [1]
        assert pump.delivery.counters.dropped == 1

    run_virtual(main())


@pytest.mark.parametrize("outcome", [CUT, TimedOut()])
def test_16_tx_04_a_csms_that_is_away_behind_an_open_link_costs_no_message(outcome: CallOutcome) -> None:
    """Nothing is answered, so it is not the message: a week of it, then all is told in full."""

    async def main() -> None:
        pump = Pump(TOLD, TOLD)
        pump.policy = RetryPolicy(1_000, 60)
        pump.translator.shorter = ({"form": "short"},)
        for _ in range(7 * 24):
            await pump.run(Peer([outcome, CUT], answers_beats=False), for_s=100)
            await asyncio.sleep(3_600)
        peer = Peer()
        await pump.run(peer)
        assert peer.forms == ["full", "full"]
        assert pump.delivery.counters.dropped == 0

    run_virtual(main())


def test_a_few_hang_ups_in_a_row_need_no_proof_and_waiting_calls_are_none() -> None:
    async def main() -> None:
        pump, peers = Pump(TOLD), [Peer([LinkLost("cut")]) for _ in range(100)]
        await hang_up(pump, peers, every_s=3_600)
        assert sum(peer.beats for peer in peers) == 0
        peers = [Peer([CUT]) for _ in range(HANG_UPS)]
        await hang_up(pump, peers, every_s=1)
        assert [peer.beats for peer in peers] == [0] * 5 + [1] * (HANG_UPS - 5)
        assert pump.delivery.counters.dropped == 0, "so many in so short a time are the link's"

    run_virtual(main())


def test_what_is_too_big_for_the_csms_goes_shorter_at_once() -> None:
    """Field fault 5: each closing with 1009 takes the next form, and the last form keeps its patience."""

    async def main() -> None:
        pump = Pump(TOLD, TOLD)
        pump.translator.shorter = ({"form": "short"}, {"form": "none"})
        peers = [Peer([TOO_BIG]), Peer([TOO_BIG]), *(Peer([TOO_BIG]) for _ in range(10)), Peer()]
        assert await hang_up(pump, peers, every_s=30) == 13
        assert [peer.forms[0] for peer in peers] == ["full", "short"] + ["none"] * 11
        assert peers[-1].forms == ["none", "full"], "the next message begins in full"
        assert pump.delivery.counters.dropped == 0

    run_virtual(main())


class Hole:
    """A wire to a CSMS that answers, but behind a frame of more than an MTU nothing comes any more, no pong either."""

    subprotocol, root = "ocpp1.6", ""

    def __init__(self, forms: list[str]) -> None:
        self.forms = forms
        self.is_stuck = False
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def recv(self) -> bytes:
        return await self.answers.get()

    async def send(self, text: str) -> None:
        _, sent_id, action, payload = json.loads(text)
        if self.is_stuck:
            return
        if action != "Heartbeat":
            self.forms.append(payload.get("form", "full"))
        self.is_stuck = len(text) > 1_400
        if not self.is_stuck:
            answer = {"currentTime": "2026-01-01T00:00:00Z"} if action == "Heartbeat" else {}
            self.answers.put_nowait(json.dumps([3, sent_id, answer]).encode())

    async def ping(self) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()

    async def close(self, code: int, reason: str) -> None:
        pass


class Deaf(Hole):
    """Pings are answered for ever."""

    async def ping(self) -> None:
        pass


def linked(pump: Pump, wire: type[Hole], forms: list[str], *, ping_s: float, message_timeout_s: float) -> Link:
    class Talk:
        supported: frozenset[str] = frozenset()

        async def handle(self, action: str, payload: Payload) -> Payload:
            raise NotImplementedError

        async def run(self, session: Session) -> None:
            await until_link_gone(pump.delivery.run(Line(session)))

    async def connect(_endpoint: Endpoint) -> Hole:
        return wire(forms)

    endpoint = Endpoint(
        "ws://csms",
        "CP-1",
        (Version.V16,),
        password=None,
        tls=None,
        open_timeout_s=30,
        message_timeout_s=message_timeout_s,
    )
    return Link(
        lambda: endpoint,
        lambda _version: Talk(),
        backoff=BackoffSettings(10, 10, 5),
        ping_interval_s=ping_s,
        open=connect,
        random_source=random.Random(1),
        clock_ms=now_ms,
    )


LONG = {"transactionData": "x" * 30_000}


@pytest.mark.parametrize(("ping_s", "message_timeout_s"), [(60, 30), (20, 30), (10, 30), (1, 30), (10, 600), (0, 30)])
@pytest.mark.parametrize("shorter", [({"form": "short"},), ({"form": "short"} | LONG,)])
def test_a_message_at_which_the_link_falls_silent_stops_nothing_for_ever(
    ping_s: float, message_timeout_s: float, shorter: tuple[Payload, ...]
) -> None:
    """Whichever ends first, the wait for the pong or that for the answer: shorter, or given up, and the next goes."""

    async def main() -> None:
        pump, forms = Pump(TOLD, MUTE), list[str]()
        pump.policy = RetryPolicy(100, 60)
        pump.translator.action, pump.translator.full, pump.translator.shorter = "StopTransaction", LONG, shorter
        await pump.station.append(*pump.facts)
        link = linked(pump, Hole, forms, ping_s=ping_s, message_timeout_s=message_timeout_s)
        running = asyncio.create_task(link.run())
        await asyncio.sleep(PATIENCE_S - 60)
        assert set(forms) == {"full"} and pump.delivery.counters.dropped == 0, "it may be the link"
        await asyncio.sleep(PATIENCE_S)
        running.cancel()
        assert forms[-1] == "short" and pump.station.delivered_seq == 2
        assert pump.translator.given == ([1] if "transactionData" in shorter[-1] else [])

    run_virtual(main())


@pytest.mark.parametrize("by", ["new password", "stop"])
def test_16_tx_04_links_that_the_station_itself_ends_cost_no_message(by: str) -> None:
    """Also not where each ends at the same message, which is still under way: two days of it."""

    async def main() -> None:
        pump, forms = Pump(TOLD), list[str]()
        pump.translator.action, pump.translator.full = "StopTransaction", LONG
        pump.translator.shorter = ({"form": "short"},)
        await pump.station.append(*pump.facts)
        link = linked(pump, Deaf, forms, ping_s=10, message_timeout_s=600)
        running = asyncio.create_task(link.run())
        for _ in range(2 * 24 * 6):
            await asyncio.sleep(540)
            if by == "stop":
                running.cancel()
                running = asyncio.create_task(link.run())
            else:
                link.drop(by)
        running.cancel()
        assert len(forms) >= 2 * 24 * 6 and set(forms) == {"full"}
        assert pump.delivery.counters.dropped == 0

    run_virtual(main())


def test_every_row_has_its_own_count() -> None:
    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD), Peer([NO, NO, OK, NO, NO, OK])
        await pump.run(peer)
        assert [row for row, *_ in peer.sent] == [1, 1, 1, 2, 2, 2]
        assert pump.delivery.counters.dropped == 0

    run_virtual(main())


def test_what_goes_once_is_not_repeated_after_a_refusal_and_overtakes_nothing() -> None:
    async def main() -> None:
        pump, peer = Pump(ONCE, TOLD), Peer([NO])
        await pump.run(peer)
        assert [(row, priority) for row, _, priority, _ in peer.sent] == [
            (1, Priority.STATUS),
            (2, Priority.TRANSACTION),
        ]

    run_virtual(main())


def test_ids_tell_station_row_attempt_and_content_apart() -> None:
    record = Record(7, "boot", TOLD, T0_MS, T0_MS, True)
    restamped = replace(record, wall_ms=1, clock_offset_ms=1)
    assert message_id("CP-1", record, 0) == message_id("CP-1", restamped, 0)
    others = [
        message_id("CP-2", record, 0),
        message_id("CP-1", record, 1),
        message_id("CP-1", replace(record, seq=8), 0),
        message_id("CP-1", replace(record, fact=BootFact("PowerUp", "2")), 0),
    ]
    assert len({message_id("CP-1", record, 0), *others}) == 5
    assert all(len(other) == 36 for other in others)
