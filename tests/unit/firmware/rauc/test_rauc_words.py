"""RAUC's sentences, as 1.8 said them (marked so) or as the current sources have them, and what we make of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.engines.rauc_words import MAX_WORDS, MEANINGS, failure, says_busy, says_no_primary
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused

MISMATCH = "Installation error: Compatible mismatch: Expected 'evsed-test' but bundle manifest has 'other'"

SEEN_IN_1_8 = [
    ("signature verification failed: Verify error: self-signed certificate", Refusal.CERTIFICATE),
    ("signature verification failed: Verify error: certificate has expired", Refusal.CERTIFICATE),
    ("signature verification failed: Verify error: certificate is not yet valid", Refusal.CERTIFICATE),
    ("signature verification failed: Verify error: certificate revoked", Refusal.REVOKED),
    ("signature verification failed: Verify error: unable to get certificate CRL", None),
    ("signature verification failed: error:1700009E:CMS routines::verification failure", Refusal.SIGNATURE),
    (MISMATCH, Refusal.PRODUCT),
    ("Installation error: No target slot for class appfs of image rootfs.img found", Refusal.UNSUPPORTED),
    ("Bundle format 'plain' not allowed", Refusal.UNSUPPORTED),
    ("Invalid bundle format: Signature size (15985082919677208159) exceeds bundle size", Refusal.MALFORMED),
    ("Invalid bundle format: Signature size is 0", Refusal.MALFORMED),
    (
        "Invalid bundle format: Failed to seek to end of bundle: Error seeking in file: Invalid argument",
        Refusal.MALFORMED,
    ),
    (
        "Installation error: Failed updating slot rootfs.1: Failed splicing data: "
        "Error writing to file descriptor: No space left on device",
        Refusal.TOO_LARGE,
    ),
    (
        "Invalid bundle format: Failed to open bundle for reading: "
        "Error opening file /spool/x.raucb: No such file or directory",
        None,
    ),
    ("Failed mounting bundle: Failed to open /dev/mapper/control: No such file or directory", None),
    ("already processing a different method", Refusal.BUSY),
    ("Already processing a different method", Refusal.BUSY),
]

IN_THE_SOURCES = [
    ("signature verification failed: Verify error:unable to get local issuer certificate", Refusal.CERTIFICATE),
    ("signature verification failed: Verify error:unsupported certificate purpose", Refusal.CERTIFICATE),
    ("Failed to verify X509 cert: certificate has expired", Refusal.CERTIFICATE),
    ("No signature CN matching allowed-signer-cns found", Refusal.CERTIFICATE),
    ("failed to load CA file '/etc/rauc/ca.pem' and/or directory '(null)'", None),
    ("unexpected content provided for inline signature", Refusal.SIGNATURE),
    (
        "Version mismatch: Expected at least '2.0' but bundle manifest has '1.9'",
        Refusal.DOWNGRADE,
    ),
    ("Bundle rejected: Hook returned: 'needs boot loader 2024'", Refusal.REQUIREMENT),
    ("Bundle format 'crypt' not allowed", Refusal.UNSUPPORTED),
    ("Refusing to install unencrypted crypt bundles", Refusal.UNSUPPORTED),
    ("Encrypted bundle detected, but no decryption key given", Refusal.UNSUPPORTED),
    ("Failed to decrypt bundle: Failed to decrypt CMS EnvelopedData: no recipient", Refusal.UNSUPPORTED),
    ("Installation error: Target slot for class 'rescue' of image 'r.img' is readonly", Refusal.UNSUPPORTED),
    ("Installation error: Failed to find matching variant of image for slot class 'rootfs'", Refusal.UNSUPPORTED),
    ("Installation error: Unsupported image rootfs.tar for slot type raw", Refusal.UNSUPPORTED),
    ("Installation error: Size of image (9) does not fit to slot size 8", Refusal.TOO_LARGE),
    ("bundle payload is corrupted", Refusal.CORRUPT),
    ("Invalid bundle format: Signature data is no valid CMS", Refusal.MALFORMED),
    ("Failed to load manifest: Missing key 'compatible'", Refusal.MALFORMED),
    ("Failed mounting bundle: Missing hash for verity bundle", Refusal.MALFORMED),
    ("could not ensure exclusive bundle access (F_SETLEASE): EAGAIN: existing open file descriptor", None),
    ("Installation error: Destination device '/dev/mmcblk0p3' already mounted", None),
    ("Installation error: Failed marking slot rootfs.1 non-bootable: no fw_setenv", None),
    ("Installation error: Failed updating slot rootfs.1: Error reading from file: Input/output error", None),
]


@pytest.mark.parametrize(("words", "refusal"), SEEN_IN_1_8 + IN_THE_SOURCES)
def test_a_sentence_becomes_the_error_that_it_is(words: str, refusal: Refusal | None) -> None:
    error = failure(words)
    assert words in str(error)
    assert (error.refusal if isinstance(error, UpdateRefused) else None) is refusal
    assert isinstance(error, UpdateRefused) or error.what == "RAUC"


def test_every_row_is_the_first_that_fits_some_sentence() -> None:
    """A row that an earlier one hides would be a mistake that no other test sees."""
    first = {
        next(row for row in MEANINGS if row.pattern.search(words))
        for words, _ in SEEN_IN_1_8 + IN_THE_SOURCES
        if any(row.pattern.search(words) for row in MEANINGS)
    }
    assert first == set(MEANINGS)


def test_nothing_said_is_said() -> None:
    error = failure(" \n")
    assert isinstance(error, SlotFailed)
    assert error.why == "failed without a word"


@given(st.text())
def test_any_text_is_an_error_of_one_bounded_line(words: str) -> None:
    error = failure(words * 50)
    assert len(error.why) <= MAX_WORDS
    assert "\n" not in error.why


def test_what_means_busy() -> None:
    assert says_busy("already processing a different method")
    assert not says_busy("Failed getting primary slot: Unable to find primary boot slot")


@pytest.mark.parametrize(
    ("words", "none_left"),
    [
        ("Failed getting primary slot: Unable to obtain primary element\n", True),  # barebox
        ("Failed getting primary slot: Unable to find primary boot slot\n", True),  # U-Boot
        ("Failed getting primary slot: No bootable slot found in ORDER 'A B'\n", True),  # GRUB
        ("Failed getting primary slot: Did not find primary boot entry!\n", True),  # EFI
        ("Failed getting primary slot: custom backend: '(null)' does not match any configured bootname\n", True),
        ("Failed getting primary slot: custom backend: /boot.sh failed with exit code 5\n", False),
        ("Failed getting primary slot: Obtaining primary entry from bootloader 'noop' not supported yet\n", False),
        ("Failed getting primary slot: Failed to start fw_printenv: no such file\n", False),
    ],
)
def test_no_slot_left_is_told_from_a_boot_loader_that_cannot_be_asked(words: str, none_left: bool) -> None:
    assert says_no_primary(words) is none_left
