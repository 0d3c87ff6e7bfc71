"""RAUC's bundles: spooled whole, then installed by the RAUC service. An ``agent.firmware.installer.Writer``.

Charter: a copy that belongs to root alone stands between download and installation, so that what was checked is what is
installed (CVE-2020-25860). RAUC judges signature, product and content; OCPP's signature over the file is checked before
RAUC sees it. RAUC knows no security epoch and cannot read a slot back: its own ``min-bundle-version`` and its checks
while writing stand for that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from agent.config.update import UpdateConfig
from agent.firmware.engines.rauc import RaucEngine
from agent.firmware.engines.rauc_bus import RaucBus
from agent.firmware.engines.rauc_spool import discard, spool
from agent.firmware.installer import Candidate, CheckFile
from agent.firmware.installer_state import InstallerState
from agent.firmware.mcu import Staged
from agent.firmware.ports import OnProgress, Progress, Source
from agent.firmware.storage import Storage

log = structlog.get_logger("installer")


class RaucWriter:
    """See the module."""

    name = "rauc"

    def __init__(self, storage: Storage, config: UpdateConfig, bus: RaucBus) -> None:
        self._storage = storage
        self._config = config
        self._engine = RaucEngine(bus)
        self._digest = b""
        self._forget()  # a power cut leaves a file as large as a bundle where the ledger has its room

    @property
    def _spool(self) -> Path:
        return self._config.state_dir / "spool.raucb"

    def judge(
        self,
        source: Source,
        state: InstallerState,
        active: str,  # noqa: ARG002 - RAUC looks at what it needs by itself
        on_progress: OnProgress,
    ) -> Candidate:
        whole = hashlib.sha256()
        spool(source, self._spool, self._storage, whole, self._config.max_bundle_mib * 1024 * 1024, on_progress)
        self._digest = whole.digest()
        try:
            said = self._engine.inspect(self._spool)
        except BaseException:
            self._forget()
            raise
        version = said.version if said is not None else ""
        return Candidate(version, self._digest.hex(), state.security_epoch, 0)

    def write(
        self,
        source: Source,  # noqa: ARG002 - spooled already
        target: str,  # noqa: ARG002 - RAUC writes the slot that does not run, as we would
        active: str,  # noqa: ARG002
        check_file: CheckFile | None,
        on_progress: OnProgress,  # noqa: ARG002 - the download was the progress; a second one would confuse
    ) -> None:
        try:
            if check_file is not None:
                check_file(self._digest)
            installed = self._engine.install(self._spool, _no_progress)
        finally:
            self._forget()
        if installed.warning:
            log.error("RAUC is set up wrong", why=installed.warning)

    def staged_mcu(self, target: str, slot: str) -> Staged | None:  # noqa: ARG002
        """RAUC's bundles bring microcontroller firmware by RAUC's own handlers, if at all."""
        return None

    def read_back(self, slot: str, digest: str) -> None:
        """RAUC has compared what it wrote; it offers no second look."""

    def _forget(self) -> None:
        discard(self._storage, self._spool)


def _no_progress(_progress: Progress) -> None:
    pass
