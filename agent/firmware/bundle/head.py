"""Gate B: read a bundle's head, and say whether its word is good.

Charter: three bounded reads (header, manifest, signature block), then the signatures over the manifest's exact bytes,
then the manifest itself. Until the signatures hold, nothing of the manifest is parsed, and of the file nothing but
header and signature block. What the manifest means for this device is ``device``; the payloads are ``chunks``.

Which signatures count: one that does not fit its own certificate means a bundle that was changed, and refuses it. One
whose certificates or algorithm are not accepted here is passed over, so that a bundle can be signed under an old root
and a new one; ``threshold`` different keys must remain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.firmware.bundle.layout import HEADER_BYTES, Header, parse_header
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.bundle.signatures import Algorithm, Signature, check_signature, parse_signatures
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Manifest
from agent.firmware.ports import Source

if TYPE_CHECKING:
    from agent.firmware.bundle.trust import JudgedTime, TrustPolicy


@dataclass(frozen=True, slots=True)
class Head:
    """What was read; nobody has vouched for it yet."""

    header: Header
    manifest_bytes: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class _Signer:
    where: str
    identity: bytes
    entry: Signature


def read_head(source: Source) -> Head:
    """Raises ``UpdateRefused``: malformed, too large, certificate (one that cannot be read); ``SourceLost``."""
    header = parse_header(source.read(0, min(HEADER_BYTES, source.size)), source.size)
    manifest_bytes = source.read(HEADER_BYTES, header.manifest_length)
    block = source.read(header.signatures_offset, header.signatures_length)
    return Head(header, manifest_bytes, parse_signatures(block))


def judge_head(source: Source, policy: TrustPolicy, now: JudgedTime) -> Manifest:
    """The manifest, if enough signers that this device trusts vouch for it. Raises ``UpdateRefused``: malformed, too
    large, signature, certificate, revoked; ``SourceLost``."""
    return judge(read_head(source), policy, now)


def judge(head: Head, policy: TrustPolicy, now: JudgedTime) -> Manifest:
    """As ``judge_head``, of what was read already: what is judged must be what is used."""
    signers = _trusted(_signers(head), policy)
    manifest = parse_manifest(head.manifest_bytes, head.header)
    _check_time(signers, manifest, policy, now)
    return manifest


def _signers(head: Head) -> list[_Signer]:
    """Everybody whose signature holds; one that does not hold ends it."""
    from agent.firmware.bundle.certificates import key_identity

    signers = []
    for index, entry in enumerate(head.signatures):
        where = f"signature block: signatures[{index}]"
        key = check_signature(entry, head.manifest_bytes, where)
        signers.append(_Signer(where, key_identity(key), entry))
    return signers


def _trusted(signers: list[_Signer], policy: TrustPolicy) -> list[_Signer]:
    from agent.firmware.bundle.trust import check_chain

    trusted, refusals = [], []
    for signer in signers:
        try:
            if signer.entry.algorithm is Algorithm.RSA_PKCS1_SHA256 and not policy.allow_pkcs1:
                why = f"{signer.entry.algorithm} is not allowed on this device"
                raise UpdateRefused(Refusal.SIGNATURE, signer.where, why, f"sign with {Algorithm.RSA_PSS_SHA256}")
            check_chain(signer.entry.chain, policy, f"{signer.where}.chain")
        except UpdateRefused as error:
            refusals.append(error)
        else:
            trusted.append(signer)
    _check_enough(trusted, refusals, policy)
    return trusted


def _check_time(signers: list[_Signer], manifest: Manifest, policy: TrustPolicy, now: JudgedTime) -> None:
    from agent.firmware.bundle.trust import AHEAD_MAX_MS, ExpiredSigners, check_expiry

    if now.trusted and manifest.built_ms > now.now_ms + AHEAD_MAX_MS:
        raise UpdateRefused(Refusal.CERTIFICATE, "manifest: built", "it lies in the future", "check the clocks")
    valid, refusals = [], []
    for signer in signers:
        where = f"{signer.where}.chain"
        try:
            check_expiry(signer.entry.chain, policy, manifest.built_ms, "the bundle was built", where)
            if policy.expired_signers is ExpiredSigners.REFUSE:
                check_expiry(signer.entry.chain, policy, max(now.now_ms, manifest.built_ms), "now", where)
        except UpdateRefused as error:
            refusals.append(error)
        else:
            valid.append(signer)
    _check_enough(valid, refusals, policy)


def _check_enough(signers: list[_Signer], refusals: list[UpdateRefused], policy: TrustPolicy) -> None:
    """Where too few are left, what happened to the others is the better reason: revocation first."""
    count = len({signer.identity for signer in signers})
    if count >= policy.threshold:
        return
    if refusals:
        raise min(refusals, key=lambda each: each.refusal is not Refusal.REVOKED)
    why = f"{count} different signers, this device asks for {policy.threshold}"
    raise UpdateRefused(Refusal.SIGNATURE, "signature block", why, "have more people sign it")
