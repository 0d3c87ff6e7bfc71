"""A smaller world that breaks the same rule: fewer kinds of trouble, fewer days, a shorter story.

Charter: lives the seed again without some kinds of trouble, and leaves them out for good while the same rule still
breaks, at any day up to the same bound. Many at once first, then fewer, then one by one. Every kind has random numbers
of its own, so the others stay where they were; but a world without one of them goes its own way, so what is found is
small, not the smallest.

Units: s of real time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from agent.sim.world.profile import EXTRAS, QUIET, Profile
from agent.sim.world.run import OnProgress, Progress, Recipe, Result, Stopped, live

OnTry = Callable[[int, int], None]
"""How many kinds of trouble are left, and how many worlds were lived."""

Live = Callable[[Recipe, OnProgress], Result]


def shrink(
    failed: Result,
    for_s: float,
    on_try: OnTry = lambda _left, _tried: None,
    *,
    live_it: Live = live,
    clock_s: Callable[[], float] = time.monotonic,
) -> Result:
    """The smallest failure of the same rule that was found within the time; ``failed`` itself where none was."""
    until_s, tried = clock_s() + for_s, 0

    def in_time(_progress: Progress) -> None:
        if clock_s() >= until_s:
            raise Stopped

    best, size = failed, len(kinds(failed.recipe.profile()))
    while size:
        position = 0
        while (left := kinds(best.recipe.profile()))[position:]:
            on_try(len(left), tried)
            recipe = best.shortest()
            smaller = replace(recipe, without=recipe.without.union(left[position : position + size]))
            try:
                result = live_it(smaller, in_time)
            except Stopped:
                return best
            tried += 1
            if result.rule == best.rule:
                best = result
            else:
                position += size
        size //= 2
    return best


def kinds(profile: Profile) -> list[str]:
    """The kinds of trouble that a profile has, by the names that ``Profile.without`` takes."""
    extras = (name for name in EXTRAS if getattr(profile, name) != getattr(QUIET, name))
    return [*(trouble.value for trouble in profile.rates), *extras]
