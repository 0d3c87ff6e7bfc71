"""What stands in which hour."""

from __future__ import annotations

from agent.usage.fold import SLOT_MS, UNSAVED_HOURS_MAX, WAITING_SLOTS_MAX, Fold, Levels
from agent.usage.model import HOUR_MS, STATION, RegisterAt, UsageHour, joined

H = 500_000
"""An hour of 2027."""

MINUTE_MS = 60_000
CHARGING = Levels(occupied=True, charging=True)


def fold(
    *, minute: int | None = 0, evses: tuple[int, ...] = (1,), registers: dict[int, RegisterAt] | None = None
) -> Fold:
    """A fold that begins at monotonic 0, ``minute`` minutes into hour ``H``; None: without a clock."""
    made = Fold(evses, 0, registers or {})
    made.set_clock(0, None if minute is None else H * HOUR_MS + minute * MINUTE_MS)
    return made


def taken(made: Fold, at_ms: int) -> dict[tuple[int, int], UsageHour]:
    found = made.take(at_ms)
    assert found is not None
    return {(row.hour, row.evse): row for row in found.rows}


def at(energy_mwh: int, serial: str = "M-1") -> RegisterAt:
    return RegisterAt(serial, energy_mwh)


def test_a_charge_over_the_full_hour_stands_in_both_hours() -> None:
    made = fold(minute=50)
    made.read(0, 1, at(1_000), 0)
    made.set_levels(2 * MINUTE_MS, 1, CHARGING)
    made.session_started(2 * MINUTE_MS, 1)
    made.read(9 * MINUTE_MS, 1, at(4_000), 7_000)
    made.read(11 * MINUTE_MS, 1, at(6_000), 9_000)
    made.set_levels(15 * MINUTE_MS, 1, Levels(occupied=True))
    rows = taken(made, 20 * MINUTE_MS)
    assert rows[H, 1] == UsageHour(H, 1, 10 * MINUTE_MS, 3_000, 1, 8 * MINUTE_MS, 8 * MINUTE_MS, 7_000)
    assert rows[H + 1, 1] == UsageHour(H + 1, 1, 10 * MINUTE_MS, 2_000, 0, 10 * MINUTE_MS, 5 * MINUTE_MS, 9_000)


def test_the_peak_of_the_station_is_of_what_is_drawn_at_the_same_time() -> None:
    made = fold(evses=(1, 2))
    made.read(1, 1, at(0), 11_000)
    made.read(2, 2, at(0), 7_000)
    made.read(3, 1, at(0), 0)
    made.read(4, 2, at(0), 12_000)
    rows = taken(made, 5)
    assert [rows[H, evse].peak_power_w for evse in (STATION, 1, 2)] == [18_000, 11_000, 12_000]


def test_power_of_a_lost_meter_is_not_added_to_the_others() -> None:
    made = fold(evses=(1, 2))
    made.read(1, 1, at(0), 11_000)
    made.meter_lost(1)
    made.read(2, 2, at(0), 7_000)
    assert taken(made, 3)[H, STATION].peak_power_w == 11_000


def test_link_and_faults() -> None:
    made = fold()
    made.set_link(0, up=True)
    made.set_levels(MINUTE_MS, 1, Levels(faulted=True))
    made.faults_came(MINUTE_MS, 1, 2)
    made.set_link(2 * MINUTE_MS, up=False)
    made.set_levels(5 * MINUTE_MS, 1, Levels())
    rows = taken(made, 10 * MINUTE_MS)
    assert rows[H, STATION] == UsageHour(H, STATION, 10 * MINUTE_MS, link_up_ms=2 * MINUTE_MS)
    assert rows[H, 1] == UsageHour(H, 1, 10 * MINUTE_MS, faults=2, fault_ms=4 * MINUTE_MS)


def test_energy_is_counted_from_the_register_that_was_kept() -> None:
    made = fold(registers={1: at(10_000)})
    made.read(5, 1, at(12_500), 0)
    found = made.take(6)
    assert found is not None
    assert sum(row.energy_import_mwh for row in found.rows) == 2_500
    assert found.registers == {1: at(12_500)}


