"""The local page on a real socket of this machine, with a station in memory behind it.

Charter: starts what the gateway starts, and speaks HTTP/1.1 to it byte by byte, so that tests see every header and may
be as rude as they like.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from agent.config.load import load
from agent.core.status import ConnectorState, EvseView
from agent.health.model import PartHealth
from agent.ipc.port import News, StationLost, StationStatus, Welcome
from agent.ipc.statistics import GatewayStatistics, ProcessStatistics
from agent.sim.stage import free_port
from agent.web import secret
from agent.web.process import run_web
from tests.support.fake_station import T0_MS, FakeStation, welcome

SECRET = "correct horse"
_CONFIG = """\
[station]
identity = "CP-1"
vendor = "Example"
model = "Bench"
serial = "S-0001"
data_dir = "data"
run_dir = "run"

[auth]
free = true

[web]
port = {port}
technician_secret_file = "web.secret"
{web}

[[evse]]
id = 1
board = "mcu_ac"
connector_type = "sType2"
cable = "socket"
max_current_ma = 16_000
pilot = {{ port = "pilot1" }}
meter = {{ port = "meter1" }}
"""


def view(evse: int = 1, **changes: object) -> EvseView:
    """An idle EVSE, but for the changes."""
    nothing = (None, None, None)
    values: dict[str, object] = {
        "evse": evse,
        "state": ConnectorState.AVAILABLE,
        "faults": (),
        "cp": "A",
        "charging_state": None,
        "tx_id": None,
        "token": None,
        "contactor_closed": False,
        "locked": False,
        "limit_ma": 16_000,
        "offered_ma": 0,
        "duty_centipercent": 10_000,
        "power_mw": 0,
        "energy_import_mwh": 1_000_000,
        "session_energy_mwh": None,
        "voltage_mv": nothing,
        "current_ma": nothing,
        "operative": True,
    }
    return EvseView(**{**values, **changes})  # type: ignore[arg-type]


def status(*views: EvseView, **changes: object) -> StationStatus:
    values: dict[str, object] = {
        "identity": "CP-1",
        "boot_id": "boot-1",
        "software_version": "0.1.0",
        "uptime_ms": 60_000,
        "online": True,
        "dialect": "2.0.1",
        "wall_ms": T0_MS,
        "time_status": "S",
        "head_seq": 7,
        "delivered_seq": 7,
        "evses": views or (view(),),
    }
    return StationStatus(**{**values, **changes})  # type: ignore[arg-type]


@dataclass
class FakeLine(FakeStation):
    """``FakeStation`` as the page's connection to the station; ``shown`` is its status, ``calls`` counts the asking."""

    shown: StationStatus = field(default_factory=status)
    calls: int = 0
    welcome: Welcome = field(default_factory=welcome)
    news: asyncio.Queue[News | None] = field(default_factory=asyncio.Queue)
    away: bool = False

    async def status(self) -> StationStatus:
        self.calls += 1
        if self.away:
            raise StationLost("gone")
        return self.shown

    async def health(self) -> list[PartHealth]:
        return self.parts

    async def close(self) -> None:
        pass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def cookie(self) -> str:
        """What the browser would send from now on."""
        return self.headers.get("set-cookie", "").partition(";")[0]


class Web:
    """The page at ``port``, and the station behind it."""

    def __init__(self, port: int, line: FakeLine) -> None:
        self.port = port
        self.line = line

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def get(self, path: str, cookie: str = "", **headers: str) -> Answer:
        return await self.ask("GET", path, cookie, b"", **headers)

    async def post(self, path: str, fields: dict[str, str], cookie: str = "", **headers: str) -> Answer:
        kind = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{self.host}"}
        return await self.ask("POST", path, cookie, urlencode(fields).encode(), **{**kind, **headers})

    async def ask(self, method: str, path: str, cookie: str, body: bytes, **headers: str) -> Answer:
        named = {"host": self.host, "connection": "close", **({"cookie": cookie} if cookie else {}), **headers}
        if body:
            named["content-length"] = str(len(body))
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items() if value != "-")
        return parsed(await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body))

    async def raw(self, data: bytes, within_s: float = 15.0) -> bytes:
        """Whatever comes back until the page hangs up."""
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    async def login(self, typed: str = SECRET) -> Answer:
        return await self.post("/login", {"secret": typed})


def parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(first.split(" ")[1]), headers, body)


def _joined(chunked: bytes) -> bytes:
    out = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        out, chunked = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return out


@contextlib.asynccontextmanager
async def web_page(folder: Path, line: FakeLine | None = None, web: str = "") -> AsyncIterator[Web]:
    """A page that answers, until the block ends. ``web``: more lines of its table."""
    port, line = free_port(), line or FakeLine()
    (folder / "evsed.toml").write_text(_CONFIG.format(port=port, web=web))
    (folder / "web.secret").write_text(f"{secret.made(SECRET)}\n")
    config = load(folder / "evsed.toml")
    assert config.web is not None

    async def find() -> FakeLine:
        if line.away:
            raise StationLost("gone")
        return line

    task = asyncio.create_task(run_web(config, config.web, find, lambda: GatewayStatistics(ProcessStatistics(), None)))
    try:
        await _answers(port)
        yield Web(port, line)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _answers(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return


def on_page(folder: Path, scene: Callable[[Web], Awaitable[None]], line: FakeLine | None = None, web: str = "") -> None:
    """Run a scene before a page."""

    async def main() -> None:
        async with web_page(folder, line, web) as page:
            await scene(page)

    asyncio.run(asyncio.wait_for(main(), 90))
