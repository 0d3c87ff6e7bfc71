"""What the station counts of its EVSEs, and what it reads of ledger and disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.effects import Append, Effect, StatusChanged
from agent.core.facts import ChargingState, ClockFact, SecurityFact, TransactionFact, Trigger, TxKind
from agent.core.status import ConnectorState, ConnectorStatus, FaultCode
from agent.ipc.statistics import EvseStatistics, ProcessStatistics, StationStatistics
from agent.ledger.space import RESERVE_BYTES
from agent.station.archive import Archive
from agent.station.hardware import Hardware
from agent.station.statistics import Statistics
from hal.bus_counters import BusCounters
from hal.ports import LossKind
from tests.unit.station.test_archive import written

PROCESS = ProcessStatistics(uptime_ms=1, rss_bytes=2, cpu_us=3)


class Bench:
    """Statistics of EVSEs 1 and 2 over a ledger, at a time that is set by hand."""

    def __init__(self, folder: Path, archive: Archive, *, has_csms: bool = True) -> None:
        self.now_ms = 1_000
        self.counters = BusCounters()
        hardware = Hardware({}, {}, {}, counters={"line": self.counters})
        ledger = folder / "l.sqlite"
        self.statistics = Statistics(
            (1, 2), hardware, archive, ledger, lambda: PROCESS, lambda: self.now_ms, has_csms=has_csms
        )

    def tell(self, at_ms: int, effect: Effect) -> None:
        self.now_ms = at_ms
        self.statistics.hear(effect)

    def read(self, delivered_seq: int = 0) -> StationStatistics:
        return self.statistics.read(delivered_seq)

    def evse(self, at_ms: int, evse: int = 1) -> EvseStatistics:
        self.now_ms = at_ms
        (found,) = (each for each in self.read().evses if each.evse == evse)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, written(tmp_path / "l.sqlite", told(1_010)))


def status(state: ConnectorState, *faults: FaultCode, evse: int = 1) -> StatusChanged:
    return StatusChanged(ConnectorStatus(evse, state, faults, 0))


def transaction(kind: TxKind, at_ms: int, evse: int = 1) -> Append:
    fact = TransactionFact(kind, "t1", 0, evse, Trigger.AUTHORIZED, ChargingState.CHARGING, offline=False)
    return Append(1, (fact,), at_ms, at_ms, "S")


def spent(found: EvseStatistics) -> dict[ConnectorState, int]:
    return {state: spent_ms for state, spent_ms in found.state_ms if spent_ms}


def test_time_in_states_adds_up_to_now(bench: Bench) -> None:
    bench.tell(1_500, status(ConnectorState.AVAILABLE))
    bench.tell(2_000, status(ConnectorState.CHARGING))
    bench.tell(7_000, status(ConnectorState.AVAILABLE))
    expected = {ConnectorState.AVAILABLE: 500 + 1_000, ConnectorState.CHARGING: 5_000}
    assert spent(bench.evse(8_000)) == expected
    assert spent(bench.evse(8_000)) == expected, "asking changes nothing"
    assert spent(bench.evse(9_000, evse=2)) == {}
    assert [state for state, _ in bench.evse(8_000).state_ms] == list(ConnectorState)


def test_transactions_and_their_time(bench: Bench) -> None:
    bench.tell(2_000, transaction(TxKind.STARTED, 2_000))
    bench.tell(3_000, transaction(TxKind.UPDATED, 3_000))
    found = bench.evse(5_000)
    assert (found.transactions_started, found.transactions_ended, found.transaction_ms) == (1, 0, 3_000)
    bench.tell(6_000, transaction(TxKind.ENDED, 6_000))
    found = bench.evse(9_000)
    assert (found.transactions_started, found.transactions_ended, found.transaction_ms) == (1, 1, 4_000)
    assert bench.evse(9_000, evse=2).transactions_started == 0


def test_a_transaction_that_is_taken_up_again_is_no_new_one(bench: Bench) -> None:
    bench.statistics.resume(1)
    found = bench.evse(3_000)
    assert (found.transactions_started, found.transaction_ms) == (0, 2_000)
    bench.tell(4_000, transaction(TxKind.ENDED, 4_000))
    found = bench.evse(5_000)
    assert (found.transactions_started, found.transactions_ended, found.transaction_ms) == (0, 1, 3_000)


def test_a_fault_counts_each_time_it_comes(bench: Bench) -> None:
    bench.tell(1_000, status(ConnectorState.FAULTED, FaultCode.DIODE))
    bench.tell(2_000, status(ConnectorState.FAULTED, FaultCode.DIODE, FaultCode.LOCK))
    bench.tell(3_000, status(ConnectorState.AVAILABLE))
    bench.tell(4_000, status(ConnectorState.FAULTED, FaultCode.DIODE))
    found = dict(bench.evse(5_000).faults)
    assert (found[FaultCode.DIODE], found[FaultCode.LOCK]) == (2, 1)
    assert found.keys() == set(FaultCode)


def test_the_station_as_a_whole_is_no_evse(bench: Bench) -> None:
    bench.tell(2_000, status(ConnectorState.AVAILABLE, evse=0))
    assert [each.evse for each in bench.read().evses] == [1, 2]


def test_lines_and_process_are_passed_on(bench: Bench) -> None:
    bench.counters.answered(50)
    bench.counters.failed(LossKind.SILENT, 2)
    found = bench.read()
    (line,) = found.buses
    assert (line.bus, line.exchanges, dict(line.failures)["silent"], line.timed, line.latency_max_us) == (
        "line",
        3,
        2,
        1,
        50,
    )
    assert found.process == PROCESS
    assert found.temperatures == ()


# -------------------------------------------------------------------------------- ledger and disk


def told(wall_ms: int) -> tuple[SecurityFact, int, int, str]:
    return SecurityFact("SettingSystemTime", ""), wall_ms, wall_ms, "S"


def silent(wall_ms: int) -> tuple[ClockFact, int, int, str]:
    """A row that the CSMS never hears of."""
    return ClockFact(wall_ms, "CSMS", wall_ms), wall_ms, wall_ms, "S"


@pytest.mark.parametrize(
    ("delivered_seq", "waiting", "oldest_ms"),
    [(0, 5, 1_010), (2, 3, 1_030), (3, 2, 1_030), (4, 1, None), (5, 0, None), (9, 0, None)],
)
def test_what_waits_for_the_csms(tmp_path: Path, delivered_seq: int, waiting: int, oldest_ms: int | None) -> None:
    rows = (told(1_010), silent(1_020), told(1_030), silent(1_040))  # rows 2 to 5, after the ledger's own first
    found = Bench(tmp_path, written(tmp_path / "l.sqlite", *rows)).read(delivered_seq).ledger
    assert (found.head_seq, found.rows) == (5, 5)
    assert (found.waiting, found.oldest_waiting_wall_ms) == (waiting, oldest_ms)


def test_without_a_csms_nothing_waits(tmp_path: Path) -> None:
    found = Bench(tmp_path, written(tmp_path / "l.sqlite", told(1_010)), has_csms=False).read().ledger
    assert (found.head_seq, found.waiting, found.oldest_waiting_wall_ms) == (2, 0, None)


def test_the_ledgers_size_is_that_of_all_its_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path, written(tmp_path / "l.sqlite", told(1_010)))
    before = bench.read().ledger.size_bytes
    (tmp_path / "l.sqlite.reserve").write_bytes(bytes(RESERVE_BYTES))
    after = bench.read().ledger.size_bytes
    assert before is not None
    assert after == before + RESERVE_BYTES


def test_a_disk_that_fails_is_told_as_unknown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("shutil.disk_usage", fail)
    found = bench.read()
    assert (found.disk_free_bytes, found.disk_size_bytes, found.ledger.size_bytes) == (None, None, None)
    assert found.ledger.head_seq == 2


def test_the_room_of_the_disk(bench: Bench) -> None:
    found = bench.read()
    assert found.disk_size_bytes is not None
    assert found.disk_free_bytes is not None
    assert 0 < found.disk_free_bytes <= found.disk_size_bytes
