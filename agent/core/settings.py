"""What a station is made of and how it shall behave, as the core sees it.

Charter: plain data. ``EvseHardware`` comes from board file and configuration and never changes while
the process runs; ``Behaviour`` mirrors device-model settings and may change at any time.
Defaults of ``Timing`` are those of the charging-behaviour reference; every one may be overridden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.status import FaultCode


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds unless the name says otherwise."""

    pilot_debounce_ms: int = 100  # a pilot state must last this long before the session believes it
    release_ms: int = 6_000  # C1: a vehicle that goes on drawing without PWM is cut off (norm: 6 s)
    contactor_close_ms: int = 2_000  # mirror contact must follow
    contactor_open_ms: int = 500  # mirror contact must follow; else welded
    board_open_ms: int = 3_000  # the same for a board that opens by itself and is polled
    weld_current_ma: int = 1_000  # current that must not flow through an open contactor
    weld_current_ms: int = 3_000
    lock_ms: int = 3_000  # one try of the lock motor
    lock_tries: int = 3
    lock_again_ms: int = 60_000  # a jammed lock is tried once more so often
    raise_limit_every_ms: int = 5_000  # vehicles need up to 5 s to follow; lowering never waits
    over_current_ms: int = 7_000
    over_current_margin_ma: int = 500
    over_current_factor_percent: int = 110
    over_output_margin_ma: int = 2_500  # of DC modules, instead: below 50 A a sound one may be off by so much
    over_voltage_margin_mv: int = 50_000  # DC: so far may two voltage sources differ, and 5 % of 1000 V
    over_voltage_ms: int = 400
    fault_clear_ms: int = 1_000  # a self-clearing fault must be gone this long
    begin_reading_ms: int = 5_000
    end_reading_ms: int = 5_000
    end_release_ms: int = 20_000  # a session never waits longer than this for an open contactor
    vehicle_ready_ms: int = 30_000  # time after the offer in which B is not yet "suspended by EV"
    wake_up_f_ms: int = 4_000  # then state F, once for each offer, to wake it; 0: nobody is woken
    wake_up_x1_ms: int = 750  # and X1, before the offer is shown again
    wake_up_answer_ms: int = 10_000  # time after that in which B is not yet "suspended by EV"
    recover_ms: int = 30_000  # wait for meter and pilot before an open transaction is closed
    register_behind_ms: int = 30_000  # a register that lags behind the power for so long stands still
    reading_fresh_ms: int = 3_000  # a reading older than this is not shown or used as current


@dataclass(frozen=True, slots=True)
class DcBench:
    """Fixed output for DC without ISO 15118: a bench load or a battery of known voltage."""

    voltage_mv: int
    current_ma: int


@dataclass(frozen=True, slots=True)
class EvseHardware:
    """One EVSE as built."""

    evse: int
    hard_limit_ma: int
    min_current_ma: int = 6_000
    phases: int = 3
    autonomous: bool = False
    has_lock: bool = False
    has_contactor_feedback: bool = True
    ventilation: bool = False
    socket: bool = False  # a socket: the cable's rating limits, and no cable means no charge
    dc: bool = False
    dc_bench: DcBench | None = None
    meter_step_mwh: int = 100_000  # how coarsely the import register advances
    meter_rollover_mwh: int | None = None  # the import register starts again at 0 here; None: not known


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Settings the CSMS may change while running (device-model variables in brackets)."""

    connect_timeout_ms: int = 120_000  # TxCtrlr.EVConnectionTimeOut
    stop_on_unplug: bool = True  # TxCtrlr.StopTxOnEVSideDisconnect
    sample_interval_ms: int = 60_000  # SampledDataCtrlr.TxUpdatedInterval, 0 = none
    aligned_interval_ms: int = 0  # AlignedDataCtrlr.Interval, 0 = none
    checkpoint_ms: int = 60_000  # newest reading on disk is never older than this
    offline_limit_ma: int | None = None  # while the CSMS is away and none of its limits is in force
    resume_window_ms: int = 60_000  # an interrupted transaction goes on within this time


@dataclass(frozen=True, slots=True)
class StationSettings:
    evses: tuple[EvseHardware, ...]
    timing: Timing = field(default_factory=Timing)
    behaviour: Behaviour = field(default_factory=Behaviour)
    operative: bool = True
    inoperative_evses: frozenset[int] = frozenset()
    lasting_faults: Mapping[int, tuple[FaultCode, ...]] = field(default_factory=dict)  # of before the restart, by EVSE
