"""Orders to a running bench: one JSON line each way on a local socket.

Charter: ``{"evse": 1, "action": "plug", "arguments": []}`` is answered with the EVSE's view, or with
``{"error": text}``. For people at a demo and for tests; never part of a product process.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agent.sim.bench import BadOrder, Bench

_LINE_BYTES = 4_096


async def serve(bench: Bench, path: Path) -> asyncio.Server:
    """Take orders for ``bench`` at ``path``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(_obey(bench, line)).encode() + b"\n")
            await writer.drain()
        writer.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(answer, path, limit=_LINE_BYTES)


def _obey(bench: Bench, line: bytes) -> dict[str, Any]:
    try:
        order = json.loads(line)
        return bench.obey(int(order["evse"]), str(order["action"]), [str(each) for each in order["arguments"]])
    except BadOrder as error:
        return {"error": str(error)}
    except (ValueError, KeyError, TypeError):
        return {"error": "an order is {evse, action, arguments}"}


async def order(path: Path, evse: int, action: str, *arguments: str) -> dict[str, Any]:
    """Give one order. Raises ``OSError`` where no bench runs, ``BadOrder`` for a wrong one."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(json.dumps({"evse": evse, "action": action, "arguments": arguments}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
    finally:
        writer.close()
    if "error" in answer:
        raise BadOrder(answer["error"])
    return answer
