"""Chains: what may sign, what may issue, what is revoked, and what time has to do with it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA224
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_der_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.firmware.bundle.head import judge_head
from agent.firmware.bundle.trust import (
    ExpiredSigners,
    JudgedTime,
    TrustPolicy,
    TrustStoreUnusable,
    check_chain,
    judged_time,
    load_revoked,
    load_roots,
)
from agent.firmware.errors import Refusal, UpdateRefused
from tests.unit.firmware.bundle.making import BytesSource, Forge
from tests.unit.firmware.bundle.pki import (
    CLOCK_1970,
    CODE_SIGNING,
    NOW,
    ROOT,
    SIGNER,
    STRANGER,
    Authority,
    certify,
    make_key,
    make_root,
    ms,
    policy,
)

ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
NAMES_ONLY = x509.NameConstraints([x509.DNSName("example.com")], None)


def refused(chain: tuple[x509.Certificate, ...], trusted: TrustPolicy) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as caught:
        check_chain(chain, trusted, "chain")
    return caught.value


# --------------------------------------------------------------------------------------------- chains


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa3072"])
def test_chain_of_any_allowed_key_leads_to_its_root(kind: Any) -> None:
    root = make_root(kind=kind)
    leaf = root.issue_ca(kind=kind).issue_ca(kind=kind).issue_leaf(kind=kind)
    assert check_chain(leaf.chain, policy(root), "chain") == root.certificate


def test_root_may_stand_at_the_end_of_the_chain() -> None:
    leaf = ROOT.issue_ca().issue_leaf()
    assert check_chain((*leaf.chain, ROOT.certificate), policy(), "chain") == ROOT.certificate


def test_an_intermediate_in_the_store_is_a_root() -> None:
    intermediate = make_root("Above").issue_ca("Trusted")
    leaf = intermediate.issue_leaf()
    assert check_chain(leaf.chain, policy(intermediate), "chain") == intermediate.certificate
    assert check_chain((leaf.certificate,), policy(intermediate), "chain") == intermediate.certificate


def test_second_root_of_the_same_name_is_tried() -> None:
    first, second = make_root("Twin"), make_root("Twin")
    leaf = second.issue_leaf()
    assert check_chain(leaf.chain, policy(first, second), "chain") == second.certificate


LEAVES: list[tuple[str, dict[str, Any], str]] = [
    ("no purpose", {"purposes": None}, "no extended key usage"),
    ("server", {"purposes": (SERVER,)}, "not code signing alone"),
    ("code and server", {"purposes": (CODE_SIGNING, SERVER)}, "not code signing alone"),
    ("any purpose", {"purposes": (ANY,)}, "not code signing alone"),
    ("code and any", {"purposes": (CODE_SIGNING, ANY)}, "not code signing alone"),
    ("a CA", {"ca": True}, "it is a CA"),
    ("key agreement only", {"usage": "none"}, "no digital signature"),
    ("issues only", {"usage": "issue"}, "no digital signature"),
    ("weak RSA", {"kind": "rsa1024"}, "RSA key of 1024 bits"),
    ("another curve", {"kind": "p521"}, "a key on secp521r1"),
    ("unknown critical", {"extra": [(UNKNOWN, True)]}, r"critical extension \(1.2.3.4\)"),
    ("critical names", {"extra": [(x509.SubjectAlternativeName([x509.DNSName("a")]), True)]}, "critical extension"),
    ("forged", {"signed_by": make_key()}, "did not issue it"),
    ("short hash", {"hashed": SHA224()}, "over sha224"),
]


@pytest.mark.parametrize(("flaws", "why"), [row[1:] for row in LEAVES], ids=[row[0] for row in LEAVES])
def test_leaf_that_may_not_sign(flaws: dict[str, Any], why: str) -> None:
    error = refused(ROOT.issue_leaf(**flaws).chain, policy())
    assert error.refusal is Refusal.CERTIFICATE
    assert error.where.startswith("chain[0]")
    with pytest.raises(UpdateRefused, match=why):
        raise error


def test_what_a_leaf_need_not_have() -> None:
    leaf = ROOT.issue_leaf(ca=None, usage=None, extra=[(UNKNOWN, False)])
    assert check_chain(leaf.chain, policy(), "chain") == ROOT.certificate


ISSUERS: list[tuple[str, dict[str, Any], str]] = [
    ("no CA", {"ca": False}, "no CA"),
    ("no constraints", {"ca": None}, "no CA"),
    ("may not issue", {"usage": "sign"}, "does not let it issue"),
    ("for servers", {"purposes": (SERVER,)}, "may not issue certificates for code signing"),
    ("weak RSA", {"kind": "rsa1024"}, "RSA key of 1024 bits"),
    ("unknown critical", {"extra": [(UNKNOWN, True)]}, "critical extension"),
    ("name constraints", {"extra": [(NAMES_ONLY, True)]}, "critical extension"),
]


@pytest.mark.parametrize(("flaws", "why"), [row[1:] for row in ISSUERS], ids=[row[0] for row in ISSUERS])
@pytest.mark.parametrize("what", ["intermediate", "root"])
def test_issuer_that_may_not_issue(flaws: dict[str, Any], why: str, what: str) -> None:
    root = make_root(**flaws) if what == "root" else ROOT
    issuer = root if what == "root" else root.issue_ca(**flaws)
    error = refused(issuer.issue_leaf().chain, policy(root))
    assert error.refusal is Refusal.CERTIFICATE
    with pytest.raises(UpdateRefused, match=why):
        raise error


def test_forged_intermediate_is_refused() -> None:
    forged = ROOT.issue_ca(signed_by=make_key())
    assert "did not issue it" in refused(forged.issue_leaf().chain, policy()).why


@pytest.mark.parametrize("purposes", [(CODE_SIGNING,), (ANY,), (SERVER, CODE_SIGNING)])
def test_issuer_limited_to_purposes_that_contain_code_signing(purposes: Any) -> None:
    leaf = ROOT.issue_ca(purposes=purposes).issue_leaf()
    assert check_chain(leaf.chain, policy(), "chain") == ROOT.certificate


def test_path_length_is_honoured() -> None:
    root = make_root(path_length=1)
    one = root.issue_ca("One", path_length=0)
    assert check_chain(one.issue_leaf().chain, policy(root), "chain") == root.certificate
    below = refused(one.issue_ca("Two").issue_leaf().chain, policy(root))
    assert "1 CAs below it, it allows 0" in below.why
    two = root.issue_ca("One").issue_ca("Two").issue_leaf()
    assert "2 CAs below it, it allows 1" in refused(two.chain, policy(root)).why
    assert "2 CAs below it, it allows 1" in refused((*two.chain, root.certificate), policy(root)).why


def test_stranger_is_refused_with_or_without_the_root() -> None:
    own_root = make_root("Made by the attacker")
    leaf = own_root.issue_leaf()
    assert "leads to no root" in refused(leaf.chain, policy()).why
    assert "leads to no root" in refused((*leaf.chain, own_root.certificate), policy()).why
    assert "leads to no root" in refused(leaf.chain, TrustPolicy(())).why
    named_alike = make_root("Root").issue_leaf()
    assert "did not issue it" in refused(named_alike.chain, policy()).why


def test_self_signed_leaf_is_refused() -> None:
    key = make_key()
    leaf = certify("Root", key, None, ca=False, purposes=(CODE_SIGNING,), usage="sign")
    assert refused((leaf,), policy()).refusal is Refusal.CERTIFICATE


def test_chain_must_be_in_order_and_whole() -> None:
    leaf = ROOT.issue_ca("One").issue_ca("Two").issue_leaf()
    signer, two, one = leaf.chain
    for chain in [(signer,), (signer, one), (signer, one, two), (two, one), (signer, two, one, STRANGER.above or one)]:
        flat = tuple(each for each in chain if isinstance(each, x509.Certificate))
        assert refused(flat, policy()).refusal is Refusal.CERTIFICATE


def test_a_cas_certificate_for_its_own_new_key_costs_no_path_length() -> None:
    root = make_root("Old and new", path_length=0)
    renewed = root.issue_ca("Old and new")
    leaf = renewed.issue_leaf()
    assert check_chain(leaf.chain, policy(root), "chain") == root.certificate


def test_key_of_another_kind_is_refused() -> None:
    key: Any = ed25519.Ed25519PrivateKey.generate()
    error = refused(ROOT.issue_leaf(key=key).chain, policy())
    assert "neither RSA nor on an elliptic curve" in error.why


# ----------------------------------------------------------------------------------------- revocation


@pytest.mark.parametrize("which", ["leaf", "intermediate", "root"])
@pytest.mark.parametrize("root_sent", [False, True])
def test_any_revoked_certificate_ends_the_chain(which: str, root_sent: bool) -> None:
    root = make_root()
    intermediate = root.issue_ca()
    leaf = intermediate.issue_leaf()
    gone = {"leaf": leaf, "intermediate": intermediate, "root": root}[which].fingerprint
    chain = (*leaf.chain, root.certificate) if root_sent else leaf.chain
    error = refused(chain, policy(root, revoked=frozenset({gone})))
    assert error.refusal is Refusal.REVOKED
    assert gone in error.why


def test_a_revoked_certificate_in_other_clothes_stays_revoked() -> None:
    """ECDSA signatures have a twin (the other s): the same certificate, other bytes, and its issuer's key agrees."""
    root = make_root()
    leaf = root.issue_leaf()
    r, s = decode_dss_signature(leaf.certificate.signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = _with_signature(leaf.certificate, encode_dss_signature(r, order - s))
    assert twin != leaf.certificate
    twin.verify_directly_issued_by(root.certificate)
    error = refused((twin,), policy(root, revoked=frozenset({leaf.fingerprint})))
    assert error.refusal is Refusal.REVOKED


def _with_signature(certificate: Certificate, signature: bytes) -> Certificate:
    """The certificate's content with another signature behind it (DER by hand)."""
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
    content = certificate.tbs_certificate_bytes + algorithm + bits
    return load_der_x509_certificate(b"\x30\x82" + len(content).to_bytes(2, "big") + content)


def test_revocation_list_is_read() -> None:
    text = f"# stolen 2026\n\n{SIGNER.fingerprint}  # by post\n{':'.join(['AB'] * 32)}\r\n"
    assert load_revoked(text) == {SIGNER.fingerprint, "ab" * 32}
    assert load_revoked("") == frozenset()


@pytest.mark.parametrize("line", ["xyz", "ab" * 31, "ab" * 33, "ab" * 32 + " ab", "\0", "0x" + "ab" * 31])
def test_bad_line_of_a_revocation_list_is_named(line: str) -> None:
    with pytest.raises(TrustStoreUnusable, match="revoked: line 3") as caught:
        load_revoked(f"# list\n{'ab' * 32}\n{line}\n{'cd' * 32}\n")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------------------------------- roots


def test_roots_are_read_from_a_text_with_words_around() -> None:
    text = f"subject=Root\n{ROOT.certificate_pem}\nnext\n{make_root('Two').certificate_pem}"
    assert len(load_roots(text.encode())) == 2


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("", "0 whole certificates"),
        (ROOT.certificate_pem[:-30], "0 whole certificates"),
        (ROOT.certificate_pem + ROOT.certificate_pem[:-30], "1 whole certificates"),
        (ROOT.certificate_pem.replace("M", "!", 3), "certificate 1: it cannot be read"),
        (ROOT.certificate_pem + SIGNER.certificate_pem, r"certificate 2 \('CN=Signer'\): it may not issue|no CA"),
        (make_root(kind="rsa1024").certificate_pem, "RSA key of 1024 bits"),
        (ROOT.certificate_pem * 65, "65 whole certificates"),
        ("x" * 300_000, "300000 bytes"),
    ],
    ids=range(8),
)
def test_roots_that_cannot_be_used_are_named(pem: str, why: str) -> None:
    with pytest.raises(TrustStoreUnusable, match=why):
        load_roots(pem.encode())


