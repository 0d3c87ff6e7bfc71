"""``evsed check-config``: every error of a configuration at once."""

from __future__ import annotations

import argparse
import dataclasses
import json

from agent.config.check import render
from agent.config.load import check_file


def check_config(parsed: argparse.Namespace) -> int:
    problems = check_file(parsed.file)
    if parsed.json:
        print(json.dumps({"file": str(parsed.file), "problems": [dataclasses.asdict(each) for each in problems]}))
    else:
        print(render(str(parsed.file), problems) if problems else f"{parsed.file}: no errors")
    return 1 if problems else 0
