"""How an update can fail, as typed errors: what, where, and what to do.

Charter: three families. ``UpdateRefused``: the bundle, its signer or its sender is not acceptable; trying the
same again will not help. ``SourceLost``: the bytes did not come; trying again may. ``SlotFailed``: this machine's
storage or boot loader did not do what it was told.
"""

from __future__ import annotations

import enum


class Refusal(enum.StrEnum):
    """Why a bundle is refused. The spelling is told to people and machines."""

    MALFORMED = "malformed"  # header, manifest or signature block is not what the format says
    SIGNATURE = "signature"  # the bundle's own signatures do not hold, or are too few
    CERTIFICATE = "certificate"  # chain, purpose or validity of a signer
    REVOKED = "revoked"  # a certificate in the chain is on the revocation list
    FILE_SIGNATURE = "file_signature"  # OCPP's signature over the whole file does not hold
    PRODUCT = "product"  # made for another product or hardware revision
    DOWNGRADE = "downgrade"  # its security epoch is below the device's
    REQUIREMENT = "requirement"  # needs a newer agent, boot loader or microcontroller first
    TOO_LARGE = "too_large"  # does not fit the slot, or a limit of the format
    CORRUPT = "corrupt"  # bytes of a payload do not have the hash that the manifest promises
    UNSUPPORTED = "unsupported"  # well-formed, but this device has no place for it
    POLICY = "policy"  # this source may not bring such an update
    BUSY = "busy"  # the running image is not confirmed yet, or another update is under way
    REPLACED = "replaced"  # a download that made way for somebody on site


class UpdateRefused(Exception):
    """The update is not acceptable. ``where`` names the part (``manifest: payloads[0].size``)."""

    def __init__(self, refusal: Refusal, where: str, why: str, remedy: str = "") -> None:
        super().__init__(f"{where}: {why}" + (f"; {remedy}" if remedy else ""))
        self.refusal, self.where, self.why, self.remedy = refusal, where, why, remedy


class SourceLost(Exception):
    """The bundle's bytes cannot be had. ``retryable``: another try may succeed (link, server), else not
    (no such file, another file under the same name)."""

    def __init__(self, why: str, *, retryable: bool) -> None:
        super().__init__(why)
        self.why, self.retryable = why, retryable


class SlotFailed(Exception):
    """Storage or boot loader failed; ``what`` names file or device."""

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {why}" + (f"; {remedy}" if remedy else ""))
        self.what, self.why, self.remedy = what, why, remedy
