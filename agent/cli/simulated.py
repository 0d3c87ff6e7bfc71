"""``evsed sim`` and ``evsed sim-bench``: the simulated bench, from outside and from inside."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from agent.cli.processes import EXIT_CONFIG, load_config
from agent.config.model import Config

BENCH_SOCKET = "bench.sock"
EXIT_AWAY = 69


def bench(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "bench")
    return EXIT_CONFIG if config is None else asyncio.run(_run_bench(config))


async def _run_bench(config: Config) -> int:
    from agent.sim.bench import Bench
    from agent.sim.control import serve

    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    devices = Bench(config)
    devices.start()
    server = await serve(devices, config.station.run_dir / BENCH_SOCKET)
    try:
        await stopping.wait()
    finally:
        server.close()
        devices.close()
    return 0


def sim(parsed: argparse.Namespace) -> int:
    config = load_config(parsed, "sim")
    if config is None:
        return EXIT_CONFIG
    if parsed.action == "swipe":
        return asyncio.run(_swipe(parsed, config))
    return asyncio.run(_order(parsed, config.station.run_dir / BENCH_SOCKET))


async def _order(parsed: argparse.Namespace, path: Path) -> int:
    from agent.sim.bench import BadOrder
    from agent.sim.control import order

    try:
        view = await order(path, parsed.evse, parsed.action, *parsed.arguments)
    except OSError as error:
        print(f"evsed sim: no simulated bench runs here ({path}: {error.strerror})", file=sys.stderr)
        return EXIT_AWAY
    except BadOrder as error:
        print(f"evsed sim: {error}", file=sys.stderr)
        return 2
    print(json.dumps(view) if parsed.json else "  ".join(f"{name} {value}" for name, value in view.items()))
    return 0


async def _swipe(parsed: argparse.Namespace, config: Config) -> int:
    from agent.cli.looking import present_token

    token = parsed.arguments[0] if parsed.arguments else "04A1B2C3D4E5F6"
    return await present_token(config, token, "ISO14443", parsed.evse)
