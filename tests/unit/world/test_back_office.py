"""The model back office against the real session and dialects over the model wire, in both versions.

Each manner once, deduplication, and the account of what the station may have dropped. Every answer of the model is
held against the schema of its message by the rig (``invalid``), every message of the station by the model.
"""

from __future__ import annotations

import asyncio
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.facts import TransactionFact, TxKind
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link_failure import NotConnected
from agent.ocpp.session import Direction
from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from agent.sim.world import manners as bad
from agent.sim.world.asking import Fate
from agent.sim.world.back_office import BackOffice
from agent.sim.world.booking import Numbers
from agent.sim.world.excuses import Excuses
from agent.sim.world.manners import Manner, Manners, Rates
from agent.sim.world.order_words import Wish
from agent.sim.world.orders import Operator, OrderRates
from agent.sim.world.wire import QUIET, Network, NetworkFaults
from tests.support.fake_csms import until
from tests.support.fake_station import T0_MS, session_facts
from tests.unit.world.office_rig import FIRST, OfficeRig, assert_whole, one

V16, V201 = Version.V16, Version.V201
BOTH = pytest.mark.parametrize("version", [V16, V201])
FAILING = [Manner.ERROR, Manner.MALFORMED, Manner.SILENCE, Manner.GARBAGE, Manner.LATE]


# ------------------------------------------------------------------------------------------ the good


