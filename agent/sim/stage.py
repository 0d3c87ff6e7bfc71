"""A stage for the demo and for process tests: real processes on simulated hardware, and a CSMS.

Charter: lays out a directory (configuration, ports, ledger), starts bench and supervisor as processes
of their own, and gives handles to act and to look. Ends everything it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.ipc.client import RemoteStation
from agent.ipc.port import StationLost, StationStatus
from agent.sim.control import order

_CONFIG = """\
# A simulated station: every port is a pty made by `evsed sim-bench`.
[station]
identity = "DEMO-0001"
vendor = "evsed"
model = "Simulated"
serial = "SIM-0001"
data_dir = "{folder}/data"
run_dir = "{folder}/run"

[price]
tariff = "{folder}/tariff.json"

[operator]
name = "Demo Charging"
address = "1 Simulated Street"

{csms}
[settings]
"SampledDataCtrlr.SignReadings" = true
"SampledDataCtrlr.SignStartedReadings" = true
"SampledDataCtrlr.TxUpdatedInterval" = {sample_s}
"OCPPCommCtrlr.RetryBackOffWaitMinimum" = 1
"OCPPCommCtrlr.RetryBackOffRandomRange" = 1
"OCPPCommCtrlr.RetryBackOffRepeatTimes" = 1
"OCPPCommCtrlr.MessageAttemptInterval[TransactionEvent]" = 2

"""

# Net prices and 19 % tax; half a minute of idling is free. The cars of the demo charge for seconds, hence the cents.
TARIFF = {
    "tariffId": "demo-1",
    "currency": "EUR",
    "description": [{"format": "UTF8", "language": "en", "content": "Demo"}],
    "energy": {
        "prices": [{"priceKwh": 0.45}],
        "taxRates": [{"type": "VAT", "tax": 19}],
    },
    "idleTime": {
        "prices": [{"priceMinute": 0.05, "conditions": {"minIdleTime": 30}}],
        "taxRates": [{"type": "VAT", "tax": 19}],
    },
    "fixedFee": {"prices": [{"priceFixed": 0.5}], "taxRates": [{"type": "VAT", "tax": 19}]},
}

_CSMS = """\
[csms]
url = "{url}"
versions = [{versions}]

"""

_EVSE = """\
[[evse]]
id = {id}
board = "{board}"
connector_type = "{connector}"
cable = "{cable}"
max_current_ma = {max_ma}
phases = {phases}
pilot = {{ port = "{folder}/dev/pilot{id}" }}
meter = {{ port = "{folder}/dev/{word}{id}"{meter} }}
{extra}
"""

_DC_EXTRA = """\
power = {{ interface = "slcan", channel = "{folder}/dev/can{id}", modules = [0, 1] }}
fixed_output = {{ voltage_mv = 400_000, current_ma = 30_000 }}
"""
_DC_V, _SUPPLY_V = 400, 3 * 230


def free_port() -> int:
    """A TCP port of loopback that nobody listens on at this moment, and that no outgoing connection is given meanwhile:
    those begin at 32768 (``net.ipv4.ip_local_port_range``)."""
    while True:
        port = 20_000 + secrets.randbelow(12_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Stage:
    """One simulated station in ``folder``. ``url`` None: it has no CSMS."""

    folder: Path
    url: str | None
    versions: tuple[str, ...] = ("2.0.1", "1.6")
    sample_s: int = 10
    boards: tuple[str, ...] = ("mcu_ac", "openevse", "mcu_dc")
    meter_map: str | None = None  # of every EVSE; None: that of its board
    meter_word: str = "meter"  # what the names of the meters' ports begin with
    extra: str = ""  # more of the configuration
    _processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def config_file(self) -> Path:
        return self.folder / "evsed.toml"

    def at_supply_ma(self, evse: int, current_ma: int) -> int:
        """What a current of this EVSE takes from each of the supply's phases: a DC output counts by its power."""
        return current_ma * _DC_V // _SUPPLY_V if self.boards[evse - 1] == "mcu_dc" else current_ma

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def lay_out(self) -> None:
        """Write the configuration and make the directories."""
        (self.folder / "dev").mkdir(parents=True, exist_ok=True)
        self.run_dir.mkdir(exist_ok=True)
        versions = ", ".join(f'"{version}"' for version in self.versions)
        csms = "" if self.url is None else _CSMS.format(url=self.url, versions=versions)
        text = _CONFIG.format(folder=self.folder, csms=csms, sample_s=self.sample_s)
        for number, board in enumerate(self.boards, 1):
            dc, socket = board == "mcu_dc", board == "mcu_ac"
            text += _EVSE.format(
                id=number,
                board=board,
                connector="cCCS2" if dc else "sType2" if socket else "cType2",
                cable="socket" if socket else "fixed",
                max_ma=40_000 if dc else 16_000,
                phases=1 if dc else 3,
                folder=self.folder,
                word=self.meter_word,
                meter="" if self.meter_map is None else f', map = "{self.meter_map}"',
                extra=_DC_EXTRA.format(folder=self.folder, id=number) if dc else "",
            )
        text += self.extra
        (self.folder / "tariff.json").write_text(json.dumps(TARIFF, indent=2))
        self.config_file.write_text(text)

    async def start(self) -> None:
        """Start bench and station processes; returns when the station answers."""
        await self.start_bench()
        await self.launch("run")
        await (await self.station()).close()

    async def start_bench(self) -> None:
        """Start the simulated devices; returns when they are there."""
        bench = await self.launch("sim-bench")
        while not (self.run_dir / "bench.sock").exists():
            if bench.returncode is not None:
                raise RuntimeError(f"the bench did not start, see {self.folder / 'sim-bench.log'}")
            await asyncio.sleep(0.02)

    async def launch(self, command: str) -> asyncio.subprocess.Process:
        """Start one ``evsed`` process of this stage; its log goes to a file."""
        with (self.folder / f"{command}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agent.cli",
                command,
                "--config",
                str(self.config_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    async def stop(self) -> None:
        """End everything, the station first."""
        for process in reversed(self._processes):
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 12)
                except TimeoutError:
                    process.kill()
                    await process.wait()

    async def station(self, within_s: float = 30.0) -> RemoteStation:
        """A connection to the station, as soon as there is one."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await RemoteStation.connect(self.run_dir / "station.sock")
                except StationLost:
                    await asyncio.sleep(0.05)

    async def order(self, evse: int, action: str, *arguments: str) -> dict[str, Any]:
        """Give the bench an order; returns the EVSE's view."""
        return await order(self.run_dir / "bench.sock", evse, action, *arguments)

    async def status(self) -> StationStatus | None:
        """The station's status, None while it is away."""
        with contextlib.suppress(StationLost):
            station = await RemoteStation.connect(self.run_dir / "station.sock")
            try:
                return await station.status()
            finally:
                await station.close()
        return None
