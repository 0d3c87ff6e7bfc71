"""Whom this device trusts with its firmware, from its configuration.

Charter: reads roots and revocation list anew for every judgement, so that a list put there today counts today. Used by
the installer, which decides, and by the station, which answers the CSMS before anything is downloaded. Source: firmware
reference 1.5 (policy per source). Imports ``cryptography`` when something is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.built import BUILD_TIME_MS
from agent.config.update import SourcePolicy, UpdateConfig
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.view import Origin

if TYPE_CHECKING:
    from agent.firmware.bundle.signer import FileSigner
    from agent.firmware.bundle.trust import JudgedTime, TrustPolicy


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

    def _policy(self, roots: Path, threshold: int) -> TrustPolicy:
        from agent.firmware.bundle.trust import (
            ExpiredSigners,
            TrustPolicy,
            TrustStoreUnusable,
            load_revoked,
            load_roots,
        )

        config = self._config
        try:
            revoked = frozenset[str]() if config.revoked is None else load_revoked(config.revoked.read_text())
            return TrustPolicy(
                roots=load_roots(roots.read_bytes()),
                threshold=threshold,
                allow_pkcs1=config.allow_pkcs1,
                revoked=revoked,
                expired_signers=ExpiredSigners.ACCEPT if config.allow_expired_signers else ExpiredSigners.REFUSE,
            )
        except (OSError, UnicodeDecodeError, TrustStoreUnusable) as error:
            raise SlotFailed(f"trust store ({roots})", str(error), "repair the file in the image") from error
