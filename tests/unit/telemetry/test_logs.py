"""Logs of a process that are kept in memory beside standard error."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from agent.telemetry.logs import configure_logs, log_file
from agent.telemetry.ring_file import RingReader, entries


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize("style", ["json", "console"])
def test_lines_are_kept_as_json_whatever_people_see(tmp_path: Path, style: str) -> None:
    out = io.StringIO()
    configure_logs("station", "info", style, out, tmp_path / "log")
    log = structlog.get_logger("part")
    log.debug("not", of="interest")
    log.info("meter lost", evse=1)
    try:
        Path("/no/such/file").read_text()
    except OSError:
        log.exception("broken")
    first, second = entries(RingReader(log_file(tmp_path / "log", "station")).last(9))
    assert (first["event"], first["evse"], first["level"], first["process"]) == ("meter lost", 1, "info", "station")
    assert "FileNotFoundError" in second["exception"] and first["timestamp"] <= second["timestamp"]
    assert out.getvalue().count("meter lost") >= 1
    assert first["event"] != "not"


def test_where_lines_cannot_be_kept_it_is_said_once_and_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    out = io.StringIO()
    configure_logs("station", "info", "json", out, tmp_path / "log")
    for number in range(3):
        structlog.get_logger().info("line", number=number)
    said = [each["event"] for each in entries(out.getvalue().splitlines())]
    assert sorted(said) == ["line", "line", "line", "log lines are not kept in memory"]


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    configure_logs("cli", "info", "json", io.StringIO())
    structlog.get_logger().info("x")
    assert list(tmp_path.iterdir()) == []