def test_threshold_below_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="unsigned"):
        TrustPolicy((ROOT.certificate,), threshold=0)


# ----------------------------------------------------------------------------------------------- time

BUILT = ms("2026-11-20T12:00:00")
DAY = 24 * 3600 * 1000


def verdict(signer: Authority, now: JudgedTime, **settings: Any) -> Refusal | None:
    """What becomes of a bundle that was built on 2026-11-20."""
    try:
        judge_head(BytesSource(Forge.new().build((signer,))), policy(**settings), now)
    except UpdateRefused as error:
        return error.refusal
    return None


def test_judged_time_is_the_latest_of_all() -> None:
    assert judged_time(clock_ms=0, clock_trusted=False, agent_built_ms=5, last_trusted_ms=7) == JudgedTime(7, False)
    assert judged_time(clock_ms=9, clock_trusted=True, agent_built_ms=5, last_trusted_ms=7) == JudgedTime(9, True)
    assert judged_time(clock_ms=1, clock_trusted=True, agent_built_ms=5, last_trusted_ms=4) == JudgedTime(5, True)


def test_certificate_that_expired_after_the_build_does_not_strand_a_device() -> None:
    signer = ROOT.issue_leaf(valid_to_ms=BUILT + DAY)
    later = JudgedTime(ms("2040-01-01"), trusted=True)
    assert verdict(signer, later) is None
    assert verdict(signer, later, expired_signers=ExpiredSigners.REFUSE) is Refusal.CERTIFICATE
    assert verdict(signer, CLOCK_1970, expired_signers=ExpiredSigners.REFUSE) is None


