"""The command line: what can be asked, and which module answers.

Charter: parses arguments and imports only what the chosen command needs (a station process must not
pay for the demo). Exit codes: 0 done, 1 no, 2 wrong use, 69 the station does not answer; processes have
their own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/evsed/evsed.toml")

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    command: Command = parsed.command
    try:
        return command(parsed)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evsed", description="The daemon inside an EV charger, and its tools.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _processes(commands)
    _looking(commands)
    _ledger(commands)
    _money(commands)
    _updates(commands)
    _simulated(commands)
    _world(commands)
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
    installer = _config(_add(commands, "installer", _daemon("installer"), "Run the installer process alone."))
    for each in (gateway, installer):
        each.add_argument("--quiet-config", action="store_true", help=argparse.SUPPRESS)
    safe = _add(commands, "make-safe", _daemon("safe"), "Open every contactor while no station runs.")
    _config(safe)
    _config(_add(commands, "web-secret", _later("secret", "web_secret"), "Set the technician's secret of the page."))
    check = _add(commands, "check-config", _later("checks", "check_config"), "List every error of a configuration.")
    _json(check).add_argument("file", type=Path, metavar="FILE")


def _looking(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    status = _json(_config(_add(commands, "status", _later("looking", "status"), "Show what the station does now.")))
    status.add_argument("--watch", action="store_true", help="draw it anew each second, until Ctrl-C")
    health = _json(_config(_add(commands, "health", _later("health", "health"), "Say what is wrong, and what to do.")))
    health.add_argument("--clear", type=int, metavar="EVSE", help="clear the latched faults of this EVSE")
    usage = _json(_config(_add(commands, "usage", _later("usage", "usage"), "Show what the station was used for.")))
    usage.add_argument("--by", choices=("hour", "day", "month"), default="day", help="(default: day)")
    for option, dest, what in (("--from", "first", "first"), ("--to", "last", "last")):
        usage.add_argument(option, dest=dest, type=_day, metavar="DATE", help=f"{what} local day, YYYY-MM-DD")
    usage.add_argument("--evse", type=int, metavar="N", help="this one alone (default: all together)")
    usage.add_argument("--csv", action="store_true", help="comma separated values with a header")
    trace = _json(_config(_add(commands, "trace", _later("trace", "trace"), "Show the OCPP messages, no secrets.")))
    trace.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    trace.add_argument("--action", metavar="NAME", help="this action alone, e.g. StatusNotification")
    trace.add_argument("--last", type=_count, default=50, metavar="N", help="the newest N (default: 50)")
    bundle = _add(commands, "diagnostics", _later("diagnostics", "diagnostics"), "Write one archive of all there is.")
    _json(_config(bundle)).add_argument("--out", type=Path, metavar="FILE", help="(default: a name in this folder)")
    operative = _config(_add(commands, "operative", _later("looking", "operative"), "Undo the CSMS's Inoperative."))
    operative.add_argument("--evse", type=int, metavar="N", help="this one alone (default: the station)")
    token = _config(_add(commands, "present", _later("looking", "present"), "Present a token, as a card reader does."))
    token.add_argument("token", metavar="TOKEN", help="hex digits of the card")
    token.add_argument("--evse", type=int, default=1, metavar="N")
    token.add_argument("--type", default="ISO14443", metavar="TYPE", help="OCPP token type (default: ISO14443)")


def _ledger(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ledger = commands.add_parser("ledger", help="Look into the ledger.", allow_abbrev=False)
    parts = ledger.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = _json(_config(_add(parts, "show", _later("ledger", "show"), "Show ledger rows.")))
    show.add_argument("--last", type=int, default=20, metavar="N", help="the newest N rows (default: 20)")
    show.add_argument("--tx", metavar="ID", help="only this transaction (the first letters of its id will do)")
    verify = _json(_config(_add(parts, "verify", _later("ledger", "verify"), "Check everything in the ledger.")))
    verify.add_argument("--file", type=Path, metavar="FILE", help="this ledger instead of the configuration's")
    verify.add_argument(
        "--witness", action="append", default=[], metavar="SEQ:HASH", help="a row that a receipt or CSMS vouches for"
    )
    export = _config(_add(parts, "export", _later("ledger", "export"), "Write rows as JSON lines."))
    export.add_argument("--from", dest="from_seq", type=int, default=1, metavar="SEQ", help="first row (default: 1)")
    export.add_argument("--to", dest="to_seq", type=int, metavar="SEQ", help="last row (default: the newest)")
    _json(_config(_add(parts, "stats", _later("ledger", "stats"), "Show size, age, commits and flash wear.")))
    receipt = _config(_add(parts, "receipt", _later("billing", "receipt"), "Write the receipt of a transaction."))
    receipt.add_argument("tx", metavar="TX", help="the transaction (the first letters of its id will do)")
    receipt.add_argument("--format", choices=("text", "json", "html", "xml", "ocmf"), default="text")
    receipt.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of standard output")
    report = _json(_config(_add(parts, "report", _later("billing", "report"), "Sum up usage and cost.")))
    report.add_argument("--by", choices=("token", "day", "month", "evse"), default="month")
    for option, dest, what in (("--from", "first", "first"), ("--to", "last", "last")):
        report.add_argument(option, dest=dest, type=_day, metavar="DATE", help=f"{what} local day, YYYY-MM-DD")
    report.add_argument("--csv", action="store_true", help="comma separated values with a header")
    key = _config(_add(parts, "key", _later("billing", "key"), "Show the public key that signs the records."))
    key.add_argument("--format", choices=("text", "hex", "pem", "ocpp", "json"), default="text")
    acknowledge = _add(parts, "acknowledge", _later("looking", "acknowledge"), "Allow charging after ledger damage.")
    _config(acknowledge)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day like 2026-03-29") from None


def _money(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    records = commands.add_parser("ocmf", help="Judge signed meter records.", allow_abbrev=False)
    parts = records.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verify = _json(_add(parts, "verify", _later("records", "verify"), "Judge the OCMF records of a file."))
    verify.add_argument("file", type=Path, metavar="FILE")
    verify.add_argument("--key", metavar="KEY", help="public key: a file, or the key itself")
    receipts = commands.add_parser("receipt", help="Judge receipts.", allow_abbrev=False)
    parts = receipts.add_subparsers(title="commands", metavar="COMMAND", required=True)
    judge = _json(_add(parts, "verify", _later("billing", "verify_receipt"), "Judge a receipt (JSON, HTML)."))
    judge.add_argument("file", type=Path, metavar="FILE")
    judge.add_argument("--key", metavar="KEY", help="the public key printed on the charger: a file, or the key itself")
    tariff = commands.add_parser("tariff", help="Check and try tariffs.", allow_abbrev=False)
    parts = tariff.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = _json(_add(parts, "check", _later("tariffs", "check"), "List every mistake and oddity of a tariff."))
    quote = _json(_add(parts, "quote", _later("tariffs", "quote"), "Say what a session would cost, line by line."))
    for each in (check, quote):
        each.add_argument("file", type=Path, metavar="FILE")
        each.add_argument("--zone", metavar="ZONE", help="time zone of the site")
    quote.add_argument("--profile", required=True, metavar="SPEC", help="e.g. start=2026-03-29T00:30,energy_wh=20000")
    text = (
        "Limit the running transaction of an EVSE, in place of what was limited here before. Limits of the CSMS and"
        " the site stay: of each kind the smaller counts. A later one of the CSMS takes the place of these."
    )
    limit = _config(_add(commands, "limit", _later("looking", "limit"), text))
    limit.add_argument("--evse", type=int, default=1, metavar="N")
    limit.add_argument("--max-cost", metavar="AMOUNT", help="with tax, in the tariff's currency, e.g. 12.50")
    limit.add_argument("--max-energy-wh", type=int, metavar="WH")
    limit.add_argument("--max-time-s", type=int, metavar="S")
    words = "remove all charging profiles and default tariffs of the CSMS instead"
    limit.add_argument("--clear-csms", action="store_true", help=words)


def _updates(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    update = _config(_add(commands, "update", _later("updates", "update"), "Install a bundle from this machine."))
    update.add_argument("file", type=Path, metavar="FILE")
    slots = _json(_config(_add(commands, "slots", _later("updates", "slots"), "Show the two images; pick one.")))
    parts = slots.add_subparsers(title="commands", metavar="[COMMAND]")
    for name, function, text in (
        ("mark-good", "mark_good", "Keep the running image."),
        ("rollback", "rollback", "Boot the other image from now on, if it is good."),
        ("guard", "guard", "Go back where nobody marked the running image good."),
    ):
        part = _add(parts, name, _later("updates", function), text)
        part.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="configuration")
    bundle = commands.add_parser("bundle", help="Make, sign, look at and judge update bundles.", allow_abbrev=False)
    parts = bundle.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = _add(parts, "create", _later("bundles", "create"), "Make a bundle from a description.")
    create.add_argument("description", type=Path, metavar="DESCRIPTION", help="TOML file")
    create.add_argument("out", type=Path, metavar="OUT")
    sign = _add(parts, "sign", _later("bundles", "sign"), "Add a signature to a bundle.")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE")
    sign.add_argument("--key", type=Path, metavar="FILE", help="private key, PEM")
    sign.add_argument("--command", dest="run", metavar="CMD", help="sign by a program: {in} and {out} are files")
    sign.add_argument("--chain", type=Path, required=True, metavar="FILE", help="certificates, PEM, the signer's first")
    sign.add_argument("--algorithm", metavar="NAME", help="default: by the kind of key")
    inspect = _json(_add(parts, "inspect", _later("bundles", "inspect"), "Show what a bundle says of itself."))
    inspect.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify = _json(_add(parts, "verify", _later("bundles", "verify"), "Judge a bundle and all of its content."))
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.add_argument("--roots", type=Path, required=True, metavar="FILE", help="trusted certificates, PEM")
    verify.add_argument("--revoked", type=Path, metavar="FILE", help="fingerprints of revoked keys")
    verify.add_argument("--threshold", type=int, default=1, metavar="N", help="signers that are needed (default: 1)")
    verify.add_argument("--compatible", metavar="NAME", help="the product it must be made for")
    verify.add_argument("--hardware", type=int, metavar="N", help="the hardware revision it must fit")
    verify.add_argument("--epoch", type=int, metavar="N", help="the least security epoch")
    verify.add_argument("--pkcs1", action="store_true", help="accept RSA signatures with PKCS#1 v1.5 padding")


def _simulated(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add(commands, "demo", _later("demo", "demo"), "A charger on simulated hardware, a CSMS, a car, a story.")
    demo.add_argument("story", nargs="?", choices=("charge", "update"), default="charge", help="(default: charge)")
    demo.add_argument("--once", action="store_true", help="play the story, compare the energies, exit 0 if they agree")
    demo.add_argument("--fast", action="store_true", help="compress the story's time")
    demo.add_argument("--csms", metavar="URL", help="use this CSMS instead of the demo's own")
    demo.add_argument("--ocpp", choices=("1.6", "2.0.1"), help="what the demo's CSMS picks (default: 2.0.1)")
    demo.add_argument("--dir", type=Path, metavar="DIR", help="keep the demo's files there")
    sim = _config(_add(commands, "sim", _later("simulated", "sim"), "Act on a simulated bench, as a driver would."))
    _json(sim)
    actions = "plug, unplug, ready, pause, swipe, fault, habit, break, mend, clear, status"
    sim.add_argument("action", metavar="ACTION", help=actions)
    sim.add_argument("arguments", nargs="*", metavar="ARG", help="e.g. 'fault meter silent', 'swipe 04A1B2C3'")
    sim.add_argument("--evse", type=int, default=1, metavar="N")
    bench = _add(
        commands, "sim-bench", _daemon("bench", "simulated"), "Simulate the devices that a configuration names."
    )
    _config(bench)


def _world(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    world = commands.add_parser("world", help="Live in a simulated world where all goes wrong.", allow_abbrev=False)
    parts = world.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = _json(_add(parts, "run", _later("world", "run"), "Live one world; shrink its story if a rule breaks."))
    run.add_argument("--seed", type=int, default=1, metavar="N", help="which world (default: 1)")
    length = run.add_mutually_exclusive_group(required=True)
    length.add_argument("--years", type=float, metavar="Y", help="how long, in virtual time")
    length.add_argument("--days", type=float, metavar="D")
    run.add_argument("--without", default="", metavar="A,B", help="leave out these kinds of trouble")
    run.add_argument(
        "--shrink-s", type=float, default=60, metavar="S", help="time for shrinking (default: 60; 0: none)"
    )
    soak = _add(parts, "soak", _later("world", "soak"), "Live many worlds on all cores, for a given time.")
    soak.add_argument("--minutes", type=float, required=True, metavar="M", help="begin no world after so long")
    soak.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    soak.add_argument("--days", type=float, default=60, metavar="D", help="of each world (default: 60)")
    soak.add_argument("--first-seed", type=int, default=1, metavar="S", help="(default: 1)")
    soak.add_argument("--json", type=Path, metavar="FILE", help="write the outcome there, too")
    for each in (run, soak):
        each.add_argument("--faults", default="harsh", metavar="PROFILE", help="what goes wrong (default: harsh)")
        each.add_argument("--pace", default="minutes", metavar="PACE", help="seconds or minutes (default: minutes)")


def _daemon(function: str, module: str = "processes") -> Command:
    """A process that runs for months, or must do its work whatever becomes of its log. A pipe that breaks here is no
    reader who has seen enough, but an error of our own. structlog imports rich for its tracebacks if it is there; that
    is memory and start-up time a daemon has no use for, so it is told that rich is not there."""

    def run(parsed: argparse.Namespace) -> int:
        from agent.telemetry.aside import stderr_aside

        stderr_aside()
        sys.modules["rich"] = None  # type: ignore[assignment]
        return _imported(module, function)(parsed)

    return run


def _later(module: str, function: str) -> Command:
    """The command, imported when it is called."""

    def run(parsed: argparse.Namespace) -> int:
        try:
            return _imported(module, function)(parsed)
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has seen enough
            return 0

    return run


def _imported(module: str, function: str) -> Command:
    from importlib import import_module

    chosen: Command = getattr(import_module(f"agent.cli.{module}"), function)
    return chosen
