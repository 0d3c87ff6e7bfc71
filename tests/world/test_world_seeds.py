"""A short fixed set of simulated worlds, the same in every run: a change that breaks a rule is noticed at once.

Charter: breadth is ``make soak``'s. Which of the two dialects a world speaks, its boards and its meters come from the
seed; these have both dialects and every kind of board.
"""

from __future__ import annotations

import pytest

from agent.sim.world.run import DAY_MS, Recipe, live

HOUR_MS = DAY_MS // 24
RECIPES = [
    *(Recipe(seed, 10 * DAY_MS) for seed in range(1, 7)),
    Recipe(2, 2 * HOUR_MS, faults="brutal", pace="seconds"),
    Recipe(8, 10 * DAY_MS, faults="quiet"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.faults}-{recipe.pace}-{recipe.seed}")
def test_no_rule_is_broken(recipe: Recipe) -> None:
    result = live(recipe)
    if not result.ok:
        story = "\n".join(f"  {entry}" for entry in result.story(20))
        pytest.fail(f"{result.failure}\nTo see it again:\n  {result.shortest().line}\n{story}", pytrace=False)
    assert result.lived_ms >= recipe.until_ms
    assert result.counts["transactions"]
    assert result.counts["looks at power"]
    troubles = sum(count for name, count in result.counts.items() if name.startswith("trouble "))
    assert (troubles > 0) == (recipe.faults != "quiet")
