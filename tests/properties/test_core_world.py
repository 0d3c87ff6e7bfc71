"""Whatever happens in whatever order: what must never be, is never (invariants in ``CoreWorld._check``)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.commands import ChangeAvailability, ClearFaults, RemoteStart, RemoteStop, Reset, TakeSample, Unlock
from agent.core.events import Authorized, Deauthorized, LimitSet, LinkChanged, StopAuthorized
from agent.core.facts import Token, TxKind
from agent.core.iec61851 import MAX_CURRENT_MA, MIN_CURRENT_MA, duty_for
from agent.core.settings import DcBench, EvseHardware, StationSettings
from hal.ports import Back, BoardFault, BoardFaults, Contactor, CpState, LossKind, Lost, PilotState
from hal.sim.vehicle_port import vehicle_current_ma
from tests.support.core_world import CoreWorld

HARDWARE = st.sampled_from(
    [
        EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True),
        EvseHardware(evse=1, hard_limit_ma=16_000, has_contactor_feedback=False, phases=1),
        EvseHardware(evse=1, hard_limit_ma=32_000, autonomous=True),
        EvseHardware(evse=1, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 9_000)),
    ]
)
TOKENS = st.sampled_from([Token("AA"), Token("BB")])
CHANCES = st.sampled_from(["contactor_follows", "contactor_welded", "lock_follows", "meter_answers", "ledger"])
STEP = st.one_of(
    st.tuples(st.just("cp"), st.sampled_from(list(CpState))),
    st.tuples(st.just("run"), st.integers(1, 20_000)),
    st.tuples(st.just("give"), TOKENS.map(lambda t: Authorized(1, t, None))),
    st.tuples(st.just("give"), TOKENS.map(lambda t: StopAuthorized(1, t))),
    st.tuples(st.just("give"), st.integers(0, 40_000).map(lambda ma: LimitSet(1, ma))),
    st.tuples(st.just("give"), st.booleans().map(LinkChanged)),
    st.tuples(st.just("give"), st.booleans().map(lambda stop: Deauthorized("tx-1", stop))),
    st.tuples(st.just("faults"), st.frozensets(st.sampled_from(list(BoardFault)), max_size=2)),
    st.tuples(st.just("lost"), st.just(None)),
    st.tuples(st.just("back"), st.just(None)),
    st.tuples(st.just("toggle"), CHANCES),
    st.tuples(
        st.just("command"),
        st.one_of(
            TOKENS.map(RemoteStart),
            st.sampled_from(["tx-1", "tx-2", "?"]).map(RemoteStop),
            st.booleans().map(lambda op: ChangeAvailability(op, 1)),
            st.booleans().map(lambda op: ChangeAvailability(op)),
            st.booleans().map(lambda now: Reset(immediate=now)),
            st.booleans().map(lambda end: Unlock(1, end)),
            st.just(TakeSample()),
            st.just(ClearFaults(1)),
        ),
    ),
)


def play(made: CoreWorld, action: str, value: object) -> None:
    around = made.evses[1]
    if action == "cp":
        made.cp(1, value)  # type: ignore[arg-type]
    elif action == "run":
        made.run(value)  # type: ignore[arg-type]
    elif action == "give":
        made.give(value)  # type: ignore[arg-type]
    elif action == "faults":
        made.pilot(1, BoardFaults(value))  # type: ignore[arg-type]
    elif action == "lost":
        made.pilot(1, Lost(LossKind.GONE, "unplugged"))
    elif action == "back":
        around.contactor = around.contactor_welded and around.contactor
        for event in (Back("board"), Contactor(around.contactor), PilotState(around.cp)):
            made.pilot(1, event)
    elif action == "command":
        made.command(value)  # type: ignore[arg-type]
    elif value == "ledger":
        made.ledger_answers = not made.ledger_answers
        made.write()
    else:
        setattr(around, str(value), not getattr(around, str(value)))


@settings(max_examples=300, deadline=None)
@given(hardware=HARDWARE, steps=st.lists(STEP, max_size=30))
def test_power_only_with_everything_in_order_and_transactions_whole(
    hardware: EvseHardware, steps: list[tuple[str, object]]
) -> None:
    made = CoreWorld(StationSettings(evses=(hardware,)))
    made.boot()
    made.evses[1].current_ma = 5_000
    for action, value in steps:
        play(made, action, value)
    # Let everything calm down: the vehicle leaves, the ledger writes, the board answers.
    made.evses[1].contactor_follows, made.evses[1].contactor_welded = True, False
    made.evses[1].contactor = False
    made.evses[1].meter_answers = made.evses[1].lock_follows = made.ledger_answers = True
    made.write()
    for event in (Back("board"), Contactor(False), BoardFaults(frozenset()), PilotState(CpState.A)):
        made.pilot(1, event)
    made.cp(1, CpState.A)
    made.run(60_000)
    made.write()
    facts = made.transactions()
    for tx_id in {fact.tx_id for fact in facts}:
        mine = [fact for fact in facts if fact.tx_id == tx_id]
        assert [fact.kind for fact in mine].count(TxKind.STARTED) == 1 and mine[0].kind is TxKind.STARTED
        assert [fact.kind for fact in mine].count(TxKind.ENDED) == 1 and mine[-1].kind is TxKind.ENDED
        assert [fact.seq_no for fact in mine] == list(range(len(mine)))
        registers = [sample.energy_import_mwh for fact in mine for sample in fact.samples]
        assert registers == sorted(registers)


@given(st.integers(0, 100_000))
def test_duty_never_offers_more_than_asked(current_ma: int) -> None:
    """IEC 61851-1 Annex A."""
    offered_ma = vehicle_current_ma(duty_for(current_ma))
    assert offered_ma <= current_ma
    if MIN_CURRENT_MA <= current_ma <= MAX_CURRENT_MA and not 51_000 < current_ma <= 52_500:
        assert current_ma - offered_ma < 25 + 6
    if current_ma < MIN_CURRENT_MA:
        assert offered_ma == 0
