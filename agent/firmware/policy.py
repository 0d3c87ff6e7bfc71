"""Whom this device trusts with its firmware, from its configuration.

Charter: reads roots and revocation list anew for every judgement, so that a list put there today counts today. Used by
the installer, which decides, and by the station, which answers the CSMS before anything is downloaded, and asks of a
new image whether it could judge the next one. Source: firmware reference 1.5 (policy per source). Imports
``cryptography`` when something is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.config.built import BUILD_TIME_MS
from agent.config.update import EngineKind, SourcePolicy, UpdateConfig
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.view import Origin

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from agent.firmware.bundle.signer import FileSigner
    from agent.firmware.bundle.trust import JudgedTime, TrustPolicy

_JUDGES_ORDERS: Final = "agent.firmware.bundle.signer"
_JUDGE_BUNDLES: Final = ("agent.firmware.bundle.head", "agent.firmware.bundle.device", "agent.firmware.engines.native")


class DevicePolicy:
    """See the module. Methods raise ``UpdateRefused``; ``SlotFailed`` where the device's own files are unusable."""

    def __init__(self, config: UpdateConfig, wall_ms: Callable[[], int]) -> None:
        self._config = config
        self._wall_ms = wall_ms

    def signer(self, certificate: str, trusted_wall_ms: int) -> FileSigner:
        """The owner of the certificate in a signed OCPP order, if it is acceptable (gate A)."""
        from agent.firmware.bundle.signer import check_signing_certificate

        config = self._config
        policy = self._policy(config.manufacturer_roots or config.roots, threshold=1)
        return check_signing_certificate(certificate, policy, self.time(trusted_wall_ms))

    def check_unsigned(self, origin: Origin) -> None:
        """An order that nobody signed: is the bundle's own signature enough?"""
        config = self._config
        if (config.local if origin is Origin.LOCAL else config.plain) is SourcePolicy.REFUSE:
            name = "update.local" if origin is Origin.LOCAL else "update.plain"
            why = f"this station takes no {'local' if origin is Origin.LOCAL else 'unsigned OCPP'} updates"
            raise UpdateRefused(Refusal.POLICY, name, why, "sign the order, or change the configuration")

    def of_bundles(self) -> TrustPolicy:
        """For the signatures of bundles (gate B)."""
        return self._policy(self._config.roots, self._config.threshold)

    def time(self, trusted_wall_ms: int) -> JudgedTime:
        """The machine's clock is never vouched for here: the installer cannot know who set it."""
        from agent.firmware.bundle.trust import judged_time

        return judged_time(
            clock_ms=self._wall_ms(),
            clock_trusted=False,
            agent_built_ms=BUILD_TIME_MS,
            last_trusted_ms=trusted_wall_ms,
        )

    def faults(self) -> Iterator[tuple[str, SlotFailed]]:
        """Why no update could be judged here, whatever it brings: the setting that names what is at fault, and what is
        wrong with it. An image with such a fault would be the last one that this device ever takes."""
        config = self._config
        ours = config.engine is EngineKind.NATIVE  # RAUC judges its bundles by a keyring of its own
        try:
            for module in (_JUDGES_ORDERS, *(_JUDGE_BUNDLES if ours else ())):
                import_module(module)
        except ImportError as error:
            remedy = "build the image anew, with all that it needs"
            yield "engine", SlotFailed("what judges updates", str(error), remedy)
            return
        used = config.roots if ours or config.manufacturer_roots is None else None
        for name, read, file in (
            ("roots", _roots, used),
            ("manufacturer_roots", _roots, config.manufacturer_roots),
            ("revoked", _revoked, config.revoked),
        ):
            try:
                if file is not None:
                    read(file)
            except SlotFailed as failed:
                yield name, failed

    def _policy(self, roots: Path, threshold: int) -> TrustPolicy:
        from agent.firmware.bundle.trust import ExpiredSigners, TrustPolicy

        config = self._config
        return TrustPolicy(
            roots=_roots(roots),
            threshold=threshold,
            allow_pkcs1=config.allow_pkcs1,
            revoked=frozenset() if config.revoked is None else _revoked(config.revoked),
            expired_signers=ExpiredSigners.ACCEPT if config.allow_expired_signers else ExpiredSigners.REFUSE,
        )


def _roots(file: Path) -> tuple[Certificate, ...]:
    from agent.firmware.bundle.trust import load_roots

    with _trust_store(file):
        return load_roots(file.read_bytes())


def _revoked(file: Path) -> frozenset[str]:
    from agent.firmware.bundle.trust import load_revoked

    with _trust_store(file):
        return load_revoked(file.read_text())


@contextmanager
def _trust_store(file: Path) -> Iterator[None]:
    from agent.firmware.bundle.trust import TrustStoreUnusable

    try:
        yield
    except (OSError, UnicodeDecodeError, TrustStoreUnusable) as error:
        raise SlotFailed(f"trust store ({file})", str(error), "repair the file in the image") from error
