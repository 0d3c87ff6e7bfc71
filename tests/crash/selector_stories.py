"""Stories of updates on a disk that loses power, for every boot selector and the model of its boot loader.

Charter: what a station does, told once with an eye on the disk. Before each step, and at the end, are seen all the
disks that a cut there may leave; each that was not seen before is the beginning of the next story. Slots are devices
on the same disk, so that what is unsynced of both is lost together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.support.power_disk import Fate, PowerDisk
from tests.unit.firmware.selectors.rigs import Rig, clone, image, write_image

SEED: Final = 20261127
TRIES: Final = 2
MOST_BOOTS: Final = 12

Story = Callable[[Rig, PowerDisk], None]
Call = Callable[[PowerDisk], object]


def other_of(slot: str) -> str:
    return "b" if slot == "a" else "a"


def boot(rig: Rig, disk: PowerDisk, *, asked: bool = False) -> str:
    slot = rig.boot(disk, asked=asked)
    assert rig.keeps(disk), "what belongs to others is lost"
    assert slot, "nothing boots"
    assert image(disk, slot), f"boots {slot}, which is torn"
    return slot


def install(rig: Rig, disk: PowerDisk, booted: str, letter: bytes) -> None:
    selector = rig.selector(disk, booted)
    target = other_of(booted)
    selector.block(target)
    write_image(disk, target, letter)
    selector.activate(target, TRIES)


# ------------------------------------------------------------------------------------------- the stories


def update(rig: Rig, disk: PowerDisk) -> None:
    """Two updates, "m" and "n", each called off once and begun again, the second as soon as the first is confirmed.
    The station goes on from whatever state it wakes up in, and finds every image healthy."""
    go_on(rig, disk, boot(rig, disk), asked=False)


def go_on(rig: Rig, disk: PowerDisk, booted: str, *, asked: bool) -> None:
    for _ in range(MOST_BOOTS):
        selector = rig.selector(disk, booted, asked=asked)
        selector.repair()
        if selector.state().on_trial:
            selector.confirm(booted)
        runs = image(disk, booted)
        if runs == b"n":
            assert_done(rig, disk, booted, runs)
            return
        install(rig, disk, booted, b"x")
        install(rig, disk, booted, b"n" if runs == b"m" else b"m")
        asked = True
        booted = boot(rig, disk, asked=asked)
    raise AssertionError("it never gets done")


def sick(rig: Rig, disk: PowerDisk) -> None:
    """The new image never passes its self test: sooner or later the old one runs again, for good."""
    booted = boot(rig, disk)
    if image(disk, booted) == b"o":
        rig.selector(disk, booted).repair()
        if image(disk, other_of(booted)) != b"n":
            install(rig, disk, booted, b"n")
        booted = boot(rig, disk, asked=True)
    for _ in range(MOST_BOOTS):
        if image(disk, booted) == b"o":
            break
        rig.selector(disk, booted, asked=True).repair()
        booted = boot(rig, disk)
    rig.selector(disk, booted).repair()
    assert_done(rig, disk, booted, b"o")


def revert(rig: Rig, disk: PowerDisk) -> None:
    """The new image says itself that it is sick."""
    booted = boot(rig, disk)
    if image(disk, booted) == b"o" and image(disk, other_of(booted)) != b"n":
        rig.selector(disk, booted).repair()
        install(rig, disk, booted, b"n")
        booted = boot(rig, disk, asked=True)
    selector = rig.selector(disk, booted, asked=True)
    selector.repair()
    good = booted if image(disk, booted) == b"o" else other_of(booted)
    selector.revert(good)
    assert boot(rig, disk) == good
    assert_done(rig, disk, good, b"o")


STORIES: Final[dict[str, Story]] = {"update": update, "sick": sick, "revert": revert}


def assert_done(rig: Rig, disk: PowerDisk, booted: str, letter: bytes) -> None:
    """``booted`` is good, boots again as often as one likes, and nothing is left to repair."""
    disk = clone(disk)
    for _ in range(TRIES + 2):
        assert image(disk, booted) == letter
        selector = rig.selector(disk, booted)
        state = selector.state()
        assert (state.booted, state.primary, state.on_trial) == (booted, booted, False)
        assert state.of(booted).good
        assert selector.repair() == []
        assert boot(rig, disk) == booted


def once_updated(rig: Rig) -> PowerDisk:
    """Both slots have been good; the old image ("o") runs in slot b."""
    disk = rig.factory()
    booted = "a"
    for letter in (b"p", b"p", b"o"):
        install(rig, disk, booted, letter)
        booted = boot(rig, disk, asked=True)
        rig.selector(disk, booted, asked=True).confirm(booted)
    return clone(disk)


BEGINNINGS: Final[dict[str, Callable[[Rig], PowerDisk]]] = {
    "factory": lambda rig: rig.factory(),
    "once updated": once_updated,
}

# ---------------------------------------------------------------------------------------------- the cuts


def before_each_step(disk: PowerDisk, call: Callable[[str], None]) -> None:
    step = disk._step

    def watched(what: str) -> None:
        call(what)
        step(what)

    disk._step = watched  # type: ignore[method-assign]


def content_of(disk: PowerDisk) -> tuple[tuple[Path, bytes], ...]:
    return tuple((path, disk.content(path)) for path in disk.paths())


Seen = dict[tuple[tuple[Path, bytes], ...], str]
"""Disks by their content, each with where the power was cut to get it."""


def tell(rig: Rig, beginning: PowerDisk, story: Story, mixes: int, seen: Seen, so_far: str) -> list[PowerDisk]:
    """The disks that a cut in ``story`` may leave and nobody has seen yet."""
    disk, fresh, chance = clone(beginning), [], random.Random(SEED)

    def look(what: str) -> None:
        for fate in (Fate.DROPPED, Fate.KEPT, *[Fate.MIXED] * mixes):
            found = disk.after_cut(fate, chance)
            key = content_of(found)
            if key not in seen:
                seen[key] = f"{so_far}; cut before step {disk.steps}, {what}, {fate.value}"
                fresh.append(found)

    before_each_step(disk, look)
    run(rig, disk, story, so_far)
    look("the end")
    return fresh


def run(rig: Rig, disk: PowerDisk, story: Story, so_far: str) -> None:
    try:
        story(rig, disk)
    except Exception as error:
        raise AssertionError(f"{error!r} after {so_far}") from error


# ------------------------------------------------------------------------------------------------ kills


class Killed(Exception):
    """The process, not the machine: what it wrote is in memory still."""


def after_kills(rig: Rig, beginning: PowerDisk, first: Call, again: Call) -> Iterator[PowerDisk]:
    """The disk after ``first`` was killed before each of its steps, ``again`` was done, and the power was cut."""
    for at in range(100):
        disk = clone(beginning)

        def die(what: str, disk: PowerDisk = disk, at: int = at) -> None:
            if disk.steps == at:
                raise Killed

        step = disk._step
        before_each_step(disk, die)
        try:
            first(disk)
        except Killed:
            disk._step = step  # type: ignore[method-assign]
            again(disk)
            yield disk.after_cut(Fate.DROPPED, random.Random(0))
        else:
            assert at > 1
            return
