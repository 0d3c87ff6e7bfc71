"""Board files: the bundled ones, an integrator's own, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.board_file import board_from, load_board
from agent.config.load import check_file
from agent.config.problem import ConfigError, Problem
from hal.boards import Board, BoardKind, bundled_boards
from hal.meters.map_file import load_map
from hal.ports import BoardFault

BASE = Path("/nowhere")


@pytest.mark.parametrize("name", sorted(bundled_boards()))
def test_each_bundled_board_is_good_and_complete(name: str) -> None:
    board = board_from(name, BASE)
    assert board.name == name
    assert load_map(board.meter.map).model
    assert BoardFault.RESIDUAL_CURRENT in board.interlocks
    assert (board.power is not None) == (board.kind is BoardKind.DC)


def test_the_three_boards_ship() -> None:
    assert set(bundled_boards()) == {"openevse", "mcu_ac", "mcu_dc"}


@pytest.fixture
def dc_text() -> str:
    return bundled_boards()["mcu_dc"].read_text("utf-8")


def of(tmp_path: Path, text: str) -> Board:
    (tmp_path / "mine.toml").write_text(text)
    return load_board(tmp_path / "mine.toml")


def test_a_board_of_ones_own_is_named_by_a_path_from_the_configuration(tmp_path: Path, dc_text: str) -> None:
    (tmp_path / "mine.toml").write_text(dc_text)
    assert board_from("mine.toml", tmp_path).name == "mine"
    assert of(tmp_path, 'name = "x"\n' + dc_text).name == "x"


WRONG = {
    "interlocks": ('"diode"', '"dioxide"'),
    "pilot.baud": ("baud = 115_200", 'baud = "fast"'),
    "pilot.lok": ("lock = true", "lok = true"),
    "limits.min_current_ma": ("min_current_ma = 1_000", "min_current_ma = 100_001"),
    "limits.min_voltage_mv": ("min_voltage_mv = 150_000", "min_voltage_mv = 1_000_001"),
    "limits": ("max_voltage_mv = 1_000_000", ""),
    "pilot.driver": ('driver = "mcu"', 'driver = "openevse"'),
    "power": ('[power]\ndriver = "infypower"\nbitrate = 125_000', ""),
    "source": ("source =", "# source ="),
}


@pytest.mark.parametrize(("path", "change"), WRONG.items(), ids=WRONG)
def test_a_wrong_board_is_told_by_key(tmp_path: Path, dc_text: str, path: str, change: tuple[str, str]) -> None:
    assert dc_text.count(change[0]) >= 1
    with pytest.raises(ConfigError) as error:
        of(tmp_path, dc_text.replace(*change))
    assert [problem.path for problem in error.value.problems] == [path]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("limits.min_current_ma", ("min_current_ma = 6_000", "min_current_ma = 5_999")),
        ("limits.max_current_ma", ("max_current_ma = 32_000", "max_current_ma = 80_001")),
        ("power", ("[limits]", '[power]\ndriver = "infypower"\n[limits]')),
    ],
)
def test_a_wrong_ac_board(tmp_path: Path, path: str, change: tuple[str, str]) -> None:
    text = bundled_boards()["mcu_ac"].read_text("utf-8")
    with pytest.raises(ConfigError) as error:
        of(tmp_path, text.replace(*change))
    assert [problem.path for problem in error.value.problems] == [path]


def test_an_autonomous_board_has_no_lock_of_ours(tmp_path: Path) -> None:
    text = bundled_boards()["openevse"].read_text("utf-8")
    with pytest.raises(ConfigError, match=r"pilot\.lock.*locks by itself"):
        of(tmp_path, text.replace("lock = false", "lock = true"))


def test_a_board_file_that_is_away_is_waited_for_and_no_other(tmp_path: Path, dc_text: str) -> None:
    """The data partition with it may be mounted in a moment. A directory in its place is a person's."""
    (tmp_path / "evsed.toml").write_text('[[evse]]\nboard = "data/mine.toml"\n')

    def found() -> Problem:
        return next(each for each in check_file(tmp_path / "evsed.toml") if each.path.startswith("evse[0].board"))

    assert found().passing and "data/mine.toml' (no file" in found().found
    (tmp_path / "data").symlink_to(tmp_path / "not mounted yet")
    assert found().passing
    (tmp_path / "not mounted yet").mkdir()
    (tmp_path / "data" / "mine.toml").mkdir()
    assert not found().passing
    (tmp_path / "data" / "mine.toml").rmdir()
    (tmp_path / "data" / "mine.toml").write_text(dc_text.replace("bitrate = 125_000", "bitrate = 1"))
    assert not found().passing


def test_a_mistake_in_a_board_is_told_under_the_evse_that_names_it(tmp_path: Path, dc_text: str) -> None:
    (tmp_path / "mine.toml").write_text(dc_text.replace("bitrate = 125_000", "bitrate = 1"))
    (tmp_path / "evsed.toml").write_text('[[evse]]\nboard = "mine.toml"\n')
    paths = [problem.path for problem in check_file(tmp_path / "evsed.toml")]
    assert "evse[0].board: power.bitrate" in paths
