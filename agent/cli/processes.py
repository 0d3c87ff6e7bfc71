"""``evsed run``, ``station``, ``gateway``, ``installer``, ``make-safe``: the processes themselves."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tomllib
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from agent.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from agent.config.model import Config

EXIT_CONFIG = 78  # sysexits: nothing to retry until a person has changed the file
EXIT_IO = 74  # sysexits: a file is not there, or could not be read, just now; whoever supervises tries again
_RETRY_S = 10.0  # systemd starts both again after a second, and makes the hardware safe each time
_STARTED_AGAIN = ("station", "gateway")
KEEPING_LOGS = ("station", "gateway", "installer")
"""Processes that keep their newest log lines; commands do not."""


def run(parsed: argparse.Namespace) -> int:
    from agent.config.pilot_lines import data_dir_of
    from agent.supervisor import run_supervisor

    configure_logs("supervisor", "info", "auto")
    try:
        document = tomllib.loads(parsed.config.read_text())
    except (OSError, ValueError):
        document = {}  # the station says what is wrong with the file
    needed = {"gateway": {"csms", "web"}, "installer": {"update"}}
    names = ["station", *(process for process, tables in needed.items() if tables & document.keys())]
    return asyncio.run(run_supervisor(parsed.config, names, data_dir_of(parsed.config)))


def station(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "station")
    if config is None:
        return EXIT_CONFIG
    from agent.security.keys import KeyUnusable
    from agent.station.alone import NotAlone, alone
    from agent.station.build import make_build
    from agent.station.process import EXIT_NOT_ALONE, run_station

    try:
        with alone(config.station.data_dir, config.station.run_dir):
            return asyncio.run(run_station(make_build(config, parsed.config.absolute())))
    except NotAlone as error:
        print(f"evsed station: {error}", file=sys.stderr)
        return EXIT_NOT_ALONE
    except KeyUnusable as error:  # never replaced by us: a new key would make all later records a stranger's
        print(f"evsed station: {error}", file=sys.stderr)
        return EXIT_IO if error.passing else EXIT_CONFIG


def gateway(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "gateway")
    if config is None:
        return EXIT_CONFIG
    if config.csms is None and config.web is None:
        print("evsed gateway: the configuration has neither [csms] nor [web], nothing to do", file=sys.stderr)
        return EXIT_CONFIG
    from agent.gateway import run_gateway

    return asyncio.run(run_gateway(config))


def installer(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "installer")
    if config is None:
        return EXIT_CONFIG
    if config.update is None:
        print("evsed installer: the configuration has no [update] table, nothing to do", file=sys.stderr)
        return EXIT_CONFIG
    from agent.installer import run_installer

    return run_installer(config)


def safe(parsed: argparse.Namespace) -> int:
    """Judges nothing of the configuration: a mistake in it must not keep a contactor closed."""
    from agent.safe import make_safe

    configure_logs("make-safe", "info", "auto")
    by_systemd = os.environ.get("STATE_DIRECTORY")  # StateDirectory= of the station's unit
    return 0 if make_safe(parsed.config, None if by_systemd is None else Path(by_systemd)) else 1


def load_config(parsed: argparse.Namespace, process: str) -> Config | None:
    """The configuration with logs set up by it, or None after telling all that is wrong. What may be over by itself
    ends the process: nobody starts it again after ``EXIT_CONFIG``."""
    from agent.config.check import render
    from agent.config.load import load
    from agent.config.problem import ConfigError

    try:
        config = load(parsed.config)
    except ConfigError as error:
        if not getattr(parsed, "quiet_config", False):
            print(render(error.file, error.problems), file=sys.stderr)
        if error.passing:
            if process in _STARTED_AGAIN:
                sleep(_RETRY_S)
            raise SystemExit(EXIT_IO) from None
        return None
    folder = config.station.log_folder(process) if process in KEEPING_LOGS else None
    configure_logs(process, config.log.level.value, config.log.format.value, folder=folder)
    return config