def test_another_meter_or_a_register_that_fell_begins_anew() -> None:
    made = fold(registers={1: at(10_000)})
    for stands in (at(90_000, "M-2"), at(91_000, "M-2"), at(100, "M-2"), at(150, "M-2")):
        made.read(5, 1, stands, 0)
    assert taken(made, 6)[H, 1].energy_import_mwh == 1_050


def test_time_without_a_clock_waits_for_it() -> None:
    made = fold(minute=None)
    made.set_levels(0, 1, CHARGING)
    made.read(0, 1, at(0), 0)
    made.read(MINUTE_MS, 1, at(3_000), 7_000)
    assert made.take(2 * MINUTE_MS) is None
    made.set_clock(3 * MINUTE_MS, H * HOUR_MS + 30 * MINUTE_MS)
    rows = taken(made, 4 * MINUTE_MS)
    assert set(rows) == {(H, STATION), (H, 1)}
    assert rows[H, 1] == UsageHour(H, 1, 4 * MINUTE_MS, 3_000, 0, 4 * MINUTE_MS, 4 * MINUTE_MS, 7_000)


def test_hours_without_a_clock_go_to_the_hours_that_they_were() -> None:
    made = fold(minute=None)
    made.set_clock(3 * HOUR_MS, H * HOUR_MS + 20 * MINUTE_MS)
    rows = taken(made, 3 * HOUR_MS)
    assert {hour: row.running_ms // MINUTE_MS for (hour, evse), row in rows.items() if evse == 1} == {
        H: 40,
        H + 1: 60,
        H + 2: 60,
        H + 3: 20,
    }
    assert made.dropped_ms == 0


def test_what_waits_too_long_for_a_clock_loses_its_time_and_no_energy() -> None:
    longest_ms = WAITING_SLOTS_MAX * SLOT_MS
    made = fold(minute=None)
    made.read(0, 1, at(0), 0)
    made.read(longest_ms + HOUR_MS, 1, at(5_000), 0)
    made.set_clock(longest_ms + 2 * HOUR_MS, H * HOUR_MS)
    rows = taken(made, longest_ms + 2 * HOUR_MS).values()
    assert made.dropped_ms == 2 * HOUR_MS
    assert sum(row.running_ms for row in rows if row.evse == STATION) == longest_ms
    assert {row.hour: row.energy_import_mwh for row in rows if row.energy_import_mwh} == {H + 167: 5_000}


def test_a_clock_that_is_set_back_fills_the_hour_once() -> None:
    made = fold(minute=0)
    made.set_levels(0, 1, CHARGING)
    made.set_clock(50 * MINUTE_MS, H * HOUR_MS - 10 * MINUTE_MS)  # it shows :40 again
    rows = taken(made, 80 * MINUTE_MS)
    assert rows[H, 1].running_ms == rows[H, 1].charging_ms == HOUR_MS
    assert rows[H + 1, 1].running_ms == 10 * MINUTE_MS
    assert made.dropped_ms == 10 * MINUTE_MS


def test_time_does_not_run_backwards() -> None:
    made = fold()
    made.set_levels(10 * MINUTE_MS, 1, CHARGING)
    made.set_levels(5 * MINUTE_MS, 1, Levels())
    assert taken(made, 10 * MINUTE_MS)[H, 1] == UsageHour(H, 1, 10 * MINUTE_MS)


def test_what_nobody_keeps_has_a_limit() -> None:
    made = fold()
    rows = made.rows((UNSAVED_HOURS_MAX + 5) * HOUR_MS - 1)
    assert len(rows) == 2 * UNSAVED_HOURS_MAX
    assert min(rows) == (H + 5, STATION)
    assert made.dropped_ms == 5 * HOUR_MS


def test_passing_time_alone_stirs_nothing() -> None:
    made = fold(registers={1: at(7)})
    made.read(0, 1, at(7), 0)
    made.take(MINUTE_MS)
    assert not made.stirred
    made.read(2 * MINUTE_MS, 1, at(8), 0)
    assert made.stirred


def test_times_that_find_no_room_are_cut_in_proportion() -> None:
    kept = UsageHour(H, 1, HOUR_MS - 6_000, occupied_ms=1_000)
    more = UsageHour(H, 1, 12_000, 500, 1, 8_000, 4_000, 3, 1, 2_000)
    assert joined(kept, more) == UsageHour(H, 1, HOUR_MS, 500, 1, 5_000, 2_000, 3, 1, 1_000)
