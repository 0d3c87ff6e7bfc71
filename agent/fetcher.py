"""The gateway's part of an update: bytes from where the CSMS says, to the installer.

Charter: downloads what the station orders and reports how it goes. Judges nothing: the installer pulls the ranges it
wants, and decides. One download at a time, in a thread; a newer order ends the one before. May die at any instant: a
new gateway hears the order again, and the installer knows what it has. While that is at work on another bundle, waits.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

import structlog

from agent.config.model import Config
from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.ports import Progress
from agent.firmware.view import InstallOrder, Origin
from agent.ipc.port import StationLost, StationPort
from agent.ipc.updates import FetchOrder, FetchReport, FetchStep

BUSY_WAIT_S: Final = 2.0
BUSY_TURNS: Final = 150  # five minutes: a slow card takes long to write out what was given to it

log = structlog.get_logger("fetcher")


class Fetcher:
    """Carries out ``FetchWanted``."""

    def __init__(self, config: Config, station: StationPort) -> None:
        self._config = config
        self._station = station
        self._fetch: _Fetch | None = None
        self._task: asyncio.Task[None] | None = None

    def take(self, order: FetchOrder | None) -> None:
        """A new order, the same one again (nothing happens), or None: stop."""
        if self._fetch is not None and self._fetch.order == order and self._task is not None and not self._task.done():
            return
        self.stop()
        if order is not None:
            self._fetch = _Fetch(self._config, order, asyncio.get_running_loop())
            self._task = asyncio.get_running_loop().create_task(self._run(self._fetch))

    def stop(self) -> None:
        """End what is under way; its last words are not heard any more."""
        if self._task is not None:
            self._task.cancel()
        if self._fetch is not None:
            self._fetch.end()
        self._task = self._fetch = None

    async def _run(self, fetch: _Fetch) -> None:
        log.info("download begins", ticket=fetch.order.ticket)
        work = asyncio.ensure_future(asyncio.to_thread(fetch.run))
        try:
            while True:
                report = await fetch.reports.get()
                await self._station.fetch_report(report)
                if report.step not in (FetchStep.PROGRESS, FetchStep.PAUSED, FetchStep.RESUMED):
                    log.info("download ended", ticket=report.ticket, step=report.step.value, why=report.why)
                    return
        except StationLost:
            log.warning("station lost in mid-download")  # it orders again when it is back
        finally:
            fetch.end()
            await asyncio.wait({work})


class _Fetch:
    """One download, in a thread of its own."""

    def __init__(self, config: Config, order: FetchOrder, loop: asyncio.AbstractEventLoop) -> None:
        assert config.update is not None
        self.order = order
        self.reports: asyncio.Queue[FetchReport] = asyncio.Queue()
        self._config, self._update = config, config.update
        self._loop = loop
        self._ended = threading.Event()
        self._client: InstallerClient | None = None
        self._done = (0, 0)
        self._turns_left = BUSY_TURNS

    def end(self) -> None:
        """Let the thread come to an end, whatever it waits for."""
        self._ended.set()
        if (client := self._client) is not None:
            client.close()

    def run(self) -> None:
        """Download and hand over; the last report says how it ended."""
        try:
            self._hand_over()
        except SourceLost as lost:
            self._tell(FetchStep.LOST, lost.why, retryable=lost.retryable)
        except UpdateRefused as refused:
            self._tell(FetchStep.REFUSED, str(refused), refusal=refused.refusal.value)
        except SlotFailed as failed:
            self._tell(FetchStep.FAILED, str(failed))
        except InstallerAway as away:
            self._tell(FetchStep.LOST, str(away), retryable=True)
        except BaseException as error:
            self._tell(FetchStep.FAILED, f"error of the gateway: {error}")
            raise
        else:
            self._tell(FetchStep.STAGED)

    def _hand_over(self) -> None:
        from agent.transfer.remote import open_remote  # only now: most gateways never download
        from agent.transfer.settings import TransferLimits, TransferTls

        update, order = self._update, self.order
        limits = TransferLimits(
            max_size_bytes=update.max_bundle_mib * 1024 * 1024, max_bytes_per_s=update.rate_limit_kib_s * 1024
        )
        with (
            open_remote(
                order.location,
                limits,
                TransferTls(update.ca_file),
                schemes=[scheme.value for scheme in update.schemes],
                on_pause=lambda paused: self._tell(FetchStep.PAUSED if paused else FetchStep.RESUMED),
                cancelled=self._ended.is_set,
                sleep=self._ended.wait,
            ) as file,
            InstallerClient(self._config.station.installer_socket) as client,
        ):
            self._client = client
            if self._ended.is_set():
                return
            given = InstallOrder(Origin.OCPP, order.signing_certificate, order.signature)
            while True:
                try:
                    client.install(file, given, self._progress)
                    return
                except UpdateRefused as refused:
                    if refused.refusal is not Refusal.BUSY or not self._waits_for_its_turn():
                        raise

    def _waits_for_its_turn(self) -> bool:
        """A download that was given up lasts on in the installer until its last bytes are on the disk."""
        self._turns_left -= 1
        return self._turns_left >= 0 and not self._ended.wait(BUSY_WAIT_S)

    def _progress(self, progress: Progress) -> None:
        self._done = (progress.done_bytes, progress.total_bytes)
        self._tell(FetchStep.PROGRESS)

    def _tell(self, step: FetchStep, why: str = "", *, retryable: bool = False, refusal: str = "") -> None:
        report = FetchReport(self.order.ticket, step, *self._done, why[:500], retryable, refusal)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.reports.put_nowait, report)
