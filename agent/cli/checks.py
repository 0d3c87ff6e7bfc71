"""``evsed check-config``: every error of a configuration at once, and of the files that updates are judged by.

With such a file broken charging goes on, so the processes start all the same; but no update is taken any more.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time

from agent.config.check import render
from agent.config.load import load
from agent.config.problem import ConfigError, Problem
from agent.config.tariff_files import tariff_warnings
from agent.config.update import UpdateConfig


def check_config(parsed: argparse.Namespace) -> int:
    warnings: list[str] = []
    try:
        config = load(parsed.file)
        problems = [] if config.update is None else _trust_problems(config.update)
        warnings += tariff_warnings(config.price, int(time.time() * 1000), has_time_zone=config.station.has_time_zone)
    except ConfigError as error:
        problems = list(error.problems)
    if parsed.json:
        plain = [dataclasses.asdict(each) for each in problems]
        print(json.dumps({"file": str(parsed.file), "problems": plain, "warnings": warnings}))
    else:
        print(render(str(parsed.file), problems) if problems else f"{parsed.file}: no errors")
        for each in warnings:
            print(f"warning: {each}")
    return 1 if problems else 0


def _trust_problems(update: UpdateConfig) -> list[Problem]:
    from agent.firmware.policy import DevicePolicy  # brings the cryptography

    faults = DevicePolicy(update, lambda: 0).faults()
    return [Problem(f"update.{name}", "what updates can be judged by", fault.why) for name, fault in faults]
