"""``python -m tests.bench [NAME ...] [--quick] [--long] [--json]``: run benches, one after another.

Exit code 0 when all could be measured, whether or not their aims were met; 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable

from tests.bench import faults, ledger, memory, metrics, offline, pilot, remote_start, update
from tests.bench.result import Figure, Tell
from tests.bench.scene import BenchFailed

_FLOOD_PER_SECOND = 200
_LONGEST_S = 3_600

Bench = Callable[[Tell, argparse.Namespace], Awaitable[list[Figure]]]


async def _pilot(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    return await pilot.measure(tell, 100 if args.quick else 500, _FLOOD_PER_SECOND)


async def _memory(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    starts = await memory.measure_boot(tell, 3 if args.quick else 10)
    return starts + await memory.measure_idle(tell, 300 if args.long else 20 if args.quick else 60)


async def _remote_start(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    rounds = 10 if args.quick else 30
    old = await remote_start.measure(tell, "1.6", rounds)
    return old + await remote_start.measure(tell, "2.0.1", rounds)


async def _offline(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    return await offline.measure(tell, "1.6", 1_000 if args.quick else 10_000)


async def _ledger(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    return await ledger.measure(tell, 200 if args.quick else 2_000, 100_000 if args.quick else 1_000_000)


async def _update(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    return await update.measure(tell, 64 if args.quick else 512, 1 if args.quick else 3)


async def _faults(tell: Tell, _: argparse.Namespace) -> list[Figure]:
    return await faults.measure(tell, "1.6") + await faults.measure(tell, "2.0.1")


async def _metrics(tell: Tell, args: argparse.Namespace) -> list[Figure]:
    return await metrics.measure(tell, 10 if args.quick else 30)


BENCHES: dict[str, Bench] = {
    "pilot": _pilot,
    "memory": _memory,
    "metrics": _metrics,
    "faults": _faults,
    "remote-start": _remote_start,
    "offline": _offline,
    "ledger": _ledger,
    "update": _update,
}


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load average {load}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure evsed on simulated hardware.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--long", action="store_true", help="memory: look after 300 s instead of 60 s")
    parser.add_argument("--json", action="store_true", help="results as JSON on standard output, progress elsewhere")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in BENCHES]:
        parser.error(f"no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
    names, failed, found = args.names or list(BENCHES), False, []
    progress = sys.stderr if args.json else sys.stdout

    def tell(text: str) -> None:
        print(f"  . {text}", file=progress, flush=True)

    for name in names:
        print(f"== {name}   ({machine()})", file=progress, flush=True)
        began_s, before = time.monotonic(), machine()
        try:
            figures = asyncio.run(asyncio.wait_for(BENCHES[name](tell, args), _LONGEST_S))
        except (BenchFailed, TimeoutError) as error:
            failed = True
            print(f"{name}: could not be measured: {error or 'it took too long'}", file=sys.stderr)
            continue
        took_s = time.monotonic() - began_s
        found.append({"bench": name, "machine": before, "took_s": round(took_s, 1)})
        found[-1]["figures"] = [figure.plain() for figure in figures]
        if not args.json:
            print("\n".join(figure.line() for figure in figures), flush=True)
            print(f"  took {took_s:.0f} s; at the end: {machine()}", flush=True)
    if args.json:
        print(json.dumps(found, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
