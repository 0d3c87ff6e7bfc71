"""Real processes whose standard error cannot be written: they do their work and end as ever."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from agent.cli import main as command_line

pytestmark = pytest.mark.wire

_F_SETPIPE_SZ = 1031

TALKS = """
import sys
from agent.cli import main as command_line
def work(parsed):
    import structlog
    from agent.telemetry.logs import configure_logs
    configure_logs("station", "info", "auto")
    for number in range(5_000):
        structlog.get_logger().info("a line", number=number)
    print("worked", flush=True)
    if parsed.config.name == "crash":
        raise RuntimeError("of our own")
    return 5
command_line._imported = lambda *_: work
sys.exit(command_line.main(["station", "--config", sys.argv[1]]))
"""
"""A process that logs more than there is room for, far more than a pipe holds."""


@contextmanager
def _gone() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def _still() -> Iterator[int]:
    reader, writer = os.pipe()
    room = fcntl.fcntl(writer, _F_SETPIPE_SZ, 4096)
    os.write(writer, b"." * room)
    yield writer
    os.close(reader)
    os.close(writer)


@contextmanager
def _full() -> Iterator[int]:
    place = os.open("/dev/full", os.O_WRONLY)
    yield place
    os.close(place)


READERS = pytest.mark.parametrize("reader", [_gone, _still, _full])
Reader = Callable[[], AbstractContextManager[int]]


def _run(reader: Reader, *words: str) -> tuple[int, str]:
    with reader() as place:
        done = subprocess.run([sys.executable, *words], stderr=place, stdout=subprocess.PIPE, timeout=60, text=True)
    return done.returncode, done.stdout


@READERS
@pytest.mark.parametrize(("ends", "code"), [("well", 5), ("crash", 1)])
def test_a_process_works_and_ends_whatever_its_log_does(reader: Reader, ends: str, code: int) -> None:
    assert _run(reader, "-c", TALKS, ends) == (code, "worked\n")


@READERS
@pytest.mark.parametrize(("command", "code"), [("station", 78), ("make-safe", 1)])
def test_the_exit_code_is_the_one_that_the_supervisor_acts_on(
    tmp_path: Path, reader: Reader, command: str, code: int
) -> None:
    config = tmp_path / "evsed.toml"
    config.write_text("nothing = 1\n")
    assert _run(reader, "-m", "agent.cli", command, "--config", str(config))[0] == code


def test_a_process_without_standard_error_opens_no_file_in_its_place(tmp_path: Path) -> None:
    look = TALKS.replace("    return 5\n", f"    return open({str(tmp_path / 'x')!r}, 'w').fileno()\n")
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" well 2>&-', sys.executable, look], timeout=60, check=False
    )
    assert done.returncode > 2


def test_a_broken_pipe_is_a_reader_who_has_seen_enough_for_commands_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(command_line, "_imported", lambda *_: broken)
    monkeypatch.setattr("agent.telemetry.aside.stderr_aside", lambda: None)
    monkeypatch.setitem(sys.modules, "rich", sys.modules.get("rich"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for process in ("run", "station", "gateway", "installer", "make-safe", "sim-bench"):
        with pytest.raises(BrokenPipeError):
            command_line.main([process])
    assert command_line.main(["status"]) == 0
