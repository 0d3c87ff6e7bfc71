"""What the gateway knows of its own health: the link to the CSMS, certificates of link and page, its process.

Charter: turns the link's state, the files' contents and the CSMS's word on this station into the troubles of the
catalogue, and tells the station of them. It decides nothing; since when is the station's to say. The library that
reads certificates is loaded only where there are some.

Units: ms (monotonic; ``wall_ms`` UTC since 1970), seconds for waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.config.model import CsmsConfig
from agent.health.catalogue import CATALOGUE
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import StationPort
from agent.ipc.statistics import ProcessStatistics
from agent.ocpp.link import LinkPhase, LinkState
from agent.ocpp.link_failure import FailureKind, LinkFailure
from agent.ocpp.waiting import happens

PROCESS: Final = "gateway"
LOOK_EVERY_S: Final = 300.0
UNREGISTERED_LOOK_EVERY_S: Final = 10.0
DOWN_FOR_LONG_MS: Final = 300_000
CERTIFICATES_EVERY_MS: Final = 3_600_000
EXPIRES_SOON_MS: Final = 30 * 86_400_000
CERTIFICATE_MAX_BYTES: Final = 1024 * 1024
MEMORY_HIGH_BYTES: Final = 96 * 1024 * 1024

_F = FailureKind
_CODE_OF_FAILURE: Final = {
    _F.UNAUTHORIZED: "csms_refused",
    _F.UNKNOWN_IDENTITY: "csms_refused",
    _F.TLS_CERTIFICATE: "csms_mistrusted",
    _F.TLS_VERSION: "csms_mistrusted",
    _F.TLS_CIPHER: "csms_mistrusted",
    _F.TLS: "csms_mistrusted",
}


class GatewayHealth:
    """See the module. Tell it the link's states by ``link``; ``run`` reports to one station until it is lost.

    ``page_certificate``: the local page's own chain, where it has one."""

    def __init__(
        self,
        csms: CsmsConfig,
        process: Callable[[], ProcessStatistics],
        now_ms: Callable[[], int],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        page_certificate: Path | None = None,
    ) -> None:
        # Also where the file's own CSMS has a ws:// address: uploads rest on the authorities, and the CSMS may move the
        # station to a wss:// one.
        files = ((csms.ca_file, max), (csms.client_certificate_file, min), (page_certificate, min))
        self._files = [(file, which) for file, which in files if file is not None]
        self._process = process
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self._up = False
        self._down_since_ms = now_ms()
        self._failure: LinkFailure | None = None  # the last one since the link was up
        self._certificates: list[PartHealth] = [_rest(Part.CERTIFICATES, Condition.ABSENT)]
        self._certificates_due_ms = 0
        self._changed = asyncio.Event()

    def link(self, state: LinkState) -> None:
        """The link has changed its state."""
        up = state.phase is LinkPhase.CONNECTED
        if self._up and not up:
            self._down_since_ms = self._now_ms()
        if up or state.failure is not None:
            self._failure = state.failure
        self._up = up
        self._changed.set()

    async def run(self, station: StationPort, registration: Callable[[], str]) -> None:
        """Report until cancelled. ``registration``: the CSMS's word on this station. Raises ``StationLost``."""
        told: list[PartHealth] | None = None
        while True:
            self._changed.clear()
            if self._files and self._now_ms() >= self._certificates_due_ms:
                self._certificates_due_ms = self._now_ms() + CERTIFICATES_EVERY_MS
                self._certificates = await asyncio.to_thread(self._look_at_certificates)
            word = registration()
            parts = [*self._of_link(word), *self._certificates, *self._of_process()]
            if parts != told:
                await station.report_parts(PROCESS, parts)
                told = parts
            await happens(self._changed, self._next_look_s(word))

    def _next_look_s(self, registration: str) -> float:
        """In how many seconds something may be different that nobody tells."""
        if self._up:
            return LOOK_EVERY_S if registration == "Accepted" else UNREGISTERED_LOOK_EVERY_S
        left_ms = self._down_since_ms + DOWN_FOR_LONG_MS - self._now_ms()
        return left_ms / 1_000 if left_ms > 0 else LOOK_EVERY_S

    # ------------------------------------------------------------------------------------------ link

    def _of_link(self, registration: str) -> Iterator[PartHealth]:
        if self._up:
            rejected = registration == "Rejected"
            yield _trouble("csms_boot_rejected") if rejected else _rest(Part.CSMS_LINK, Condition.OK)
            return
        failure = self._failure
        if failure is not None and (code := _CODE_OF_FAILURE.get(failure.kind)) is not None:
            yield _trouble(code, failure.detail)
        elif self._now_ms() - self._down_since_ms >= DOWN_FOR_LONG_MS:
            yield _trouble("csms_link_down", "" if failure is None else failure.detail)
        else:
            yield _rest(Part.CSMS_LINK, Condition.UNKNOWN, "connecting" if failure is None else failure.detail)

    # --------------------------------------------------------------------------------- certificates

    def _look_at_certificates(self) -> list[PartHealth]:
        """Runs in a thread. Of several roots one that is valid will do; a chain is as good as its worst link."""
        found: dict[str, list[str]] = {}  # details by code
        for file, which in self._files:
            try:
                until_ms = which(_ends_of(file))
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                found.setdefault("certificate_unusable", []).append(f"{file.name}: {why}")
                continue
            left_ms = until_ms - self._wall_ms()
            if left_ms < EXPIRES_SOON_MS:
                day = datetime.fromtimestamp(until_ms / 1_000, UTC).date()
                code = "certificate_expired" if left_ms <= 0 else "certificate_expiring"
                found.setdefault(code, []).append(f"{file.name}, valid until {day}")
        rows = [_trouble(code, "; ".join(details)) for code, details in found.items()]
        return rows or [_rest(Part.CERTIFICATES, Condition.OK)]

    # -------------------------------------------------------------------------------------- process

    def _of_process(self) -> Iterator[PartHealth]:
        if self._process().rss_bytes >= MEMORY_HIGH_BYTES:
            yield _trouble("memory_high", PROCESS)


def _ends_of(file: Path) -> list[int]:
    """When each certificate of a PEM file ends, at least one. Raises ``OSError``, ``ValueError``."""
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificates

    with file.open("rb") as opened:
        pem = opened.read(CERTIFICATE_MAX_BYTES)
    try:
        found = load_pem_x509_certificates(pem)
    except InvalidVersion as error:  # which is no ValueError; TLS takes such a certificate all the same
        raise ValueError(str(error)) from error
    return [int(each.not_valid_after_utc.timestamp() * 1_000) for each in found]


def _trouble(code: str, detail: str = "") -> PartHealth:
    entry = CATALOGUE[code]
    return PartHealth(entry.part, 0, entry.condition, code, detail, entry.remedy)


def _rest(part: Part, condition: Condition, reason: str = "") -> PartHealth:
    return PartHealth(part, 0, condition, reason=reason)
