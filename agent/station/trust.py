"""Which authorities vouch for the CSMS: those of the configuration, and those that the CSMS has installed.

Charter: judges, keeps and forgets root certificates (OCPP 2.0.1 M03 to M05); the gateway uses them. What the
configuration names can be listed and never deleted: whatever a CSMS does, the station trusts what it was delivered
with. So is the root that the present connection rests on (M04), since without it nobody could reach the station. A
configuration may name a distribution's whole bundle: only what was installed counts against ``CERTIFICATE_ENTRIES``.

Roots of firmware come with the image and the configuration only, since whoever may name them may write any firmware
(ADR 27); of ISO 15118 this station has nothing to verify. Both are Rejected.

Units: UTC in milliseconds. Sources: OCPP 2.0.1 part 2 M03, M04, M05; security white paper for 1.6; checklist
16-SEC-09.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

from agent.config.catalogue import CERTIFICATE_ENTRIES, key
from agent.config.device_model import DeviceModel
from agent.config.model import Config
from agent.core.facts import SecurityFact
from agent.ipc.certificates import (
    CertificateUse,
    DeleteAnswer,
    DeleteStatus,
    InstallAnswer,
    InstalledCertificate,
    InstallStatus,
)
from agent.ipc.port import News, SettingsChanged, TrustChanged
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.security.roots import CertificateHash, HashAlgorithm, NotARoot, Root, read_root, roots_in

_ENTRIES: Final = key("SecurityCtrlr.CertificateEntries")
_FILE_MAX_CHARS: Final = 256 * 1024

log = structlog.get_logger("trust")


class Shell(Protocol):
    def publish(self, news: News) -> None: ...

    async def save(self, changes: Sequence[StateChange]) -> None:
        """Returns when the changes are durable."""
        ...


class Trust:
    """See the module. ``wall_ms`` gives None while nobody knows the time; ``tell`` notes a security event."""

    def __init__(
        self,
        config: Config,
        model: DeviceModel,
        kept: dict[str, str],
        shell: Shell,
        wall_ms: Callable[[], int | None],
        tell: Callable[[SecurityFact], None],
    ) -> None:
        self._model = model
        self._shell = shell
        self._wall_ms = wall_ms
        self._tell = tell
        csms, update = config.csms, config.update
        self._files: list[tuple[CertificateUse, Path]] = []
        if csms is not None and csms.ca_file is not None:
            self._files.append((CertificateUse.CSMS_ROOT, csms.ca_file))
        if update is not None:
            self._files.append((CertificateUse.MANUFACTURER_ROOT, update.manufacturer_roots or update.roots))
        self._installed = dict(kept)  # PEM by fingerprint; looked into only when it is asked for
        self._count()

    @property
    def pems(self) -> tuple[str, ...]:
        """What was installed; the configuration's own the gateway reads by itself."""
        return tuple(self._installed.values())

    # ----------------------------------------------------------------------------------- requests

    def certificates(self) -> list[InstalledCertificate]:
        """See ``StationPort.certificates``."""
        rows = [*self._configured(), *((CertificateUse.CSMS_ROOT, root) for root in self._own())]
        return [InstalledCertificate(use, root.hash(HashAlgorithm.SHA256)) for use, root in rows]

    async def install(self, use: CertificateUse, pem: str) -> InstallAnswer:
        """See ``StationPort.install_certificate``."""
        if use is not CertificateUse.CSMS_ROOT:
            return InstallAnswer(InstallStatus.REJECTED, _NOT_TAKEN[use])
        try:
            root = read_root(pem)
            self._must_be_in_time(root)
        except NotARoot as error:
            return InstallAnswer(InstallStatus.REJECTED, str(error))
        if root.fingerprint in self._installed or any(
            own.fingerprint == root.fingerprint for of, own in self._configured() if of is use
        ):
            return InstallAnswer(InstallStatus.ACCEPTED)
        if len(self._installed) >= CERTIFICATE_ENTRIES:
            return InstallAnswer(InstallStatus.REJECTED, f"there are {CERTIFICATE_ENTRIES} already, and no more fit")
        self._installed[root.fingerprint] = root.pem
        await self._shell.save([Put(Namespace.CERTIFICATE, root.fingerprint, root.pem)])
        self._changed(f"root certificate installed: {root.subject}")
        return InstallAnswer(InstallStatus.ACCEPTED)

    async def delete(self, wanted: CertificateHash, in_use: str) -> DeleteAnswer:
        """See ``StationPort.delete_certificate``."""
        root = next((each for each in self._own() if each.is_meant(wanted)), None)
        if root is None:
            if any(each.is_meant(wanted) for _, each in self._configured()):
                return DeleteAnswer(DeleteStatus.FAILED, "it belongs to the station's configuration")
            return DeleteAnswer(DeleteStatus.NOT_FOUND)
        if root.fingerprint == in_use:
            return DeleteAnswer(DeleteStatus.FAILED, "the present connection rests on it")
        await self._shell.save([Delete(Namespace.CERTIFICATE, root.fingerprint)])
        self._installed.pop(root.fingerprint, None)
        self._changed(f"root certificate deleted: {root.subject}")
        return DeleteAnswer(DeleteStatus.ACCEPTED)

    # ------------------------------------------------------------------------------------- inside

    def _must_be_in_time(self, root: Root) -> None:
        wall_ms = self._wall_ms()
        if wall_ms is None:
            return
        if wall_ms >= root.until_wall_ms:
            raise NotARoot("it has expired")
        if wall_ms < root.from_wall_ms:
            raise NotARoot("it is not valid yet")

    def _own(self) -> Iterator[Root]:
        """What was installed. Kept text that is a root no longer (damage, stricter rules) has no name to be told by."""
        for fingerprint, pem in list(self._installed.items()):
            try:
                yield read_root(pem)
            except NotARoot as error:
                log.error("an installed root cannot be told", fingerprint=fingerprint, reason=str(error))

    def _configured(self) -> list[tuple[CertificateUse, Root]]:
        """Roots of the configuration; of what else may stand in its files no CertID can be made."""
        found: list[tuple[CertificateUse, Root]] = []
        for use, text in self._files_now():
            try:
                found += [(use, root) for root in roots_in(text)]
            except NotARoot as error:
                log.warning("roots of the configuration cannot be told", use=use.value, reason=str(error))
        return found

    def _files_now(self) -> Iterator[tuple[CertificateUse, str]]:
        """Read each time: an image or a technician may change them."""
        for use, file in self._files:
            try:
                with file.open(errors="replace") as opened:
                    yield use, opened.read(_FILE_MAX_CHARS)
            except OSError as error:
                log.warning("roots of the configuration cannot be read", file=str(file), reason=str(error))

    def _changed(self, what: str) -> None:
        log.warning("trust changed", what=what)
        self._tell(SecurityFact("ReconfigurationOfSecurityParameters", what[:255]))
        self._shell.publish(TrustChanged(self.pems))
        self._count()
        self._shell.publish(SettingsChanged({str(_ENTRIES): self._model.text(_ENTRIES)}))

    def _count(self) -> None:
        self._model.put(_ENTRIES, str(len(self._installed)))


_NOT_TAKEN: Final = {
    CertificateUse.MANUFACTURER_ROOT: "roots of firmware come with the image and its configuration only",
    CertificateUse.V2G_ROOT: "this station does not speak ISO 15118",
    CertificateUse.MO_ROOT: "this station does not speak ISO 15118",
}
