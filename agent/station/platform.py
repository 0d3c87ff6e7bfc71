"""What a running station stands on: clocks, ids, keys, the ledger's writer, devices, the installer.

Charter: everything that is neither decided by the station nor the same in every run, in one value. The process
takes it from the machine (``this_machine``); the simulated world makes its own, and runs the same station in
virtual time.

Units: ms; ``now_ms`` is monotonic, ``machine_wall_ms`` what the machine's clock shows (UTC), and ``clock_is_proven``
whether something vouches for that.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent.config.model import Config
from agent.ipc.statistics import ProcessStatistics
from agent.ledger.book import Change, MakeRoom
from agent.ledger.errors import LedgerFailed
from agent.ledger.retention import CutOrder
from agent.ledger.rows import NewRow, Sealed
from agent.ledger.space import Look
from agent.ledger.writer import LedgerWriter, OnCut, OnDurable
from agent.security.clock_proof import clock_is_proven
from agent.security.keys import MeteringKey, load_or_create_key
from agent.station.build import monotonic_ms
from agent.station.hardware import Hardware, open_hardware
from agent.telemetry.own_process import OwnProcess

if TYPE_CHECKING:
    from agent.firmware.view import InstallerView, StagedView

T = TypeVar("T")
TICK_MS = 1_000  # deadlines come on time; this only keeps views fresh


class Writer(Protocol):
    """The ledger's writer, as ``agent.ledger.writer.LedgerWriter`` is one."""

    def append(
        self,
        rows: Sequence[NewRow | Sealed] = (),
        changes: Sequence[Change] = (),
        on_durable: OnDurable | None = None,
        *,
        lazy: bool = False,
    ) -> None: ...

    def cut(self, order: CutOrder, on_done: OnCut) -> None: ...

    async def close(self) -> None: ...


class Installer(Protocol):
    """What the station asks of the installer; ``agent.firmware.client.InstallerClient`` says what each raises."""

    def status(self) -> InstallerView: ...

    def activate(self, digest: str) -> StagedView: ...

    def confirm(self) -> None: ...

    def revert(self) -> str: ...

    def reboot(self) -> None: ...


class InstallerTalks(Protocol):
    """Questions to the installer; each may raise ``InstallerAway`` too."""

    async def ask(self, question: Callable[[Installer], T]) -> T: ...

    def close(self) -> None:
        """End what is under way at once, whatever the installer does."""
        ...


OpenWriter = Callable[[Path, Callable[[LedgerFailed], None], MakeRoom], Writer]


@dataclass(frozen=True, slots=True)
class Platform:
    """See the module. ``devices`` is asked once for each run."""

    now_ms: Callable[[], int]
    machine_wall_ms: Callable[[], int]
    clock_is_proven: Callable[[int], bool]
    new_tx_id: Callable[[], str]
    metering_key: Callable[[Path], MeteringKey]
    open_writer: OpenWriter
    devices: Callable[[Config], Hardware]
    installer: Callable[[Config], InstallerTalks]
    free_space: Look
    process: Callable[[], ProcessStatistics] = ProcessStatistics  # of no interest where no process runs
    tick_ms: int = TICK_MS


def this_machine(loop: asyncio.AbstractEventLoop) -> Platform:
    """The real one, for a station that runs in ``loop``."""
    return Platform(
        now_ms=monotonic_ms,
        machine_wall_ms=lambda: time.time_ns() // 1_000_000,
        clock_is_proven=clock_is_proven,
        new_tx_id=lambda: str(uuid.uuid4()),
        metering_key=load_or_create_key,
        open_writer=lambda path, failed, make_room: LedgerWriter(path, loop, failed, make_room=make_room),
        devices=lambda config: open_hardware(config, monotonic_ms),
        installer=_installer,
        free_space=os.statvfs,
        process=OwnProcess(loop).read,
    )


def _installer(config: Config) -> InstallerTalks:
    from agent.station.installer_talks import SocketTalks  # only where the configuration asks for updates

    return SocketTalks(config.station.installer_socket)
