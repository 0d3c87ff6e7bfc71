"""A fake station on a real socket, in a thread of its own: for commands that run their own event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.ipc.server import IpcServer
from tests.support.fake_station import FakeStation, welcome


@contextmanager
def on_its_socket(station: FakeStation, run_dir: Path) -> Iterator[None]:
    """While this lasts the station answers in ``run_dir``."""
    loop = asyncio.new_event_loop()
    server = IpcServer(run_dir / "station.sock", station, welcome, list, frozenset({os.getuid()}), lambda: None)
    loop.run_until_complete(server.start())
    running = threading.Thread(target=loop.run_forever)
    running.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        running.join(5)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