def test_certificates_are_judged_when_the_bundle_was_built() -> None:
    assert verdict(ROOT.issue_leaf(valid_to_ms=BUILT), NOW) is None
    assert verdict(ROOT.issue_leaf(valid_to_ms=BUILT - 1000), NOW) is Refusal.CERTIFICATE
    assert verdict(ROOT.issue_leaf(valid_from_ms=BUILT), NOW) is None
    assert verdict(ROOT.issue_leaf(valid_from_ms=BUILT + 1000), NOW) is Refusal.CERTIFICATE
    expired_between = ROOT.issue_ca(valid_to_ms=BUILT - DAY).issue_leaf()
    assert verdict(expired_between, NOW) is Refusal.CERTIFICATE
    assert verdict(expired_between, CLOCK_1970) is Refusal.CERTIFICATE


@pytest.mark.parametrize("root_sent", [False, True])
def test_dates_of_a_root_in_the_store_do_not_matter(root_sent: bool) -> None:
    root = make_root(valid_to_ms=ms("2026-01-01"))
    leaf = root.issue_leaf()
    signer = Authority(leaf.key, leaf.certificate, (root.certificate,) if root_sent else ())
    data = Forge.new().build((signer,))
    strict = policy(root, expired_signers=ExpiredSigners.REFUSE)
    assert judge_head(BytesSource(data), strict, NOW).version == "2.1.0"


@pytest.mark.parametrize("clock_ms", [0, BUILT - 365 * DAY])
def test_clock_that_nobody_vouches_for_refuses_nothing(clock_ms: int) -> None:
    assert verdict(SIGNER, JudgedTime(clock_ms, trusted=False)) is None


def test_build_more_than_a_day_ahead_of_a_trusted_clock_is_refused() -> None:
    assert verdict(SIGNER, JudgedTime(BUILT - DAY, trusted=True)) is None
    assert verdict(SIGNER, JudgedTime(BUILT - DAY - 1, trusted=True)) is Refusal.CERTIFICATE


def test_certificates_of_odd_dates_are_read() -> None:
    root = make_root(valid_from_ms=ms("1950-01-01"), valid_to_ms=ms("9999-12-31T23:59:59"))
    assert load_roots(root.certificate.public_bytes(Encoding.PEM)) == (root.certificate,)
    leaf = root.issue_leaf(valid_from_ms=ms("1950-01-01"), valid_to_ms=ms("9999-12-31T23:59:59"))
    judge_head(BytesSource(Forge.new().build((leaf,))), policy(root), NOW)
