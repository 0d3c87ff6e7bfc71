"""What every boot selector promises, with the model of its boot loader, on a disk without power cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from agent.firmware.errors import SlotFailed
from agent.firmware.ports import BootSelector, BootState
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import RIGS, Rig

TRIES: Final = 3


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Rig:
    return RIGS[request.param]


def activated(rig: Rig) -> PowerDisk:
    disk = rig.factory()
    selector = rig.selector(disk, "a")
    selector.block("b")
    selector.activate("b", TRIES)
    return disk


def updated(rig: Rig) -> PowerDisk:
    disk = activated(rig)
    assert rig.boot(disk, asked=True) == "b"
    rig.selector(disk, "b", asked=True).confirm("b")
    return disk


def brief(state: BootState) -> tuple[str | None, str | None, bool, dict[str, tuple[bool, bool]]]:
    return (
        state.booted,
        state.primary,
        state.on_trial,
        {each.slot: (each.bootable, each.good) for each in state.slots},
    )


def test_from_the_factory_the_first_slot_is_good_and_boots(rig: Rig) -> None:
    disk = rig.factory()
    assert rig.boot(disk) == "a"
    assert brief(rig.selector(disk, "a").state()) == ("a", "a", False, {"a": (True, True), "b": (False, False)})


def test_a_blocked_slot_never_boots(rig: Rig) -> None:
    disk = activated(rig)
    rig.selector(disk, "a").block("b")
    assert [rig.boot(disk, asked=True), rig.boot(disk)] == ["a", "a"]
    assert rig.selector(disk, "a").state().of("b").bootable is False


def test_a_healthy_trial_becomes_the_good_slot(rig: Rig) -> None:
    disk = activated(rig)
    assert rig.boot(disk, asked=True) == "b"
    selector = rig.selector(disk, "b", asked=True)
    state = selector.state()
    assert (state.on_trial, state.of("a").good, state.of("b").good) == (True, True, False)
    selector.confirm("b")
    state = rig.selector(disk, "b").state()
    assert (state.primary, state.on_trial, state.of("b").good, state.of("b").tries_left) == ("b", False, True, None)


def test_no_number_of_ordinary_boots_uses_a_good_slot_up(rig: Rig) -> None:
    disk = updated(rig)
    steps = disk.steps
    assert [rig.boot(disk) for _ in range(20)] == ["b"] * 20
    assert disk.steps == steps, "a boot of the good slot writes nothing"


def test_a_sick_trial_is_tried_so_often_and_then_left_for_good(rig: Rig) -> None:
    disk = activated(rig)
    booted = [rig.boot(disk, asked=number == 0) for number in range(TRIES + 3)]
    assert booted[0] == "b"
    times = booted.count("b")
    assert times == (1 if rig.selector(disk, None).reboot_argument else TRIES)
    assert booted[times:] == ["a"] * (len(booted) - times)
    state = rig.selector(disk, "a").state()
    assert (state.primary, state.on_trial) == ("a", False)


def test_tries_left_are_told(rig: Rig) -> None:
    disk = activated(rig)
    counts = rig.selector(disk, "a").reboot_argument is None
    assert rig.selector(disk, "a").state().of("b").tries_left == (TRIES if counts else 1)
    rig.boot(disk, asked=True)
    assert rig.selector(disk, "b", asked=True).state().of("b").tries_left == (TRIES - 1 if counts else 1)


@pytest.mark.parametrize(("asked_for", "least"), [(0, 1), (-5, 1), (1000, 1)])
def test_tries_are_brought_into_range(rig: Rig, asked_for: int, least: int) -> None:
    disk = rig.factory()
    rig.selector(disk, "a").activate("b", asked_for)
    left = rig.selector(disk, "a").state().of("b").tries_left
    assert left is not None
    assert left >= least
    assert rig.boot(disk, asked=True) == "b"


def test_a_slot_that_failed_gets_another_chance(rig: Rig) -> None:
    disk = activated(rig)
    for number in range(TRIES + 1):
        rig.boot(disk, asked=number == 0)
    selector = rig.selector(disk, "a")
    selector.repair()
    selector.block("b")
    selector.activate("b", TRIES)
    assert rig.boot(disk, asked=True) == "b"


def test_revert_ends_a_trial(rig: Rig) -> None:
    disk = activated(rig)
    assert rig.boot(disk, asked=True) == "b"
    selector = rig.selector(disk, "b", asked=True)
    selector.revert("a")
    assert selector.state().of("b").bootable is False
    assert [rig.boot(disk, asked=True), rig.boot(disk)] == ["a", "a"]


def test_revert_before_the_reboot_calls_a_trial_off(rig: Rig) -> None:
    disk = activated(rig)
    rig.selector(disk, "a").revert("a")
    assert rig.boot(disk, asked=True) == "a"


def test_slots_change_roles_again_and_again(rig: Rig) -> None:
    disk, booted = rig.factory(), "a"
    for _ in range(12):
        target = "b" if booted == "a" else "a"
        selector = rig.selector(disk, booted)
        assert selector.repair() == []
        selector.block(target)
        selector.activate(target, TRIES)
        assert rig.boot(disk, asked=True) == target
        rig.selector(disk, target, asked=True).confirm(target)
        booted = target
    assert len(disk.paths()) <= len(rig.factory().paths()) + 2, "nothing piles up"


def test_a_good_slot_can_be_tried_without_being_blocked_first(rig: Rig) -> None:
    disk = updated(rig)
    selector = rig.selector(disk, "b")
    selector.activate("a", TRIES)
    state = selector.state()
    assert (state.of("a").bootable, state.of("a").good) == (True, False)
    assert selector.repair() == []
    assert rig.boot(disk, asked=True) == "a"
    assert rig.selector(disk, "a", asked=True).state().on_trial


# ------------------------------------------------------------------------------------------- repetition


CALLS: Final[dict[str, tuple[Callable[[Rig], PowerDisk], str, Callable[[BootSelector], object]]]] = {
    "block": (activated, "a", lambda selector: selector.block("b")),
    "activate": (activated, "a", lambda selector: selector.activate("b", TRIES)),
    "confirm": (updated, "b", lambda selector: selector.confirm("b")),
    "revert": (activated, "a", lambda selector: selector.revert("a")),
    "repair": (updated, "b", lambda selector: selector.repair()),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_done_can_be_done_again_and_changes_nothing(rig: Rig, name: str) -> None:
    make, booted, call = CALLS[name]
    disk = make(rig)
    call(rig.selector(disk, booted))
    before = [(path, disk.content(path)) for path in disk.paths()]
    seen = len(disk.log)
    call(rig.selector(disk, booted))
    assert [(path, disk.content(path)) for path in disk.paths()] == before
    assert all(step.startswith("sync") for step in disk.log[seen:]), disk.log[seen:]


@pytest.mark.parametrize("name", ["block", "activate", "confirm", "revert"])
def test_what_looks_done_is_made_durable(rig: Rig, name: str) -> None:
    """Whoever did it may have been killed before he synced."""
    make, booted, call = CALLS[name]
    disk = make(rig)
    call(rig.selector(disk, booted))
    seen = len(disk.log)
    call(rig.selector(disk, booted))
    assert any(step.startswith("sync") for step in disk.log[seen:])


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("booted", "call", "says"),
    [
        ("a", lambda each: each.block("a"), "runs from it"),
        ("a", lambda each: each.activate("a", 1), "runs from it"),
        (None, lambda each: each.block("b"), "nobody can tell"),
        (None, lambda each: each.activate("b", 1), "nobody can tell"),
        ("b", lambda each: each.block("a"), "not marked good"),
        ("b", lambda each: each.activate("a", 1), "not marked good"),
        ("a", lambda each: each.confirm("b"), "only the booted slot"),
        (None, lambda each: each.confirm("a"), "unknown"),
        ("a", lambda each: each.revert("b"), "not marked good"),
        ("a", lambda each: each.block("c"), "only a and b"),
        ("a", lambda each: each.activate("c", 1), "only a and b"),
        ("a", lambda each: each.confirm("c"), "only a and b"),
        ("a", lambda each: each.revert("c"), "only a and b"),
    ],
)
def test_what_could_end_badly_is_refused(
    rig: Rig, booted: str | None, call: Callable[[BootSelector], None], says: str
) -> None:
    disk = activated(rig)
    before = [(path, disk.content(path)) for path in disk.paths()]
    with pytest.raises(SlotFailed, match=says):
        call(rig.selector(disk, booted))
    assert [(path, disk.content(path)) for path in disk.paths()] == before


def test_a_state_is_told_where_nobody_knows_the_booted_slot(rig: Rig) -> None:
    state = rig.selector(updated(rig), None).state()
    assert (state.booted, state.primary, state.on_trial) == (None, "b", False)
