"""What RAUC's error texts mean to us: a table, since RAUC tells every failure as one sentence and the number 1.

Charter: pure. Sentence in, ``UpdateRefused`` or ``SlotFailed`` out; the sentence itself always stays in the error. What
the table does not know is a ``SlotFailed``: nobody is told that a bundle is bad because a text was not understood.
Sources: the texts of RAUC 1.8 (Debian 12; most rows were provoked, see docs/adr/0018-rauc.md) and those of the current
sources of bundle.c, signature.c, install.c, update_handler.c, manifest.c, bootchooser.c, service.c; OpenSSL's
X509_verify_cert_error_string(3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused

MAX_WORDS: Final = 500
"""Characters of a sentence that are kept."""

LOOK: Final = "look at journalctl -u rauc"


@dataclass(frozen=True, slots=True)
class Meaning:
    """``pattern`` is looked for in RAUC's sentence. ``refusal`` None: it is this device that fails, not the bundle."""

    pattern: re.Pattern[str]
    refusal: Refusal | None
    remedy: str = ""


def _row(pattern: str, refusal: Refusal | None, remedy: str = "") -> Meaning:
    return Meaning(re.compile(pattern), refusal, remedy)


_TIME_REMEDY: Final = "check the clock; use-bundle-signing-time=true in RAUC's [keyring] judges by the signing time"
_CRL_REMEDY: Final = "renew the revocation list in RAUC's keyring"
_FORMAT_REMEDY: Final = "see bundle-formats in RAUC's system.conf"
_CLASS_REMEDY: Final = "compare the bundle's images with the slots in RAUC's system.conf"
_MAPPER_REMEDY: Final = "the kernel needs CONFIG_BLK_DEV_DM and CONFIG_DM_VERITY for this bundle format"

MEANINGS: Final[tuple[Meaning, ...]] = (
    _row(r"[Aa]lready processing a different method|rauc busy", Refusal.BUSY, "try again later"),
    # Chain, purpose and time of the signer. A list that is missing or too old is this device's trouble.
    _row(r"certificate revoked", Refusal.REVOKED),
    _row(r"unable to get certificate CRL|CRL has expired|CRL is not yet valid", None, _CRL_REMEDY),
    _row(r"certificate has expired|certificate is not yet valid", Refusal.CERTIFICATE, _TIME_REMEDY),
    _row(r"signature verification failed: Verify error|Failed to verify X509 cert:", Refusal.CERTIFICATE),
    _row(r"No signature CN matching allowed-signer-cns found", Refusal.CERTIFICATE),
    _row(r"failed to load CA file|No keyring file or directory", None, "see [keyring] in RAUC's system.conf"),
    _row(r"signature verification failed|Unsupported number of signers", Refusal.SIGNATURE),
    _row(r"Failed to obtain signer|for (detached|inline) signature", Refusal.SIGNATURE),
    # What fits this device.
    _row(r"Compatible mismatch", Refusal.PRODUCT),
    _row(r"Version mismatch: Expected at least", Refusal.DOWNGRADE),
    _row(r"Bundle rejected: ", Refusal.REQUIREMENT, "the bundle's own install check says what is missing"),
    _row(r"Bundle format '\w+' not (allowed|supported)", Refusal.UNSUPPORTED, _FORMAT_REMEDY),
    _row(r"Refusing to install unencrypted crypt bundles", Refusal.UNSUPPORTED, _FORMAT_REMEDY),
    _row(r"Encrypted bundle detected, but no decryption key", Refusal.UNSUPPORTED, "see [encryption] in system.conf"),
    _row(r"Failed to decrypt bundle", Refusal.UNSUPPORTED, "it was encrypted for other devices"),
    _row(r"No target (slot|repo) |Target slot for class .* is readonly", Refusal.UNSUPPORTED, _CLASS_REMEDY),
    _row(r"Failed to find matching variant|No installable image found", Refusal.UNSUPPORTED, _CLASS_REMEDY),
    _row(r"Unsupported image .* for slot type", Refusal.UNSUPPORTED, _CLASS_REMEDY),
    _row(r"Failed updating slot .*No space left on device|does not fit to slot size", Refusal.TOO_LARGE),
    # The file. That it cannot be opened comes under the same heading, but is not its fault.
    _row(r"bundle payload is corrupted", Refusal.CORRUPT),
    _row(r"Failed to open bundle for reading|is not a regular file", None, "the update service left no such file"),
    _row(r"could not ensure exclusive bundle access|failed to take ownership|bundle is stored on an un", None, ""),
    _row(r"Invalid bundle format: |failed to parse signature|inline signature", Refusal.MALFORMED),
    _row(r"Failed to (load|check) manifest", Refusal.MALFORMED),
    _row(r"(Missing|Invalid|Unaligned|Unexpected) (key|hash|salt|size|digest) ", Refusal.MALFORMED),
    _row(r"/dev/mapper/control", None, _MAPPER_REMEDY),
)
"""The first row that fits counts."""

_NO_PRIMARY: Final = re.compile(
    r"Unable to (obtain primary element|find primary boot slot|detect primary slot)"
    r"|No bootable slot found in ORDER|Did not find primary boot entry|does not match any configured bootname"
)


def clip(words: str) -> str:
    """A sentence of RAUC as it may stand in an error of ours: one line, of bounded length."""
    return " ".join(words.split())[:MAX_WORDS]


def failure(words: str) -> UpdateRefused | SlotFailed:
    """The error that RAUC's sentence is."""
    words = clip(words) or "failed without a word"
    for meaning in MEANINGS:
        if meaning.pattern.search(words):
            if meaning.refusal is None:
                return SlotFailed("RAUC", words, meaning.remedy or LOOK)
            return UpdateRefused(meaning.refusal, "RAUC", words, meaning.remedy)
    return SlotFailed("RAUC", words, LOOK)


def says_busy(words: str) -> bool:
    return MEANINGS[0].pattern.search(words) is not None


def says_no_primary(words: str) -> bool:
    """RAUC could ask the boot loader, and no slot is left to boot. Other sentences: it could not ask."""
    return _NO_PRIMARY.search(words) is not None
