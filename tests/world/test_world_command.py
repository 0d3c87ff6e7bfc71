"""``evsed world``: what it says of a world, of a broken rule, and of many worlds; and that no world is ever lost.

Charter: real worlds of a few days, with a product that is broken on purpose where something must be found; shrinking
and campaigns also with worlds that are made up, so that each way to end has its test.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.sim.world.campaign import Campaign, Tally
from agent.sim.world.journal import Entry
from agent.sim.world.run import DAY_MS, OnProgress, Progress, Recipe, Result, Stopped, live
from agent.sim.world.shrink import kinds, shrink
from agent.sim.world.world import World

ROOT = Path(__file__).parents[2]


def made_up(recipe: Recipe, rule: str = "", at_ms: int | None = None, evse: int = 0) -> Result:
    """What could have come of a world."""
    entries = tuple(Entry(number, number % 3, f"event {number}") for number in range(9))
    lived_ms = recipe.until_ms if at_ms is None else at_ms
    return Result(recipe, lived_ms, 2.0, 1.0, "d1ge57", rule, rule, evse, {"transactions": 3}, entries)


# ----------------------------------------------------------------------------------------- one world


def test_a_world_in_which_all_rules_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "run", "--seed", "8", "--days", "1", "--faults", "quiet"]) == 0
    said = capsys.readouterr()
    assert "all rules held" in said.out
    assert re.search(r"^  sessions +\d+$", said.out, re.MULTILINE)
    assert "Nothing went wrong." in said.out
    assert "of 1.00" in said.err


def test_a_world_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "run", "--seed", "8", "--days", "1", "--faults", "quiet", "--json"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert view["ok"]
    assert view["counts"]["transactions"]
    assert view["digest"] == live(Recipe(8, DAY_MS, "quiet")).digest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run --days 1 --faults calm", "no fault profile 'calm'; there are quiet, mild, harsh"),
        ("run --days 1 --without power_cut,moon", "no fault moon; there are power_cut, "),
        ("run --days 1 --pace hours", "no pace 'hours'; there are seconds, minutes"),
        ("run --days nan", "the length must be a number from 0"),
        ("run --years 1e9", "the length must be a number from 0"),
        ("run --days 0", "the length must be more than nothing"),
        ("run --days 1 --shrink-s -1", "--shrink-s must be a number from 0"),
        ("soak --minutes inf", "--minutes must be a number from 0"),
        ("soak --minutes 1 --jobs 0", "--jobs must be a number from 1"),
        ("soak --minutes 1 --faults calm", "no fault profile 'calm'"),
    ],
)
def test_wrong_use_is_told_with_what_would_be_right(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["world", *arguments.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def deadly_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which it is against the rules that the gateway dies."""

    def kill(self: World) -> None:
        self.wrong(1, f"the gateway may not die, not after {self.mirror.transactions} sessions")

    monkeypatch.setattr(World, "kill_gateway", kill)


@pytest.mark.usefixtures("deadly_kills")
def test_a_broken_rule_is_told_with_a_line_that_replays_it_and_is_shrunken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "run", "--seed", "2", "--days", "20"]) == 1
    said = capsys.readouterr().out
    assert "a rule was broken" in said
    assert "WRONG: the gateway may not die" in said.splitlines()[-1]
    replay, smaller = re.findall(r"^  evsed (world run .*)$", said, re.MULTILINE)
    assert "--without" not in replay
    assert "gateway_kill" not in smaller
    assert smaller.count(",") == len(kinds(Recipe(2, 1).profile())) - 2
    for line in (replay, smaller):
        assert main([*shlex.split(line), "--shrink-s", "0"]) == 1
        assert "the gateway may not die" in capsys.readouterr().out


@pytest.mark.usefixtures("deadly_kills")
def test_a_broken_rule_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "run", "--seed", "2", "--days", "20", "--shrink-s", "0", "--json"]) == 1
    view = json.loads(capsys.readouterr().out)
    assert not view["ok"]
    assert view["failure"]["evse"] == 1
    assert view["replay"] == view["failure"]["shrunken"]
    assert "WRONG" in view["failure"]["story"][-1]


@pytest.mark.parametrize("where", ["_traffic", "restore_power", "counts"])
def test_an_error_of_the_program_is_a_broken_rule(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_world: World) -> None:
        raise KeyError("nothing")

    monkeypatch.setattr(World, where, crash)
    result = live(Recipe(2, 2 * DAY_MS))
    assert result.failure.startswith("an error of the program itself: ")
    assert "KeyError: 'nothing'" in result.failure


def test_who_watches_can_end_a_world() -> None:
    seen: list[int] = []

    def enough(progress: Progress) -> None:
        seen.append(progress.at_ms)
        if progress.at_ms > DAY_MS:
            raise Stopped

    with pytest.raises(Stopped):
        live(Recipe(8, 5 * DAY_MS, "quiet"), enough)
    assert seen[-1] < 2 * DAY_MS


def test_watching_changes_nothing() -> None:
    recipe, seen = Recipe(3, 2 * DAY_MS), list[Progress]()
    assert live(recipe, seen.append).digest == live(recipe).digest
    assert seen[-1].at_ms > recipe.until_ms - DAY_MS


@pytest.mark.parametrize(
    ("until_ms", "at_ms", "days"),
    [
        (10 * DAY_MS, 5 * DAY_MS + 1, "5.01"),
        (10 * DAY_MS, 5 * DAY_MS, "5.01"),
        (10 * DAY_MS, 10 * DAY_MS + 3_600_000, "10"),
        (123_456_789, 123_456_788, "1.428898021"),
    ],
)
def test_the_fewest_days_that_show_a_failure(until_ms: int, at_ms: int, days: str) -> None:
    recipe = made_up(Recipe(7, until_ms), "broken", at_ms).shortest()
    assert f"--seed 7 --days {days} " in recipe.line
    assert round(float(days) * DAY_MS) == recipe.until_ms