@BOTH
def test_a_transaction_is_booked(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        await rig.registered()
        await rig.station.append(*session_facts("tx-1", periodic=5))
        await rig.drained()
        booked = one(rig)
        assert_whole(booked, version, periodic=5)
        assert booked.repeats == 0 and booked.verdict == "Accepted" and booked.excused == 0
        assert (booked.number, booked.key == "tx-1") == ((0, False) if version.is_16 else (None, True))
        assert rig.office.book.energy_mwh == 9_000_000
        assert not rig.office.book.running and not rig.office.excuses.excused
        assert rig.station.clocks  # it told the time
        rig.assert_clean()

    run_virtual(main())


@BOTH
def test_transactions_over_a_restart_and_two_evses_in_order(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        await rig.registered()
        await rig.station.append(*session_facts("tx-1")[:2], *session_facts("tx-2", evse=2)[:2])
        await rig.drained()
        assert sorted(rig.office.book.running) == [1, 2]
        rig.network.lose_station(power=True)
        rig.office.restarted()
        rig.inner.start_gateway()
        await rig.registered()
        await rig.station.append(*session_facts("tx-1")[2:], *session_facts("tx-2", evse=2)[2:])
        await rig.drained()
        first, second = rig.office.book.transactions.values()
        assert_whole(first, version)
        assert (second.evse, second.starts, second.ends, second.disorder) == (2, 1, 1, [])
        assert len(rig.office.book.boots) == 2
        rig.office.book.forget(first.key)
        assert rig.office.book.energy_mwh == 6_000_000
        rig.assert_clean()

    run_virtual(main())


# ------------------------------------------------------------------------------------------- the bad


@BOTH
@pytest.mark.parametrize("manner", [Manner.TWICE, Manner.STRAY, *FAILING, Manner.CLOSE])
@pytest.mark.parametrize("booked_anyway", [0.0, 1.0])
def test_one_bad_answer_to_anything_loses_nothing(version: Version, manner: Manner, booked_anyway: float) -> None:
    """Each manner at each of the station's messages once: everything is booked once all the same."""

    async def main() -> None:
        rig = OfficeRig(version, manners=Manners(booked_anyway=booked_anyway))
        actions = ["BootNotification", "StatusNotification", FIRST[version]]
        actions += ["MeterValues", "StopTransaction"] if version.is_16 else []
        for action in actions:
            rig.office.script(action, manner)
        connections = asyncio.create_task(rig.keep_connected())
        await until(lambda: rig.office.registration == "Accepted")
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        assert rig.office.counts[f"manner {manner}"] == len(actions)
        assert_whole(one(rig), version)
        assert not rig.office.excuses.excused
        assert not rig.office.violations
        assert bool(rig.invalid) == (manner is Manner.MALFORMED)
        connections.cancel()

    run_virtual(main())


@BOTH
@pytest.mark.parametrize("manner", [each for each in FAILING if each is not Manner.LATE])
def test_a_start_refused_for_good_is_excused(version: Version, manner: Manner) -> None:
    async def main() -> None:
        rig = OfficeRig(version, manners=Manners(booked_anyway=0.0))
        rig.office.script(FIRST[version], manner, manner, manner)
        connections = asyncio.create_task(rig.keep_connected())
        await until(lambda: rig.office.registration == "Accepted")
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        [(row, tally)] = rig.office.excuses.excused.items()
        assert row[0] == FIRST[version]
        assert (tally.refusals, tally.timeouts) == ((3, 0) if manner in (Manner.ERROR, Manner.MALFORMED) else (0, 3))
        if version.is_16:
            assert not rig.office.book.transactions
            assert [(each.action, each.number, each.register_mwh) for each in rig.office.book.orphans] == [
                ("MeterValues", -1, 2_500_000),
                ("StopTransaction", -1, 4_000_000),
            ]
        else:
            booked = one(rig)
            assert (booked.starts, booked.ends, booked.disorder) == (0, 1, [])
            assert booked.seq_nos.missing == (0,) and booked.evse == 1
        assert not rig.office.violations
        connections.cancel()

    run_virtual(main())


@BOTH
def test_refusals_and_time_outs_count_over_connections(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version, manners=Manners(booked_anyway=0.0))
        first = FIRST[version]
        connections = asyncio.create_task(rig.keep_connected())
        await until(lambda: rig.office.registration == "Accepted")
        for number, manner in enumerate([Manner.SILENCE, Manner.ERROR], 1):
            rig.office.script(first, manner, Manner.CLOSE, manner, Manner.CLOSE, manner)
            await rig.station.append(
                *session_facts(f"tx-{number}", start_ms=number * 600_000, begin_mwh=number * 10**7)
            )
            await rig.drained()
            assert rig.inner.dialect.delivery.counters.dropped == number
        assert [(each.timeouts, each.refusals) for each in rig.office.excuses.excused.values()] == [(3, 0), (0, 3)]
        rig.assert_clean()
        connections.cancel()

    run_virtual(main())


@BOTH
def test_an_hour_in_which_nothing_is_answered_excuses_nothing(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version, manners=Manners(booked_anyway=0.0))
        await rig.registered()
        well, rig.office.mind.manners = rig.office.mind.manners, Manners(Rates(silence=1.0), booked_anyway=0.0)
        await rig.station.append(*session_facts("tx-1"))
        await asyncio.sleep(3_600)
        rig.office.mind.manners = well
        await rig.drained()
        assert_whole(one(rig), version)
        assert not rig.office.excuses.excused
        assert rig.inner.dialect.delivery.counters.dropped == 0
        rig.assert_clean()

    run_virtual(main())


class Spoiling(OfficeRig):
    """What is said of transactions arrives spoiled, and all else is well."""

    def _watch(self, direction: Direction, text: str) -> None:
        super()._watch(direction, text)
        if direction is Direction.OUT:
            self.network.faults = NetworkFaults(garbled=1.0) if FIRST[self.version] in text else QUIET


@BOTH
def test_what_the_network_spoils_counts_as_a_time_out(version: Version) -> None:
    """The station cannot tell a spoiled message or answer from silence."""

    async def main() -> None:
        rig = Spoiling(version)
        await rig.registered()
        await rig.station.append(*session_facts("tx-1")[:1])
        await rig.drained()
        assert [tally.timeouts for tally in rig.office.excuses.excused.values()] == [3]
        assert rig.inner.dialect.delivery.counters.dropped == 1
        assert not rig.office.book.transactions and not rig.office.violations

    run_virtual(main())


@BOTH
def test_half_open_costs_a_connection_and_no_row(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        connections = asyncio.create_task(rig.keep_connected())
        await until(lambda: rig.office.registration == "Accepted")
        for fact in session_facts("tx-1"):
            rig.network.half_open()
            await rig.station.append(fact)
            await rig.drained()
        assert rig.office.counts["connections"] > 3
        assert_whole(one(rig), version)
        assert not rig.office.excuses.excused
        rig.assert_clean()
        connections.cancel()

    run_virtual(main())


@BOTH
def test_doubled_frames_are_taken_once(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        rig.network.faults = NetworkFaults(doubled=1.0)
        rig.office.mind.hold_boot("Pending", 1)
        await rig.registered()
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        answer = await rig.office.call("ClearCache", {})
        assert answer.fate is Fate.ERROR  # the station refuses the double of an order that it is still at
        await until(lambda: rig.office.counts["stray_answers"] == 3)
        assert_whole(one(rig), version)
        assert len(rig.office.book.boots) == 2  # each once, though each came twice
        rig.assert_clean()

    run_virtual(main())


def test_a_start_whose_time_was_set_meanwhile_is_the_same_start() -> None:
    """1.6: a clock fix between two sendings changes the timestamp; the message id tells that it is the same row."""

    async def main() -> None:
        rig = OfficeRig(V16, manners=Manners(booked_anyway=1.0))
        rig.office.script("StartTransaction", Manner.CLOSE, Manner.ERROR)
        connections = asyncio.create_task(rig.keep_connected())
        await until(lambda: rig.office.registration == "Accepted")
        await rig.station.append(*session_facts("tx-1"), clock_offset_ms=0, trusted=False)
        await until(lambda: rig.office.counts["manner close"] == 1)
        for index, record in enumerate(rig.station.ledger):
            wall_ms = record.wall_ms + T0_MS
            rig.station.ledger[index] = type(record)(
                record.seq, record.kind, record.fact, wall_ms, T0_MS, trusted_time=True
            )
        await rig.drained()
        booked = one(rig)
        assert (booked.starts, booked.ends, booked.repeats, booked.disorder) == (1, 1, 2, [])
        rig.assert_clean()
        connections.cancel()

    run_virtual(main())


@BOTH
@pytest.mark.parametrize("status", ["Pending", "Rejected"])
@pytest.mark.parametrize("interval_zero", [0.0, 1.0])
def test_a_held_boot_keeps_billing_back(version: Version, status: str, interval_zero: float) -> None:
    async def main() -> None:
        rig = OfficeRig(version, manners=Manners(interval_zero=interval_zero, talks_before_boot=1.0))
        rig.office.mind.hold_boot(status, 400)
        await rig.station.append(*session_facts("tx-1"))
        await rig.connect()
        await asyncio.sleep(390)
        assert rig.office.registration == status and not rig.office.book.transactions
        await rig.drained()
        assert_whole(one(rig), version)
        assert rig.office.counts["talks_before_boot"] == len(rig.office.book.boots) > 1
        rig.assert_clean()

    run_virtual(main())


@BOTH
def test_billing_before_an_accepted_boot_is_a_violation(version: Version) -> None:
    """A checker must be able to fail: the same traffic, but the back office thinks otherwise of the boot."""

    async def main() -> None:
        rig = OfficeRig(version)
        await rig.registered()
        rig.office.restarted()
        rig.network.cut()
        await rig.connect()
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        assert f"{FIRST[version]} while Unregistered" in rig.office.violations

    run_virtual(main())


@BOTH
def test_a_row_that_the_station_loses_is_no_excuse(version: Version) -> None:
    """A checker must be able to fail: the station's cursor jumps over a row."""

    async def main() -> None:
        rig = OfficeRig(version)
        first, *rest = session_facts("tx-1")
        await rig.station.append(first)
        rig.station.delivered_seq = 1
        await rig.registered()
        await rig.station.append(*rest)
        await rig.drained()
        assert not rig.office.excuses.excused
        if version.is_16:
            assert not rig.office.book.transactions
            assert [orphan.number for orphan in rig.office.book.orphans] == [-1, -1]
        else:
            assert "seqNo 0 is missing before 1" in one(rig).disorder

    run_virtual(main())


@BOTH
def test_it_changes_its_mind_on_tokens(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        rig.office.mind.groups["04A2B3C4D5E6F7"] = "FLEET"
        await rig.registered()
        await rig.station.append(*session_facts("tx-1")[:1])
        await rig.drained()
        rig.office.mind.manners = Manners(changes_mind=1.0)
        await rig.station.append(*session_facts("tx-1")[1:])
        await rig.drained()
        verdicts = [(verdict.status, verdict.group) for _token, verdict, _evse, _tx in rig.station.verdicts]
        assert verdicts[0] == ("Accepted", "FLEET") and verdicts[-1][0] in (
            "Blocked",
            "Invalid",
            "ConcurrentTx",
            "Expired",
        )
        rig.assert_clean()

    run_virtual(main())


# ------------------------------------------------------------------------------------- everything


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_harsh_weather_and_manners_lose_nothing_unexcused(version: Version, seed: int) -> None:
    """Twenty transactions under everything at once: each row is booked or excused, and nothing is booked twice."""

    async def main() -> str:
        rig = OfficeRig(version, seed, manners=bad.HARSH)
        rig.network.faults = NetworkFaults(0.02, 0.02, 0.05, 0.2, 0.1)
        operator = Operator(
            rig.office,
            random.Random(seed),
            lambda: T0_MS,
            evses=(1, 2),
            tokens=("04A2B3C4D5E6F7",),
            rates=OrderRates(dict.fromkeys(Wish, 40.0), bursts=10.0),
        )
        connections = asyncio.create_task(_stubborn(rig))
        ordering = asyncio.create_task(operator.run())
        for number in range(20):
            begin_mwh = 1_000_000 + number * 10_000_000
            facts = session_facts(f"tx-{number}", start_ms=number * 3_600_000, begin_mwh=begin_mwh, periodic=3)
            for fact in facts:
                await rig.station.append(fact)
                await asyncio.sleep(60)
            getattr(rig.network, ("cut", "half_open", "go_up")[number % 3])()
        await rig.drained()
        office = rig.office
        assert not office.violations
        _assert_accounted(rig, version)
        assert sum(operator.counts.values()) > 20 and not operator.counts["Reset silent"]
        ordering.cancel()
        connections.cancel()
        return repr((office.counts, operator.counts, operator.errors, list(office.book.transactions.values())))

    assert run_virtual(main()) == run_virtual(main())


async def _stubborn(rig: OfficeRig) -> None:
    while True:
        try:
            connection = await rig.connect()
        except NotConnected:
            pass
        else:
            await connection
        await asyncio.sleep(10)


def _assert_accounted(rig: OfficeRig, version: Version) -> None:
    book, excused = rig.office.book, rig.office.excuses.excused
    for booked in book.transactions.values():
        assert booked.starts <= 1 and booked.ends <= 1
        assert booked.excused or not booked.disorder, booked
    facts = [record.fact for record in rig.station.ledger if isinstance(record.fact, TransactionFact)]
    if version.is_16:
        told = {booked.begin_mwh for booked in book.transactions.values()}
        told |= {int(row[3]) * 1000 for row in excused if row[0] == "StartTransaction"}
        starts = [fact for fact in facts if fact.kind is TxKind.STARTED]
        assert told == {fact.samples[-1].energy_import_mwh // 1000 * 1000 for fact in starts}
        return
    for fact in facts:
        row = ("TransactionEvent", fact.tx_id, fact.seq_no)
        known = book.transactions.get(fact.tx_id)
        assert row in excused or (known is not None and fact.seq_no in known.seq_nos), row


# ------------------------------------------------------------------------------------------- parts


@given(st.lists(st.integers(0, 30), max_size=60))
def test_numbers_are_a_set(given_numbers: list[int]) -> None:
    numbers = Numbers()
    for number in given_numbers:
        numbers.add(number)
    present = set(given_numbers)
    assert [number for number in range(40) if number in numbers] == sorted(present)
    assert len(numbers) == len(present) and numbers.last == max(present, default=-1)
    assert numbers.missing == tuple(number for number in range(numbers.last) if number not in present)


def test_a_time_out_counts_by_what_else_is_answered_on_its_own_connection() -> None:
    row, excuses = ("TransactionEvent", "tx-1", 0), Excuses(1)
    excuses.timed_out(row, "a", 1)
    assert excuses.answered(None, 2) == excuses.answered(None, 1) == []
    excuses.timed_out(row, "a", 2)
    assert excuses.answered(row, 2) == []
    assert excuses.answered(None, 2) == [row]
    assert list(excuses.excused) == [row]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 4) | st.sampled_from(["a", "StartTransaction", "MeterValues"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "meterValue"]), inner),
    max_leaves=8,
)


@given(st.one_of(st.binary(max_size=60), _JSON.map(lambda value: json.dumps(value).encode())))
def test_no_frame_upsets_it(frame: bytes) -> None:
    async def main() -> None:
        office = BackOffice(random.Random(1), lambda: T0_MS)
        wire = await Network(office, random.Random(1)).connect(Endpoint("ws://csms.example", "CP-1", (V16,)))
        office.heard(wire, frame, 1.0)
        assert office.violations or office.counts["stray_answers"]

    run_virtual(main())


def test_a_round_trip_is_quick() -> None:
    """Far from the bar of 60 us, lest a busy machine fail it: this only catches a blunder."""

    async def main() -> float:
        office = BackOffice(random.Random(1), lambda: T0_MS)
        wire = await Network(office, random.Random(1)).connect(Endpoint("ws://csms.example", "CP-1", (V16,)))
        texts = [json.dumps([2, str(number), "Heartbeat", {}]) for number in range(2_000)]
        before = time.process_time()
        for text in texts:
            await wire.send(text)
            await wire.recv()
        return (time.process_time() - before) / len(texts)

    assert run_virtual(main()) < 0.001
