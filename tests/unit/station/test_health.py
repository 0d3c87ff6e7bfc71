"""What the station shows becomes its health: the right code at once, gone when its cause is, news and log lines.

The core is the real one; devices, the gateway and other processes speak as they would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog

from agent.config.load import load
from agent.core.commands import ClearFaults
from agent.core.effects import Effect
from agent.core.events import ClockSet, Event, FromMeter, FromPilot, FromPower, LedgerLost, Tick
from agent.core.facts import LogEntry, LogFact
from agent.core.settings import DcBench, EvseHardware, StationSettings
from agent.core.status import FaultCode, Outcome
from agent.health.catalogue import CATALOGUE
from agent.health.fold import Finding
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import HealthChanged
from agent.ipc.statistics import Lateness, ProcessStatistics
from agent.station.build import Build
from agent.station.health import (
    CLOCK_PATIENCE_MS,
    CRASH_SHOWN_MS,
    GATEWAY_AWAY_MS,
    LOOK_EVERY_MS,
    LOOP_LATE_US,
    MEMORY_HIGH_BYTES,
    StationHealth,
)
from hal.ports import (
    Back,
    BoardFault,
    BoardFaults,
    CpState,
    LossKind,
    Lost,
    ModuleFault,
    ModuleFaults,
    PilotState,
)
from tests.support.core_world import CoreWorld

CONFIG = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True, has_contactor_feedback=True)
DC = EvseHardware(evse=2, hard_limit_ma=50_000, min_current_ma=1_000, dc=True, dc_bench=DcBench(400_000, 40_000))
WALL_MS = 1_795_507_200_000
CLEARS_MS = 3_000  # more than the core takes to let go of a cause that is gone


@dataclass
class Bench(CoreWorld):
    """A station with an AC and a DC EVSE and its health, as the running station joins them."""

    settings: StationSettings = field(default_factory=lambda: StationSettings(evses=(AC, DC)))
    cause: str = "PowerUp"
    csms: bool = True
    news: list[HealthChanged] = field(default_factory=list)
    troubles: list[Finding] = field(default_factory=list)
    process: ProcessStatistics = field(default_factory=ProcessStatistics)
    health: StationHealth = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        config = replace(CONFIG, csms=CONFIG.csms if self.csms else None)
        build = Build(config, "boot", self.cause, "1.0.0", self.at_ms)
        troubles: Callable[[], list[Finding]] = lambda: self.troubles  # noqa: E731
        self.health = StationHealth(build, self.station, self, lambda: self.process, troubles)
        self.give(ClockSet(WALL_MS, "CSMS", trusted=True))

    def publish(self, news: HealthChanged) -> None:
        self.news.append(news)

    def give(self, event: Event) -> list[Effect]:
        if isinstance(event, FromPilot | FromMeter | FromPower):
            self.health.hear(event)
        effects = super().give(event)
        self.health.look()
        return effects

    def codes(self) -> set[tuple[str, int]]:
        return {(row.code, row.evse) for row in self.health.parts() if row.code}

    def of(self, part: Part, evse: int = 0) -> PartHealth:
        rows = [row for row in self.health.parts() if (row.part, row.evse) == (part, evse)]
        return rows[0]


@pytest.fixture
def bench() -> Bench:
    """All devices and the gateway are there and well."""
    made = Bench()
    made.boot()
    made.health.take_report("gateway", [PartHealth(Part.CSMS_LINK, 0, Condition.OK)])
    made.news.clear()
    return made


def board(evse: int, *faults: BoardFault) -> FromPilot:
    return FromPilot(evse, BoardFaults(frozenset(faults)))


# ----------------------------------------------------------------------------------- the whole of it


def test_before_any_device_has_spoken_nobody_knows() -> None:
    made = Bench()
    conditions = {(row.part, row.evse): row.condition for row in made.health.parts()}
    U, OK, NO = Condition.UNKNOWN, Condition.OK, Condition.ABSENT  # noqa: N806
    assert conditions == {
        **{(part, evse): U for part in (Part.METER, Part.PILOT, Part.CONTACTOR, Part.TEMPERATURE) for evse in (1, 2)},
        **{(part, 0): OK for part in (Part.LEDGER, Part.DISK, Part.CLOCK, Part.PROCESSES)},
        **dict.fromkeys([(Part.POWER_MODULE, 2), (Part.LOCK, 1), (Part.CSMS_LINK, 0), (Part.CERTIFICATES, 0)], U),
        **dict.fromkeys([(Part.POWER_MODULE, 1), (Part.LOCK, 2), (Part.READER, 0), (Part.SLOTS, 0)], NO),
        **dict.fromkeys([(Part.BUS, 1), (Part.BUS, 2)], OK),
    }


def test_a_station_that_runs_well_has_no_trouble(bench: Bench) -> None:
    bench.charge(1)
    bench.run(5_000)
    assert bench.codes() == set()
    assert {row.condition for row in bench.health.parts()} == {Condition.OK, Condition.ABSENT, Condition.UNKNOWN}
    assert bench.of(Part.CERTIFICATES).reason == "the gateway does not answer", "it has not told of them"


def test_parts_of_a_lost_board_are_unknown(bench: Bench) -> None:
    bench.pilot(1, Lost(LossKind.SILENT, "no answer"))
    assert bench.codes() == {("pilot_lost", 1)}
    for part in (Part.CONTACTOR, Part.LOCK, Part.TEMPERATURE):
        assert bench.of(part, 1).condition is Condition.UNKNOWN
    assert bench.of(Part.CONTACTOR, 2).condition is Condition.OK


# ----------------------------------------------------------------------------- every code of the core

SELF_CLEARING = [
    (FaultCode.PILOT_LOST, FromPilot(1, Lost(LossKind.SILENT, "no answer")), FromPilot(1, Back("board"))),
    (FaultCode.METER_LOST, FromMeter(1, Lost(LossKind.SILENT, "no answer")), FromMeter(1, Back("meter"))),
    (FaultCode.POWER_MODULE_LOST, FromPower(2, Lost(LossKind.SILENT, "no answer")), FromPower(2, Back("module"))),
    (
        FaultCode.POWER_MODULE,
        FromPower(2, ModuleFaults(frozenset({ModuleFault.FAN}))),
        FromPower(2, ModuleFaults(frozenset())),
    ),
    (FaultCode.PILOT_SHORT, FromPilot(1, PilotState(CpState.E)), FromPilot(1, PilotState(CpState.A))),
    *(
        (FaultCode(fault), board(1, BoardFault(fault)), board(1))
        for fault in ("diode", "no_ground", "over_temperature", "no_ventilation", "pilot", "proximity", "lock")
    ),
    (FaultCode.BOARD_RESET, board(1, BoardFault.SPURIOUS_RESET), board(1)),
    (FaultCode.RESIDUAL_CURRENT, board(1, BoardFault.RESIDUAL_CURRENT), board(1)),  # nothing is plugged in
    (FaultCode.CONTACTOR_OPEN, board(1, BoardFault.CONTACTOR_OPEN), board(1)),
    (FaultCode.OVER_CURRENT, board(1, BoardFault.OVER_CURRENT), board(1)),
]
LATCHED = [
    (FaultCode.RESIDUAL_SELF_TEST, board(1, BoardFault.RESIDUAL_SELF_TEST), board(1)),
    (FaultCode.CONTACTOR_WELDED, board(1, BoardFault.CONTACTOR_WELDED), board(1)),
]
OTHERS = {FaultCode.METER_IMPLAUSIBLE, FaultCode.LEDGER}  # have tests of their own


def test_the_tables_leave_no_fault_of_the_core_out() -> None:
    assert {code for code, *_ in (*SELF_CLEARING, *LATCHED)} | OTHERS == set(FaultCode)


@pytest.mark.parametrize(("code", "comes", "goes"), SELF_CLEARING, ids=[code for code, *_ in SELF_CLEARING])
def test_a_fault_is_shown_at_once_and_goes_with_its_cause(
    bench: Bench, code: FaultCode, comes: Event, goes: Event
) -> None:
    evse = comes.evse  # type: ignore[union-attr]
    with structlog.testing.capture_logs() as lines:
        bench.give(comes)
        assert bench.codes() == {(code.value, evse)}
        bench.give(goes)
        bench.run(CLEARS_MS)
        assert bench.codes() == set()
    entry = CATALOGUE[code.value]
    severity = entry.severity.name.lower()
    words = {"code": code.value, "part": entry.part.value, "evse": evse, "severity": severity}
    raised, cleared = [line for line in lines if line["event"].startswith("fault")]
    assert raised.items() >= (words | {"event": "fault", "log_level": "error", "remedy": entry.remedy}).items()
    assert cleared.items() >= (words | {"event": "fault cleared"}).items()
    told = [row.code for news in bench.news for row in news.parts if row.part is entry.part]
    assert told[0] == code.value and told[-1] == ""


def test_a_fault_is_news_in_the_same_instant_and_all_else_within_a_second(bench: Bench) -> None:
    bench.run(LOOK_EVERY_MS)  # a look was just made
    bench.give(board(1, BoardFault.DIODE))
    assert [row.code for row in bench.news[-1].parts] == ["diode"]
    bench.troubles.append(Finding("disk_full"))
    bench.give(Tick())
    assert [row.code for row in bench.news[-1].parts] == ["diode"], "files are not looked at with every event"
    bench.at_ms += LOOK_EVERY_MS
    bench.give(Tick())
    assert [row.code for row in bench.news[-1].parts] == ["disk_full"]


@pytest.mark.parametrize(("code", "comes", "goes"), LATCHED, ids=[code for code, *_ in LATCHED])
def test_a_latched_fault_waits_for_a_person_who_is_in_the_log_book(
    bench: Bench, code: FaultCode, comes: Event, goes: Event
) -> None:
    bench.give(comes)
    assert bench.of(CATALOGUE[code.value].part, 1).latched
    assert bench.answers(bench.command(ClearFaults(1, "technician, local page")))[0].outcome is Outcome.REJECTED
    bench.give(goes)
    bench.run(600_000)
    assert bench.codes() == {(code.value, 1)}
    bench.facts.clear()
    assert bench.answers(bench.command(ClearFaults(1, "technician, local page")))[0].outcome is Outcome.ACCEPTED
    assert bench.codes() == set()
    details = (("faults", code.value), ("by", "technician, local page"))
    assert bench.facts == [LogFact(LogEntry.FAULTS_CLEARED, 1, details)]
    bench.command(ClearFaults(1))
    assert len(bench.facts) == 1, "who clears nothing is in no book"


def test_a_register_that_goes_backwards(bench: Bench) -> None:
    bench.evses[1].energy_mwh -= 1_000
    bench.read(1)
    assert bench.codes() == {("meter_implausible", 1)}


def test_a_ledger_that_fails_is_the_station_s_trouble_and_no_evse_s(bench: Bench) -> None:
    bench.give(LedgerLost())
    assert bench.codes() == {("ledger", 0)}
    assert bench.of(Part.LEDGER).latched


def test_a_device_s_own_words_are_in_the_reason(bench: Bench) -> None:
    bench.give(FromMeter(1, Lost(LossKind.SILENT, "no answer from unit 3")))
    assert bench.of(Part.METER, 1).reason == "energy meter does not answer: no answer from unit 3"
    bench.give(FromPower(2, ModuleFaults(frozenset({ModuleFault.OUTPUT_SHORT, ModuleFault.FAN}))))
    assert bench.of(Part.POWER_MODULE, 2).reason.endswith(": fan, output short")


@pytest.mark.parametrize(("kind", "code"), [(LossKind.GONE, "bus_gone"), (LossKind.GARBAGE, "bus_garbled")])
def test_a_line_that_is_at_fault_is_told_beside_its_device(bench: Bench, kind: LossKind, code: str) -> None:
    bench.pilot(2, Lost(kind, "/dev/ttyUSB0: hang-up"))
    assert bench.codes() == {("pilot_lost", 2), (code, 2)}
    assert bench.of(Part.BUS, 2).reason.endswith(": pilot: /dev/ttyUSB0: hang-up")
    bench.pilot(2, Back("board"))
    bench.run(CLEARS_MS)
    assert bench.of(Part.BUS, 2).condition is Condition.OK


def test_a_loose_contact_does_not_flood_log_and_news(bench: Bench) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            bench.give(FromMeter(1, Lost(LossKind.SILENT, "no answer")))
            bench.give(FromMeter(1, Back("meter")))
            bench.run(2_000)
    assert len([line for line in lines if line["event"].startswith("fault")]) == 5, (
        "2 that went, and the one that stays"
    )
    assert "came and went" in bench.of(Part.METER, 1).reason


# --------------------------------------------------------------------------------------- clock, processes


def test_a_clock_that_was_never_set() -> None:
    bench = Bench(csms=False)
    bench.station.ctx.time_status = "U"
    bench.run(LOOK_EVERY_MS)
    assert bench.codes() == {("clock_unset", 0)}
    bench.give(ClockSet(WALL_MS, "CSMS", trusted=True))
    bench.run(LOOK_EVERY_MS)
    assert bench.codes() == set()


@pytest.mark.parametrize("csms", [True, False])
def test_a_clock_that_nobody_confirms_is_told_after_a_while_where_somebody_could(csms: bool) -> None:
    bench = Bench(csms=csms)
    bench.station.ctx.time_status = "I"
    bench.health.take_report("gateway", [])
    bench.at_ms += CLOCK_PATIENCE_MS - 1
    bench.give(Tick())
    assert bench.codes() == set()
    bench.at_ms += LOOK_EVERY_MS
    bench.give(Tick())
    assert bench.codes() == ({("clock_unconfirmed", 0)} if csms else set())


def test_a_process_that_crashed_is_told_for_a_day() -> None:
    bench = Bench(cause="Watchdog", csms=False)
    assert bench.codes() == {("process_crashed", 0)}
    bench.at_ms += CRASH_SHOWN_MS
    bench.give(Tick())
    assert bench.codes() == set()


@pytest.mark.parametrize("csms", [True, False])
def test_a_gateway_that_stays_away_is_missed_where_there_is_a_csms(csms: bool) -> None:
    bench = Bench(csms=csms)
    assert not bench.health.gateway_is_there()
    bench.health.take_report("gateway", [PartHealth(Part.CSMS_LINK, 0, Condition.OK)])
    assert bench.of(Part.CSMS_LINK).condition is Condition.OK
    assert bench.health.gateway_is_there()
    bench.health.gateway_gone()
    assert not bench.health.gateway_is_there()
    gone = Condition.UNKNOWN if csms else Condition.ABSENT
    assert (bench.of(Part.CSMS_LINK).condition, bench.codes()) == (gone, set())
    bench.at_ms += GATEWAY_AWAY_MS
    bench.give(Tick())
    assert bench.codes() == ({("gateway_away", 0)} if csms else set())
    bench.health.take_report("gateway", [])
    assert bench.codes() == set()


@pytest.mark.parametrize(
    ("process", "codes"),
    [
        (ProcessStatistics(rss_bytes=MEMORY_HIGH_BYTES - 1), set()),
        (ProcessStatistics(rss_bytes=MEMORY_HIGH_BYTES), {("memory_high", 0)}),
        (ProcessStatistics(lateness=Lateness(max_us=LOOP_LATE_US - 1)), set()),
        (ProcessStatistics(lateness=Lateness(max_us=LOOP_LATE_US)), {("loop_late", 0)}),
    ],
)
def test_what_the_process_takes(bench: Bench, process: ProcessStatistics, codes: set[tuple[str, int]]) -> None:
    bench.process = process
    bench.run(LOOK_EVERY_MS)
    assert bench.codes() == codes


def test_troubles_of_others_are_asked_for_at_each_look(bench: Bench) -> None:
    bench.troubles.append(Finding("disk_full"))
    bench.run(LOOK_EVERY_MS)
    assert bench.codes() == {("disk_full", 0)}
    assert bench.news[-1].parts[0].code == "disk_full"


# ----------------------------------------------------------------------------------------- reports


def test_what_the_gateway_tells_is_shown_with_the_station_s_own_words_and_time(bench: Bench) -> None:
    told = PartHealth(Part.CSMS_LINK, 0, Condition.WARNING, "csms_link_down", "name not found", "x", 7)
    bench.health.take_report("gateway", [told])
    row = bench.of(Part.CSMS_LINK)
    entry = CATALOGUE["csms_link_down"]
    assert (row.code, row.reason, row.remedy) == (entry.code, f"{entry.text}: name not found", entry.remedy)
    assert row.since_wall_ms == bench.station.ctx.wall_ms
    bench.health.take_report("gateway", [PartHealth(Part.CSMS_LINK, 0, Condition.OK)])
    assert bench.codes() == set()


@pytest.mark.parametrize(
    "row",
    [
        PartHealth(Part.CSMS_LINK, 0, Condition.FAULT, "no_such_code"),
        PartHealth(Part.METER, 0, Condition.FAULT, "meter_lost"),
        PartHealth(Part.CSMS_LINK, 99, Condition.FAULT, "csms_refused"),
        PartHealth(Part.PROCESSES, 0, Condition.FAULT, "meter_lost"),
    ],
)
def test_a_report_of_what_is_not_its_own_is_not_taken(bench: Bench, row: PartHealth) -> None:
    before = bench.health.parts()
    with structlog.testing.capture_logs() as lines:
        bench.health.take_report("gateway", [PartHealth(Part.CSMS_LINK, 0, Condition.OK), row])
    assert bench.health.parts() == before
    assert lines[-1]["event"] == "report of parts not taken"


def test_words_of_a_report_are_cut_where_they_enter(bench: Bench) -> None:
    for row in (
        PartHealth(Part.CSMS_LINK, 0, Condition.UNKNOWN, reason="x" * 50_000),
        PartHealth(Part.CSMS_LINK, 0, Condition.WARNING, "csms_link_down", "x" * 50_000),
    ):
        bench.health.take_report("gateway", [row])
        assert 100 < len(bench.of(Part.CSMS_LINK).reason) < 1_000


def test_a_stranger_s_report_is_not_taken(bench: Bench) -> None:
    before = bench.health.parts()
    bench.health.take_report("installer", [PartHealth(Part.CSMS_LINK, 0, Condition.WARNING, "csms_link_down")])
    assert bench.health.parts() == before
