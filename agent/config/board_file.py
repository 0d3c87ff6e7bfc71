"""Board files: read one, check it whole, build a ``hal.boards.Board``.

Charter: the rules of ``hal.boards``'s dataclasses (which carry none, since ``hal`` stands below
``agent``), and what must hold between the values of one board. Units as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.config.fields import (
    Rule,
    Unfit,
    choice_rule,
    choices_rule,
    file_rule,
    flag_rule,
    integer_rule,
    phases_rule,
    show,
    text_rule,
)
from agent.config.problem import ConfigError, Problem
from agent.config.structure import Rules, Structurer, parse_toml, read_toml
from hal.boards import (
    Board,
    BoardKind,
    HardLimits,
    MeterPart,
    Parity,
    PilotDriver,
    PilotPart,
    PowerDriver,
    PowerPart,
    bundled_boards,
)
from hal.ports import BoardFault

_BAUD = integer_rule(1_200, 1_000_000, 9_600)

BOARD_RULES: Rules = {
    Board: {
        "name": text_rule(64, "mcu_ac"),
        "kind": choice_rule(BoardKind, BoardKind.AC),
        "source": text_rule(300, "Maker's manual, edition 3, section 4"),
        "interlocks": choices_rule(BoardFault, (BoardFault.RESIDUAL_CURRENT, BoardFault.CONTACTOR_WELDED), empty=True),
    },
    PilotPart: {
        "driver": choice_rule(PilotDriver, PilotDriver.MCU),
        "baud": _BAUD,
        "lock": flag_rule(True),
        "contactor_feedback": flag_rule(True),
        "ventilation": flag_rule(False),
    },
    MeterPart: {
        "map": text_rule(64, "eastron_sdm630"),
        "baud": _BAUD,
        "parity": choice_rule(Parity, Parity.NONE),
    },
    PowerPart: {
        "driver": choice_rule(PowerDriver, PowerDriver.INFYPOWER),
        "bitrate": integer_rule(10_000, 1_000_000, 125_000),
    },
    HardLimits: {
        "max_current_ma": integer_rule(1_000, 1_000_000, 32_000),
        "min_current_ma": integer_rule(0, 1_000_000, 6_000),
        "phases": phases_rule(3),
        "min_voltage_mv": integer_rule(0, 1_500_000, 150_000),
        "max_voltage_mv": integer_rule(1_000, 1_500_000, 1_000_000),
        "max_power_w": integer_rule(100, 4_000_000, 30_000),
    },
}

_EXPECTED = "the name of a bundled board, or the path of a board file"
_EXAMPLE = '"mcu_ac"'
_FILE_RULE = file_rule("/etc/evsed/board.toml")


def board_from(value: object, base: Path) -> Board:
    """The board that ``board = ...`` of an EVSE names. Raises ``Unfit`` or ``ConfigError``."""
    if not isinstance(value, str) or not value:
        raise Unfit(_EXPECTED, show(value), _EXAMPLE)
    bundled = bundled_boards()
    if value in bundled:
        return _build(parse_toml(bundled[value].read_bytes(), value), value, base)
    try:
        file = _FILE_RULE.convert(value, base)
    except Unfit as error:
        known = ", ".join(sorted(bundled))
        raise Unfit(f"{_EXPECTED} (bundled: {known})", error.found, _EXAMPLE, passing=error.passing) from None
    assert isinstance(file, Path)
    return load_board(file)


def board_files(document: Mapping[str, Any], base: Path) -> Iterator[tuple[str, Path]]:
    """Key and path of every board file that a configuration, found right, names."""
    for index, evse in enumerate(document["evse"]):
        if evse["board"] not in bundled_boards():
            yield f"evse[{index}].board", base / evse["board"]


BOARD_RULE = Rule(_EXPECTED, _EXAMPLE, board_from)


def load_board(file: Path) -> Board:
    """Read and check one board file. Raises ``ConfigError`` with every problem."""
    return _build(read_toml(file), file.stem, file.parent)


def _build(document: dict[str, object], name: str, base: Path) -> Board:
    built = Structurer(base, BOARD_RULES).build({"name": name} | document, Board, name)
    assert isinstance(built, Board)
    problems = _contradictions(built)
    if problems:
        raise ConfigError(name, problems)
    return built


def _contradictions(board: Board) -> list[Problem]:
    """What no single key can be blamed for alone."""
    limits = board.limits
    problems: list[Problem] = []
    if limits.min_current_ma > limits.max_current_ma:
        problems.append(
            Problem(
                "limits.min_current_ma", f"at most max_current_ma {limits.max_current_ma}", str(limits.min_current_ma)
            )
        )
    if board.kind is BoardKind.AC:
        if board.pilot.lock and board.pilot.driver.autonomous:
            wanted = f"false with the driver {board.pilot.driver}, whose board locks by itself if it can"
            problems.append(Problem("pilot.lock", wanted, "true", "false"))
        if board.power is not None:
            problems.append(Problem("power", "no table [power] on an AC board", "one"))
        if limits.min_current_ma < 6_000:
            # IEC 61851-1 Annex A: the pilot cannot offer less than 6 A.
            problems.append(
                Problem("limits.min_current_ma", "at least 6000 on AC", str(limits.min_current_ma), "6_000")
            )
        if limits.max_current_ma > 80_000:
            problems.append(
                Problem("limits.max_current_ma", "at most 80000 on AC", str(limits.max_current_ma), "32_000")
            )
        return problems
    if board.pilot.driver.autonomous:
        problems.append(
            Problem("pilot.driver", "a subordinate pilot on a DC board (5 % duty)", board.pilot.driver, '"mcu"')
        )
    if board.power is None:
        problems.append(Problem("power", "a table on a DC board", "nothing", "[power]"))
    if limits.min_voltage_mv is None or limits.max_voltage_mv is None:
        problems.append(Problem("limits", "min_voltage_mv and max_voltage_mv on a DC board", "nothing"))
    elif limits.min_voltage_mv > limits.max_voltage_mv:
        problems.append(
            Problem(
                "limits.min_voltage_mv", f"at most max_voltage_mv {limits.max_voltage_mv}", str(limits.min_voltage_mv)
            )
        )
    return problems
