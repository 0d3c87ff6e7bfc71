"""Gate B against attacks on a bundle's head: what was changed, mixed, cut off or made too large is refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.firmware.bundle.head import judge_head, read_head
from agent.firmware.bundle.layout import HEADER_BYTES, Header, parse_header
from agent.firmware.bundle.signatures import Algorithm, Signature, encode_signatures
from agent.firmware.bundle.trust import TrustPolicy
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Manifest
from agent.firmware.storage import FileStorage, opened
from tests.unit.firmware.bundle.making import BytesSource, Forge, image, make_bundle
from tests.unit.firmware.bundle.pki import (
    NOW,
    OTHER_SIGNER,
    POLICY,
    ROOT,
    SIGNER,
    STRANGER,
    Authority,
    Kind,
    make_root,
    policy,
)


def judged(data: bytes, trusted: TrustPolicy = POLICY) -> Manifest:
    return judge_head(BytesSource(data), trusted, NOW)


def refused(data: bytes, trusted: TrustPolicy = POLICY) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        judged(data, trusted)
    return caught.value


def entries(data: bytes) -> tuple[Signature, ...]:
    return read_head(BytesSource(data)).signatures


# ------------------------------------------------------------------------------------------ right ones


def test_head_is_judged_with_three_reads_and_no_more_bytes_than_its_own() -> None:
    source = BytesSource(make_bundle())
    manifest = judge_head(source, POLICY, NOW)
    header = parse_header(source.data[:HEADER_BYTES], source.size)
    assert source.reads == [
        (0, HEADER_BYTES),
        (HEADER_BYTES, header.manifest_length),
        (header.signatures_offset, header.signatures_length),
    ]
    assert manifest.total_size == source.size


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa3072"])
def test_every_kind_of_key_signs(kind: Kind) -> None:
    assert judged(make_bundle(signers=[ROOT.issue_leaf(kind=kind)])).version == "2.1.0"


@pytest.mark.parametrize("salt_length", [0, 20, 32, 222])
def test_pss_of_any_salt_length(salt_length: int) -> None:
    signer = ROOT.issue_leaf(kind="rsa2048")
    manifest = json.dumps(Forge.new().manifest).encode()
    signature = signer.sign(manifest, Algorithm.RSA_PSS_SHA256, salt_length)
    block = encode_signatures((Signature(Algorithm.RSA_PSS_SHA256, signer.chain, signature),))
    assert judged(Forge.new().build(block=block)).version == "2.1.0"


def test_pkcs1_only_where_it_is_allowed() -> None:
    signer = ROOT.issue_leaf(kind="rsa2048")
    block = encode_signatures((signer.entry(json.dumps(Forge.new().manifest).encode(), Algorithm.RSA_PKCS1_SHA256),))
    data = Forge.new().build(block=block)
    assert refused(data).refusal is Refusal.SIGNATURE
    assert judged(data, policy(allow_pkcs1=True)).version == "2.1.0"


# ------------------------------------------------------------------------------------ wrong signatures


def test_unsigned_bundle_is_refused() -> None:
    error = refused(make_bundle(signers=[]))
    assert (error.refusal, error.where) == (Refusal.SIGNATURE, "signature block")


def test_signature_over_other_bytes_is_refused() -> None:
    manifest = json.dumps(Forge.new().manifest).encode()
    for other in (manifest + b" ", manifest[:-1], b"", manifest.replace(b"2.1.0", b"2.1.1")):
        error = refused(Forge.new().build(block=encode_signatures((SIGNER.entry(other),))))
        assert error.refusal is Refusal.SIGNATURE
        assert error.where == "signature block: signatures[0]"


def test_signature_with_the_certificate_of_somebody_else_is_refused() -> None:
    manifest = json.dumps(Forge.new().manifest).encode()
    made = Signature(Algorithm.ECDSA_P256_SHA256, SIGNER.chain, STRANGER.sign(manifest))
    assert refused(Forge.new().build(block=encode_signatures((made,)))).refusal is Refusal.SIGNATURE


@pytest.mark.parametrize(
    ("kind", "claimed"),
    [
        ("p256", Algorithm.RSA_PSS_SHA256),
        ("p256", Algorithm.ECDSA_P384_SHA384),
        ("p384", Algorithm.ECDSA_P256_SHA256),
        ("rsa2048", Algorithm.ECDSA_P256_SHA256),
        ("rsa2048", Algorithm.RSA_PKCS1_SHA256),
    ],
)
def test_algorithm_must_be_what_it_says(kind: Kind, claimed: Algorithm) -> None:
    signer = ROOT.issue_leaf(kind=kind)
    signature = signer.sign(json.dumps(Forge.new().manifest).encode())
    data = Forge.new().build(block=encode_signatures((Signature(claimed, signer.chain, signature),)))
    assert refused(data, policy(allow_pkcs1=True)).refusal is Refusal.SIGNATURE


@pytest.mark.parametrize(
    ("signer", "refusal"),
    [
        (STRANGER, Refusal.CERTIFICATE),
        (ROOT.issue_leaf(ca=True), Refusal.CERTIFICATE),
        (ROOT.issue_leaf(purposes=None), Refusal.CERTIFICATE),
        (ROOT.issue_leaf(kind="rsa1024"), Refusal.CERTIFICATE),
        (ROOT.issue_leaf(kind="p521"), Refusal.CERTIFICATE),
    ],
    ids=["stranger", "CA", "no purpose", "weak key", "curve"],
)
def test_signer_who_may_not_sign_is_refused(signer: Authority, refusal: Refusal) -> None:
    manifest = json.dumps(Forge.new().manifest).encode()
    rsa = Algorithm.RSA_PSS_SHA256 if "rsa" in type(signer.key).__name__.lower() else Algorithm.ECDSA_P256_SHA256
    error = refused(Forge.new().build(block=encode_signatures((signer.entry(manifest, rsa),))))
    assert error.refusal is refusal


# ------------------------------------------------------------------------------------------- threshold


def test_two_signers_where_two_are_asked_for() -> None:
    two = policy(threshold=2)
    assert judged(make_bundle(signers=[SIGNER, OTHER_SIGNER]), two).version == "2.1.0"
    error = refused(make_bundle(), two)
    assert (error.refusal, error.why) == (Refusal.SIGNATURE, "1 different signers, this device asks for 2")


def test_same_signer_twice_is_one_signer() -> None:
    manifest = json.dumps(Forge.new().manifest).encode()
    renewed = ROOT.issue_leaf("New certificate, old key", key=SIGNER.key)
    two = policy(threshold=2)
    for second in (SIGNER.entry(manifest), renewed.entry(manifest)):
        data = Forge.new().build(block=encode_signatures((SIGNER.entry(manifest), second)))
        assert refused(data, two).refusal is Refusal.SIGNATURE
        assert judged(data).version == "2.1.0"


def test_strangers_signature_does_not_count_and_does_no_harm() -> None:
    data = Forge.new().build((STRANGER, SIGNER))
    assert judged(data).version == "2.1.0"
    assert refused(data, policy(threshold=2)).refusal is Refusal.CERTIFICATE


def test_bundle_for_an_old_root_and_a_new_one() -> None:
    old, new = make_root("Old"), make_root("New")
    data = make_bundle(signers=[old.issue_leaf(), new.issue_leaf()])
    for root in (old, new):
        assert judged(data, policy(root)).version == "2.1.0"


def test_signature_that_does_not_hold_ends_it_although_another_does() -> None:
    manifest = json.dumps(Forge.new().manifest).encode()
    for pair in (
        (SIGNER.entry(manifest), OTHER_SIGNER.entry(b"x")),
        (OTHER_SIGNER.entry(b"x"), SIGNER.entry(manifest)),
    ):
        assert refused(Forge.new().build(block=encode_signatures(pair))).refusal is Refusal.SIGNATURE


def test_revoked_signer_does_not_count_and_is_the_reason_given() -> None:
    gone = frozenset({SIGNER.fingerprint})
    assert refused(make_bundle(), policy(revoked=gone)).refusal is Refusal.REVOKED
    both = make_bundle(signers=[SIGNER, OTHER_SIGNER])
    assert judged(both, policy(revoked=gone)).version == "2.1.0"
    assert refused(both, policy(revoked=gone, threshold=2)).refusal is Refusal.REVOKED
    three = make_bundle(signers=[STRANGER, SIGNER])
    assert refused(three, policy(revoked=gone)).refusal is Refusal.REVOKED


# ------------------------------------------------------------------------------------------- mixing


def test_mixing_manifest_and_signatures_of_two_bundles_is_refused() -> None:
    one, two = Forge.new(), Forge.new()
    two.manifest["version"] = "2.1.1"
    first, second = (json.dumps(each.manifest).encode() for each in (one, two))
    for manifest, signed in ((first, second), (second, first)):
        block = encode_signatures((SIGNER.entry(signed),))
        assert refused(one.build(manifest_bytes=manifest, block=block)).refusal is Refusal.SIGNATURE


def test_header_of_another_bundle_is_refused() -> None:
    small, large = make_bundle(image(b"x" * 100)), make_bundle(image(b"x" * 60_000))
    assert refused(small[:HEADER_BYTES] + large[HEADER_BYTES:]).refusal is Refusal.MALFORMED
    same_size = make_bundle(version="2.1.0.1")
    mixed = same_size[:HEADER_BYTES] + make_bundle()[HEADER_BYTES:]
    assert refused(mixed).refusal is Refusal.SIGNATURE


def test_header_that_moves_the_ends_is_refused() -> None:
    data = make_bundle()
    good = parse_header(data[:HEADER_BYTES], len(data))
    length, block, size = good.manifest_length, good.signatures_length, good.total_size
    for header in (
        Header(length - 1, block, size),
        Header(length + 1, block, size),
        Header(length + 4096, block, size),
        Header(length, block - 1, size),
        Header(length, block + 1, size),
        Header(1, block, size),
        Header(length, 1, size),
    ):
        assert refused(header.encode() + data[HEADER_BYTES:]).refusal in (Refusal.MALFORMED, Refusal.SIGNATURE)


def test_file_cut_off_or_continued_is_refused_before_anything_is_believed() -> None:
    data = make_bundle()
    for length in (0, 1, 4095, 4096, len(data) // 2, len(data) - 1):
        source = BytesSource(data[:length])
        with pytest.raises(UpdateRefused) as caught:
            judge_head(source, POLICY, NOW)
        assert caught.value.refusal is Refusal.MALFORMED
        assert len(source.reads) == 1
    for more in (b"\0", b"x" * 5000):
        source = BytesSource(data + more)
        with pytest.raises(UpdateRefused, match="total size"):
            judge_head(source, POLICY, NOW)
        assert len(source.reads) == 1


class Endless:
    """A server that never stops sending."""

    size = 2**62

    def read(self, offset: int, length: int) -> bytes:
        assert length <= 4096
        return make_bundle()[offset : offset + length]


def test_endless_data_is_refused() -> None:
    with pytest.raises(UpdateRefused, match="total size"):
        judge_head(Endless(), POLICY, NOW)


def test_manifest_is_not_parsed_before_its_signature_holds() -> None:
    error = refused(Forge.new().build(manifest_bytes=b"[" * 3000, block=encode_signatures((SIGNER.entry(b""),))))
    assert error.refusal is Refusal.SIGNATURE
    assert refused(Forge.new().build(manifest_bytes=b"[" * 3000)).refusal is Refusal.MALFORMED


# ------------------------------------------------------------------------------------ the block's text


def block_refused(block: bytes) -> UpdateRefused:
    return refused(Forge.new().build(block=block))


def edited(**changes: Any) -> bytes:
    plain = json.loads(encode_signatures((SIGNER.entry(json.dumps(Forge.new().manifest).encode()),)))
    plain["signatures"][0] |= changes
    return json.dumps(plain).encode()


def test_the_edited_block_is_otherwise_right() -> None:
    assert judged(Forge.new().build(block=edited())).version == "2.1.0"


PEM = SIGNER.certificate_pem
ENTRY = "signature block: signatures[0]"


@pytest.mark.parametrize(
    ("block", "where", "refusal"),
    [
        (b"{}", "signature block", Refusal.MALFORMED),
        (b'{"signatures":{}}', "signature block: signatures", Refusal.MALFORMED),
        (b'{"signatures":[1]}', ENTRY, Refusal.MALFORMED),
        (b'{"signatures":[' + b"1," * 8 + b"1]}", "signature block: signatures", Refusal.MALFORMED),
        (b'{"signatures":[],"signatures":[]}', "signature block", Refusal.MALFORMED),
        (b"[" * 200, "signature block", Refusal.MALFORMED),
        (edited(x=1), ENTRY, Refusal.MALFORMED),
        (edited(algorithm="md5"), f"{ENTRY}.algorithm", Refusal.MALFORMED),
        (edited(algorithm=None), f"{ENTRY}.algorithm", Refusal.MALFORMED),
        (edited(chain=[]), f"{ENTRY}.chain", Refusal.MALFORMED),
        (edited(chain=[PEM] * 5), f"{ENTRY}.chain", Refusal.MALFORMED),
        (edited(chain=[1]), f"{ENTRY}.chain[0]", Refusal.MALFORMED),
        (edited(chain=[""]), f"{ENTRY}.chain[0]", Refusal.MALFORMED),
        (edited(chain=["x"]), f"{ENTRY}.chain[0]", Refusal.CERTIFICATE),
        (edited(chain=[PEM + " "]), f"{ENTRY}.chain[0]", Refusal.MALFORMED),
        (edited(chain=["x\n" + PEM]), f"{ENTRY}.chain[0]", Refusal.MALFORMED),
        (edited(chain=[PEM + PEM]), f"{ENTRY}.chain[0]", Refusal.MALFORMED),
        (edited(chain=[PEM.replace("\n", "\r\n")]), f"{ENTRY}.chain[0]", Refusal.MALFORMED),
        (edited(chain=[PEM[:100] + PEM[150:]]), f"{ENTRY}.chain[0]", Refusal.CERTIFICATE),
        (edited(signature=""), f"{ENTRY}.signature", Refusal.MALFORMED),
        (edited(signature="AAA"), f"{ENTRY}.signature", Refusal.MALFORMED),
        (edited(signature="AAB="), f"{ENTRY}.signature", Refusal.MALFORMED),
        (edited(signature="AA A="), f"{ENTRY}.signature", Refusal.MALFORMED),
        (edited(signature="A" * 1400), f"{ENTRY}.signature", Refusal.MALFORMED),
        (edited(signature="AAAA"), ENTRY, Refusal.SIGNATURE),
    ],
)
def test_fault_of_the_signature_block_is_named(block: bytes, where: str, refusal: Refusal) -> None:
    error = block_refused(block)
    assert (error.where, error.refusal) == (where, refusal)


# ----------------------------------------------------------------------------------------- real sizes


@pytest.mark.parametrize("gib", [2, 4])
def test_bundle_beyond_two_and_four_gib_is_judged_to_its_last_byte(tmp_path: Path, gib: int) -> None:
    """A sparse file: the last chunk lies where 31 and 32 bits end, and it is the signed one."""
    chunk = 4 * 2**20
    size = gib * 2**30 + 1000
    count = -(-size // chunk)
    forge = Forge.new(b"")
    zeros, last = hashlib.sha256(bytes(chunk)).hexdigest(), b"\1" * (size - (count - 1) * chunk)
    forge.payloads_offset = HEADER_BYTES + 256 * 1024 + 4096
    forge.manifest["payloads"][0] |= {
        "offset": forge.payloads_offset,
        "size": size,
        "chunk_size": chunk,
        "chunks": [zeros] * (count - 1) + [hashlib.sha256(last).hexdigest()],
    }
    manifest_bytes = json.dumps(forge.manifest).encode()
    block = encode_signatures((SIGNER.entry(manifest_bytes),))
    header = Header(len(manifest_bytes), len(block), forge.payloads_offset + size)
    file = tmp_path / "large"
    with file.open("wb") as out:
        out.write(header.encode() + manifest_bytes)
        out.seek(header.signatures_offset)
        out.write(block)
        out.seek(header.total_size - len(last))
        out.write(last)
    with opened(FileStorage().open(file)) as source:
        payload = judge_head(source, POLICY, NOW).payloads[0]
        offset = payload.chunk_offsets()[-1]
        assert offset > gib * 2**30
        assert source.read(offset, payload.chunks[-1].stored_size) == last
    os.truncate(file, header.total_size - gib * 2**30)
    with opened(FileStorage().open(file)) as source, pytest.raises(UpdateRefused, match="total size"):
        judge_head(source, POLICY, NOW)
