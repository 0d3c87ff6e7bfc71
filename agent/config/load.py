"""Read a configuration file into ``Config``, or into the complete list of its mistakes.

Charter: the one way from a file to a ``Config`` that can be trusted. Order: TOML syntax (line and
column), every single value (all at once), then the relations between them (all at once).
"""

from __future__ import annotations

from pathlib import Path

from agent.config.board_file import board_files
from agent.config.cross import contradictions
from agent.config.model import TIMING_RULES, Config
from agent.config.problem import ConfigError, Problem
from agent.config.structure import Structurer, read_toml
from agent.core.settings import Timing


def load(file: Path) -> Config:
    """The configuration of ``file``. Raises ``ConfigError`` with every problem found."""
    document = read_toml(file)
    structurer = Structurer(file.parent, {Timing: TIMING_RULES})
    config = structurer.build(document, Config, str(file))
    assert isinstance(config, Config)
    problems = contradictions(config, board_files(document, file.parent))
    if problems:
        raise ConfigError(str(file), problems)
    return config


def check_file(file: Path) -> list[Problem]:
    """Every mistake in ``file``; an empty list means that ``load`` will work."""
    try:
        load(file)
    except ConfigError as error:
        return list(error.problems)
    return []
