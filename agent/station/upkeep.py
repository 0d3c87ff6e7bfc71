"""What a station does from time to time beside charging: room on disk, the live tariff, old rows, a whole check.

Charter: looks at files and tells the shell what changed. It decides nothing about power or
money. Everything here may be late by minutes without harm.

* Disk (metering reference 4.2, checklist 20-TE-12): below a mark no readings between start and end, so that those do
  not take the room of other transactions; below the floor no new transaction; the reserve is kept for running ones.
* Live tariff: another program replaces the file; a text that is no tariff is refused and told once.
* Retention: rows that the CSMS has and that are old enough go, in small pieces.
* Whole check of the ledger: by a process of its own at low priority, begun while nobody charges, since it reads
  every row (4.5); what it finds is an alarm, that it could not look is none, that it failed as it looked is one.
  Nothing else here waits for it, and it has an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import structlog

from agent.core.events import LedgerRoom
from agent.core.facts import Fact, LogEntry, LogFact, SecurityFact
from agent.health.fold import Finding
from agent.ledger.errors import LedgerError
from agent.ledger.space import Look, Reserve, room
from agent.station.billing import Billing
from agent.station.logic import PricesChanged
from agent.tariff.canonical import MAX_BYTES
from agent.tariff.problem import TariffError

LOOK_EVERY_S = 5.0
ROOM_EVERY_S = 15.0
RETENTION_EVERY_S = 3_600.0
CHECK_FIRST_AFTER_S = 600.0
CHECK_EVERY_S = 86_400.0
CHECK_MAX_S = 21_600.0  # many times what the largest ledger takes

_COULD_NOT_LOOK = (74, 78)
"""Exit codes of sysexits by which ``evsed`` says that its configuration cannot be read just now, or is wrong. What the
kernel ends, for want of memory, has a negative one. Any other end is a check that failed, maybe at what it read."""

log = structlog.get_logger("upkeep")


class Shell(Protocol):
    def give(self, event: LedgerRoom | PricesChanged) -> None: ...

    def append(self, *facts: Fact, on_durable: Callable[[], None] | None = None) -> None: ...

    def retire(self) -> None:
        """Remove what may go from the ledger, a piece at a time."""
        ...


class Upkeep:
    """See the module. ``config_file`` None: the ledger is not checked by another process."""

    def __init__(
        self,
        shell: Shell,
        billing: Billing,
        ledger: Path,
        *,
        live_tariff: Path | None,
        reserve: Reserve,
        floor_bytes: int,
        look: Look,
        refuses: Callable[[], str],
        config_file: Path | None,
    ) -> None:
        self._shell = shell
        self._billing = billing
        self._ledger = ledger
        self._live_tariff = live_tariff
        self._floor_bytes = floor_bytes
        self._look = look
        self._refuses = refuses
        self._config_file = config_file
        self._reserve = reserve
        self._seen_file: tuple[int, int, int] | None = None
        self._low = self._scarce = False
        self._unreadable = ""  # why the disk cannot be looked at
        self._refused_tariff = ""  # why the live tariff is not taken
        self.found = ""  # what the last whole check found

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        room_at_s, retire_at_s = started_s, started_s + 60.0
        check_at_s = started_s + CHECK_FIRST_AFTER_S
        async with asyncio.TaskGroup() as checks:
            while True:
                now_s = loop.time()
                self.look_at_tariff()
                if now_s >= room_at_s:
                    room_at_s = now_s + ROOM_EVERY_S
                    self.look_at_room()
                if now_s >= retire_at_s:
                    retire_at_s = now_s + RETENTION_EVERY_S
                    self._shell.retire()
                if now_s >= check_at_s and not self._billing.busy:
                    check_at_s = now_s + CHECK_EVERY_S
                    checks.create_task(self._check_ledger())
                await asyncio.sleep(LOOK_EVERY_S)

    # --------------------------------------------------------------------------------------- disk

    def look_at_room(self) -> None:
        """Tell the core whether there is room for another transaction, and for readings."""
        was_scarce = self._scarce
        try:
            found = room(self._ledger, self._floor_bytes, self._look, was_scarce=was_scarce)
            self._low, self._scarce = found.low, found.scarce
            if not self._low:
                self._reserve.ensure()
            self._unreadable = ""
        except (OSError, LedgerError) as error:
            log.error("disk cannot be looked at", why=str(error))
            self._low = self._scarce = True
            self._unreadable = str(error)
        if self._scarce is not was_scarce:
            log.warning("readings are left out, room is scarce" if self._scarce else "room for readings again")
        self._shell.give(LedgerRoom(not self._low and not self._refuses(), self._scarce))

    def alarm(self) -> str:
        """What a technician must know of ledger and disk, in plain words."""
        parts = ["little room on the ledger's disk: no new transactions"] if self._low else []
        parts += [each for each in (self._refuses(), self.found) if each]
        return "; ".join(parts)

    def troubles(self) -> Iterator[Finding]:
        """What is wrong with ledger, disk and live tariff."""
        if self._unreadable:
            yield Finding("disk_unreadable", detail=self._unreadable)
        elif self._low:
            yield Finding("disk_full")
        elif self._scarce:
            yield Finding("disk_scarce")
        if self.found:
            yield Finding("ledger_not_whole", detail=self.found)
        if self._refused_tariff:
            yield Finding("tariff_refused", detail=self._refused_tariff)

    # ------------------------------------------------------------------------------------- tariff

    def look_at_tariff(self) -> None:
        """Take up the live tariff if its file has changed."""
        if self._live_tariff is None:
            return
        try:
            found = self._live_tariff.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen_file:
                return
            self._seen_file = seen
            with self._live_tariff.open("rb") as file:
                text = file.read(MAX_BYTES + 1).decode()
            content, facts = self._billing.tariffs.learn_live(text)
        except FileNotFoundError:
            return  # not there yet
        except (OSError, UnicodeDecodeError, TariffError) as error:
            self._refused_tariff = str(error)[:500]
            log.error(
                "live tariff refused, the one before goes on", file=str(self._live_tariff), why=self._refused_tariff
            )
            details = (("file", self._live_tariff.name), ("why", self._refused_tariff))
            self._shell.append(LogFact(LogEntry.TARIFF_REFUSED, details=details))
            return
        self._refused_tariff = ""
        if facts:
            self._shell.append(*facts)
        log.info("live tariff", content=content[:16])
        self._billing.use_live_tariff(content)
        self._shell.give(PricesChanged())

    # -------------------------------------------------------------------------------------- check

    async def _check_ledger(self) -> None:
        if self._config_file is None:
            return
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "agent.cli", "ledger", "verify", "--json", "--config", str(self._config_file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:  # no memory or no process is left for it: there may be the next time
            log.error("ledger is not checked", why=str(error))
            return
        with contextlib.suppress(OSError):  # the unit's system call filter may forbid it, or it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        try:
            async with asyncio.timeout(CHECK_MAX_S):
                out, _ = await process.communicate()
        except TimeoutError:
            self._not_checked(f"the whole check did not end within {CHECK_MAX_S / 3_600:.0f} h")
            return
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode == 0:
            log.info("ledger is whole")
            self.found = ""
            return
        code, found = process.returncode, _first_finding(out)
        if found is None and (code is None or code < 0 or code in _COULD_NOT_LOOK):
            self._not_checked(f"the whole check ended with exit code {code}, and found nothing")
            return
        found = found or f"the whole check ended with exit code {code}, and did not say why"
        self.found = found
        log.critical("ledger is not whole", why=found)
        self._shell.append(
            LogFact(LogEntry.VERIFICATION_FAILED, details=(("why", found),)),
            SecurityFact("TamperDetectionActivated", found),
        )

    def _not_checked(self, why: str) -> None:
        """That is no finding: what the check before it found stays as it is."""
        log.error("ledger is not checked", why=why)
        self._shell.append(LogFact(LogEntry.VERIFICATION_FAILED, details=(("why", why),)))


def _first_finding(out: bytes) -> str | None:
    """In what ``evsed ledger verify`` says; None where it found nothing, or could not look."""
    try:
        text = str(json.loads(out)["findings"][0]["text"])
    except (ValueError, LookupError, TypeError):
        return None
    return text[:200].encode(errors="replace").decode()  # it may tell of a forged row with half a character
