"""The command line: what can be asked, and which module answers.

Charter: parses arguments and imports only what the chosen command needs (a station process must not
pay for the demo). Exit codes: 0 done, 1 no, 2 wrong use, 69 the station does not answer; processes have
their own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/evsed/evsed.toml")

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    command: Command = parsed.command
    try:
        return command(parsed)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has seen enough
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evsed", description="The daemon inside an EV charger, and its tools.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _processes(commands)
    _looking(commands)
    _simulated(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, command: Command, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=command)
    return parser


def _config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"configuration (default: {DEFAULT_CONFIG})"
    )
    return parser


def _json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="for machines: JSON on standard output")
    return parser


def _processes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _config(_add(commands, "run", _daemon("run"), "Run all processes under one supervisor."))
    _config(_add(commands, "station", _daemon("station"), "Run the station process alone."))
    gateway = _config(_add(commands, "gateway", _daemon("gateway"), "Run the gateway process alone."))
    gateway.add_argument("--quiet-config", action="store_true", help=argparse.SUPPRESS)
    safe = _add(commands, "make-safe", _later("processes", "safe"), "Open every contactor while no station runs.")
    _config(safe)
    check = _add(commands, "check-config", _later("checks", "check_config"), "List every error of a configuration.")
    _json(check).add_argument("file", type=Path, metavar="FILE")


def _looking(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _json(_config(_add(commands, "status", _later("looking", "status"), "Show what the station does now.")))
    ledger = commands.add_parser("ledger", help="Look into the ledger.", allow_abbrev=False)
    parts = ledger.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = _json(_config(_add(parts, "show", _later("looking", "ledger_show"), "Show ledger rows.")))
    show.add_argument("--last", type=int, default=20, metavar="N", help="the newest N rows (default: 20)")
    show.add_argument("--tx", metavar="ID", help="only this transaction (the first letters of its id will do)")
    _json(_config(_add(parts, "verify", _later("looking", "ledger_verify"), "Verify the whole hash chain.")))
    token = _config(_add(commands, "present", _later("looking", "present"), "Present a token, as a card reader does."))
    token.add_argument("token", metavar="TOKEN", help="hex digits of the card")
    token.add_argument("--evse", type=int, default=1, metavar="N")
    token.add_argument("--type", default="ISO14443", metavar="TYPE", help="OCPP token type (default: ISO14443)")


def _simulated(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add(commands, "demo", _later("demo", "demo"), "A charger on simulated hardware, a CSMS, a car, a story.")
    demo.add_argument("--once", action="store_true", help="play the story, compare the energies, exit 0 if they agree")
    demo.add_argument("--fast", action="store_true", help="compress the story's time")
    demo.add_argument("--csms", metavar="URL", help="use this CSMS instead of the demo's own")
    demo.add_argument("--ocpp", choices=("1.6", "2.0.1"), help="what the demo's CSMS picks (default: 2.0.1)")
    demo.add_argument("--dir", type=Path, metavar="DIR", help="keep the demo's files there")
    sim = _config(_add(commands, "sim", _later("simulated", "sim"), "Act on a simulated bench, as a driver would."))
    _json(sim)
    sim.add_argument("action", metavar="ACTION", help="plug, unplug, ready, pause, swipe, fault, habit, clear, status")
    sim.add_argument("arguments", nargs="*", metavar="ARG", help="e.g. 'fault meter silent', 'swipe 04A1B2C3'")
    sim.add_argument("--evse", type=int, default=1, metavar="N")
    bench = _add(
        commands, "sim-bench", _later("simulated", "bench"), "Simulate the devices that a configuration names."
    )
    _config(bench)


def _daemon(function: str) -> Command:
    """A process that runs for months. structlog imports rich for its tracebacks if it is there; that is
    memory and start-up time a daemon has no use for, so it is told that rich is not there."""

    def run(parsed: argparse.Namespace) -> int:
        sys.modules["rich"] = None  # type: ignore[assignment]
        return _later("processes", function)(parsed)

    return run


def _later(module: str, function: str) -> Command:
    """The command, imported when it is called."""

    def run(parsed: argparse.Namespace) -> int:
        from importlib import import_module

        chosen: Command = getattr(import_module(f"agent.cli.{module}"), function)
        return chosen(parsed)

    return run