def test_the_story_is_that_of_the_evse_in_question() -> None:
    assert {entry.evse for entry in made_up(Recipe(1, 1), "broken", evse=2).story(9)} == {0, 2}
    assert [entry.at_ms for entry in made_up(Recipe(1, 1), "broken").story(4)] == [5, 6, 7, 8]


# ---------------------------------------------------------------------------------------- shrinking


def needs(*names: str) -> Callable[[Recipe, OnProgress], Result]:
    """A world that breaks as long as those are in it, and otherwise in another way."""

    def live_it(recipe: Recipe, _on_progress: OnProgress) -> Result:
        rule = "another" if recipe.without & set(names) else "broken"
        return made_up(recipe, rule, DAY_MS)

    return live_it


@pytest.mark.parametrize("names", [(), ("power_cut",), ("careless", "clock_step"), ("orders", "device", "manners")])
def test_what_the_failure_needs_is_what_is_left(names: tuple[str, ...]) -> None:
    failed = made_up(Recipe(7, 9 * DAY_MS), "broken", 8 * DAY_MS)
    found = shrink(failed, 60, live_it=needs(*names))
    assert set(kinds(found.recipe.profile())) == set(names)
    assert found.rule == "broken"
    assert found.recipe.until_ms <= 8.01 * DAY_MS


def test_shrinking_ends_in_time() -> None:
    clock = count()

    def live_it(recipe: Recipe, on_progress: OnProgress) -> Result:
        on_progress(Progress(0, 0, 0))
        return needs("power_cut")(recipe, on_progress)

    failed = made_up(Recipe(7, 9 * DAY_MS), "broken")
    tries: list[int] = []
    found = shrink(failed, 3, lambda _left, tried: tries.append(tried), live_it=live_it, clock_s=lambda: next(clock))
    assert tries == [0, 1, 2]
    assert "power_cut" in kinds(found.recipe.profile())


# --------------------------------------------------------------------------------------- many worlds


def seeds(*, days: float = 1) -> Iterator[Recipe]:
    return (Recipe(seed, round(days * DAY_MS), "quiet") for seed in count(1))


def one_of_each(recipe: Recipe, pipe: Connection, _within: Path) -> None:
    """1: well, 2: is killed, 3: crashes, 4 and 5: break a rule."""
    pipe.send(1_000)
    if recipe.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if recipe.seed == 3:
        sys.exit(3)
    pipe.send(made_up(recipe, "broken" if recipe.seed > 3 else ""))


@pytest.mark.wire
def test_no_world_of_a_campaign_is_lost() -> None:
    campaign = Campaign(islice(seeds(), 5), 2, 600, live_it=one_of_each)
    campaign.run()
    tally = campaign.tally
    assert tally.worlds == 5
    assert {rule: [each.recipe.seed for each in failures] for rule, failures in tally.by_rule().items()} == {
        "the process of the world died (signal 9)": [2],
        "the process of the world died (exit code 3)": [3],
        "broken": [4, 5],
    }
    assert tally.counts["transactions"] == 9
    assert tally.broken_off == []


def stands_still(_recipe: Recipe, pipe: Connection, _within: Path) -> None:
    while True:
        pipe.send(1_000)
        time.sleep(0.01)


@pytest.mark.wire
def test_a_world_whose_time_stands_still_is_ended() -> None:
    campaign = Campaign(islice(seeds(), 1), 1, 600, stands_s=0.5, live_it=stands_still)
    campaign.run()
    (failure,) = campaign.tally.failures
    assert failure.rule == "the virtual time stood still for 0.5 s"
    assert failure.recipe.seed == 1


@pytest.mark.wire
def test_a_campaign_of_real_worlds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "outcome.json"
    arguments = ["--faults", "quiet", "--days", "1", "--first-seed", "8", "--json", str(file)]
    assert main(["world", "soak", "--minutes", "0.001", "--jobs", "1", *arguments]) == 0
    assert re.search(r"^  worlds +1$", capsys.readouterr().out, re.MULTILINE)
    view = json.loads(file.read_text())
    assert (view["worlds"], view["first_seed"], view["failures"]) == (1, 8, [])
    assert view["counts"] == live(Recipe(8, DAY_MS, "quiet")).counts


def test_a_failure_of_a_campaign_is_told_with_its_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(self: Campaign, on_look: Callable[[Tally], None]) -> None:
        for seed in range(1, 9):
            self.tally.add(made_up(Recipe(seed, DAY_MS), "broken"))
            on_look(self.tally)

    monkeypatch.setattr(Campaign, "run", run)
    assert main(["world", "soak", "--minutes", "1"]) == 1
    said, told_on_the_way = capsys.readouterr()
    assert [told_on_the_way.count(f"  {Recipe(seed, DAY_MS).line}\n") for seed in range(1, 9)] == [1] * 8
    assert "8 x broken" in said
    assert f"    {Recipe(5, DAY_MS).line}" in said.splitlines()
    assert "also seeds 6, 7, 8" in said


@pytest.mark.wire
def test_an_interrupted_campaign_ends_in_order() -> None:
    command = [sys.executable, "-m", "agent.cli", "world", "soak", "--minutes=9", "--days=9e4", "--jobs=2"]
    process = subprocess.Popen(
        [*command, "--faults=quiet"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with process:
        assert process.stderr is not None
        process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        said, complaints = process.communicate()  # returns when all who write there are gone: the worlds, too
    assert process.returncode == 0, complaints.decode()
    assert "Traceback" not in complaints.decode()
    assert re.search(r"^  broken off +seeds 1, 2$", said.decode(), re.MULTILINE)
