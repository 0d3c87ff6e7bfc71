"""What is seen becomes health: since when, what changed, what is damped, and that nothing is lost or invented."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.health.catalogue import CATALOGUE
from agent.health.fold import FLAPS, QUIET_MS, SPELL_MS, Changes, Finding, HealthFold, Place, Rest
from agent.health.model import Condition, Part, PartHealth

OFFSET_MS = 1_795_507_200_000
METER, PILOT, DISK = (Part.METER, 1), (Part.PILOT, 1), (Part.DISK, 0)
RESTS: dict[Place, Rest] = {DISK: Rest(), PILOT: Rest(), METER: Rest(), (Part.READER, 0): Rest(Condition.ABSENT)}
LOST, DIODE, SHORT, FULL = (
    Finding("meter_lost", 1),
    Finding("diode", 1),
    Finding("pilot_short", 1),
    Finding("disk_full"),
)


class Seen:
    """A fold, and what was seen of it."""

    def __init__(self) -> None:
        self.fold = HealthFold()
        self.look(0)

    def look(self, at_ms: int, *findings: Finding, rests: dict[Place, Rest] | None = None) -> Changes:
        return self.fold.look(findings, rests or RESTS, at_ms, OFFSET_MS)

    def of(self, place: Place) -> list[PartHealth]:
        return [row for row in self.fold.parts(OFFSET_MS) if (row.part, row.evse) == place]

    def codes(self, place: Place = METER) -> list[str]:
        return [row.code for row in self.of(place)]


def test_every_part_is_told_from_the_first_look_on_in_order() -> None:
    fold = HealthFold()
    changes = fold.look([], RESTS, 5_000, OFFSET_MS)
    assert list(changes.parts) == fold.parts(OFFSET_MS)
    told = [(row.part, row.evse, row.condition, row.since_wall_ms) for row in changes.parts]
    since_ms = OFFSET_MS + 5_000
    assert told == [
        (*METER, Condition.OK, since_ms),
        (*PILOT, Condition.OK, since_ms),
        (Part.READER, 0, Condition.ABSENT, since_ms),
        (*DISK, Condition.OK, since_ms),
    ]


def test_nothing_new_is_no_news() -> None:
    seen = Seen()
    assert seen.look(1_000) == Changes()
    seen.look(2_000, LOST)
    assert seen.look(3_000, LOST) == Changes()


def test_a_trouble_says_what_it_is_since_when_and_what_to_do() -> None:
    seen = Seen()
    changes = seen.look(7_000, replace(LOST, detail="no answer from unit 3"))
    reason = "energy meter does not answer: no answer from unit 3"
    remedy = CATALOGUE["meter_lost"].remedy
    row = PartHealth(*METER, Condition.FAULT, "meter_lost", reason, remedy, OFFSET_MS + 7_000)
    assert changes == Changes(raised=(row,), parts=(row,))
    assert seen.of(METER) == [row]


def test_a_trouble_that_goes_leaves_a_part_that_is_well_again() -> None:
    seen = Seen()
    seen.look(7_000, LOST)
    changes = seen.look(9_000)
    assert [row.code for row in changes.cleared] == ["meter_lost"]
    assert changes.raised == ()
    assert changes.parts == (PartHealth(*METER, Condition.OK, since_wall_ms=OFFSET_MS + 9_000),)


def test_a_part_with_two_troubles_tells_both_the_worst_first() -> None:
    seen = Seen()
    seen.look(1_000, DIODE)
    changes = seen.look(2_000, DIODE, Finding("residual_current", 1))
    assert [row.code for row in changes.parts] == ["residual_current", "diode"], "all there is to say of the part"
    assert [row.code for row in changes.raised] == ["residual_current"]
    changes = seen.look(3_000, DIODE)
    assert [row.code for row in changes.parts] == ["diode"]


def test_a_part_that_cannot_be_judged_says_why() -> None:
    seen = Seen()
    unknown = RESTS | {PILOT: Rest(Condition.UNKNOWN, "has not answered yet")}
    changes = seen.look(4_000, rests=unknown)
    row = PartHealth(*PILOT, Condition.UNKNOWN, reason="has not answered yet", since_wall_ms=OFFSET_MS + 4_000)
    assert changes == Changes(parts=(row,))
    assert seen.look(5_000, rests=unknown) == Changes()


def test_only_latched_troubles_say_that_they_are() -> None:
    seen = Seen()
    changes = seen.look(1_000, Finding("contactor_welded", 1), LOST)
    assert {row.code: row.latched for row in changes.raised} == {"contactor_welded": True, "meter_lost": False}


def test_setting_the_clock_is_no_news_but_moves_every_time() -> None:
    seen = Seen()
    seen.look(1_000, LOST)
    assert seen.fold.look([LOST], RESTS, 2_000, 0) == Changes()
    assert {row.since_wall_ms for row in seen.fold.parts(0)} == {0, 1_000}


def test_a_device_that_tells_something_else_is_news_and_no_new_trouble() -> None:
    seen = Seen()
    seen.look(1_000, replace(LOST, detail="no answer"))
    changes = seen.look(2_000, replace(LOST, detail="adapter gone"))
    assert changes.raised == changes.cleared == ()
    (row,) = changes.parts
    assert row.reason.endswith(": adapter gone") and row.since_wall_ms == OFFSET_MS + 1_000


def test_a_long_detail_is_cut() -> None:
    seen = Seen()
    seen.look(0, replace(LOST, detail="x" * 10_000))
    assert len(seen.of(METER)[0].reason) < 300


# ---------------------------------------------------------------------------------------- flapping


def flap(seen: Seen, times: int, from_ms: int = 1_000, every_ms: int = 2_000) -> int:
    """Come and go; returns the time of the last going."""
    for number in range(times):
        seen.look(from_ms + number * every_ms, LOST)
        seen.look(from_ms + number * every_ms + 1_000)
    return from_ms + (times - 1) * every_ms + 1_000


def test_what_came_seldom_goes_at_once() -> None:
    seen = Seen()
    flap(seen, FLAPS - 1)
    assert seen.codes() == [""]


def test_what_comes_and_goes_stays_until_it_was_quiet_and_says_how_often() -> None:
    seen = Seen()
    gone_ms = flap(seen, FLAPS)
    assert seen.of(METER)[0].reason.endswith(f"(came and went {FLAPS} times)")
    assert seen.look(gone_ms + QUIET_MS - 1) == Changes()
    assert seen.codes() == ["meter_lost"]
    changes = seen.look(gone_ms + QUIET_MS)
    assert [row.code for row in changes.cleared] == ["meter_lost"]
    assert seen.codes() == [""]


def test_while_it_is_kept_shown_another_coming_is_counted_and_not_raised_again() -> None:
    seen = Seen()
    gone_ms = flap(seen, FLAPS)
    changes = seen.look(gone_ms + QUIET_MS - 1, LOST)
    assert changes.raised == ()
    assert f"{FLAPS + 1} times" in changes.parts[0].reason
    seen.look(gone_ms + QUIET_MS)
    seen.look(gone_ms + 2 * QUIET_MS - 1)
    assert seen.codes() == ["meter_lost"], "the quiet begins anew"
    seen.look(gone_ms + 2 * QUIET_MS)
    assert seen.codes() == [""]


def test_comings_far_apart_are_no_flapping() -> None:
    seen = Seen()
    flap(seen, 2 * FLAPS, every_ms=SPELL_MS + 1_000)
    assert seen.codes() == [""]
    seen = Seen()
    flap(seen, 2 * FLAPS, every_ms=SPELL_MS)
    assert seen.codes() == ["meter_lost"]


def test_one_flapping_trouble_holds_no_other() -> None:
    seen = Seen()
    gone_ms = flap(seen, FLAPS)
    seen.look(gone_ms + 1, FULL)
    assert seen.codes(DISK) == ["disk_full"]
    seen.look(gone_ms + 2)
    assert seen.codes(DISK) == [""]


POSSIBLE = [LOST, DIODE, SHORT, FULL, Finding("bus_gone", 1)]
LOOKS = st.lists(st.tuples(st.sets(st.sampled_from(POSSIBLE)), st.integers(0, SPELL_MS // 2)), max_size=40)


@given(LOOKS)
def test_whatever_happens_rows_news_and_troubles_agree(looks: list[tuple[set[Finding], int]]) -> None:
    fold, at_ms = HealthFold(), 0
    told: dict[Place, list[PartHealth]] = {}
    shown: set[tuple[str, int]] = set()
    last_seen: dict[tuple[str, int], int] = {}
    for findings, wait_ms in looks:
        at_ms += wait_ms
        changes = fold.look(findings, RESTS, at_ms, OFFSET_MS)
        for place in {(row.part, row.evse) for row in changes.parts}:
            told[place] = [row for row in changes.parts if (row.part, row.evse) == place]
        raised, cleared = ({(row.code, row.evse) for row in rows} for rows in (changes.raised, changes.cleared))
        assert not raised & shown and cleared <= shown, "raised and cleared in turn"
        shown = (shown | raised) - cleared
        rows = fold.parts(OFFSET_MS)
        assert {(row.code, row.evse) for row in rows if row.code} == shown
        assert {(f.code, f.evse) for f in findings} <= shown, "what is wrong now is shown now"
        last_seen |= {(f.code, f.evse): at_ms for f in findings}
        for place in {(row.part, row.evse) for row in rows}:
            assert told[place] == [row for row in rows if (row.part, row.evse) == place], "the news tell all"
        assert set(RESTS) <= {(row.part, row.evse) for row in rows}
        assert all((row.code == "") == (row.condition is Condition.OK) for row in rows if row.part is not Part.READER)
    fold.look([], RESTS, at_ms + 1, OFFSET_MS)
    fold.look([], RESTS, at_ms + 1 + QUIET_MS, OFFSET_MS)
    assert not any(row.code for row in fold.parts(OFFSET_MS)), "everything clears"
