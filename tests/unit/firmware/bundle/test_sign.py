"""Signing at the maker's desk: by key, by openssl, by any command; nothing wrong is ever attached."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from agent.firmware.bundle.head import judge_head, read_head
from agent.firmware.bundle.make import NotMade
from agent.firmware.bundle.sign import attach, load_chain, sign, sign_by_command, signing_input
from agent.firmware.bundle.signatures import Algorithm, Signature, algorithms_of
from agent.firmware.bundle.trust import TrustPolicy
from agent.firmware.errors import UpdateRefused
from agent.firmware.manifest import Manifest
from tests.unit.firmware.bundle.making import BytesSource, Forge, make_bundle
from tests.unit.firmware.bundle.pki import NOW, OTHER_SIGNER, POLICY, ROOT, SIGNER, STRANGER, Authority, Kind, policy

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    file = tmp_path / "bundle"
    file.write_bytes(make_bundle(signers=[]))
    return file


def judged(bundle: Path, trusted: TrustPolicy = POLICY) -> Manifest:
    return judge_head(BytesSource(bundle.read_bytes()), trusted, NOW)


# ---------------------------------------------------------------------------------------------- a key


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("p256", None),
        ("p384", None),
        ("rsa2048", None),
        ("rsa2048", Algorithm.RSA_PKCS1_SHA256),
        ("p256", Algorithm.ECDSA_P256_SHA256),
    ],
)
def test_key_in_a_file_signs(bundle: Path, kind: Kind, algorithm: Algorithm | None) -> None:
    signer = ROOT.issue_ca().issue_leaf(kind=kind)
    sign(bundle, signer.key_pem, signer.chain_pem, algorithm)
    assert judged(bundle, policy(allow_pkcs1=algorithm is Algorithm.RSA_PKCS1_SHA256)).version == "2.1.0"


def test_second_signer_is_added_to_the_first(bundle: Path) -> None:
    for signer in (SIGNER, OTHER_SIGNER):
        sign(bundle, signer.key_pem, signer.chain_pem)
    assert judged(bundle, policy(threshold=2)).version == "2.1.0"
    before = bundle.read_bytes()
    with pytest.raises(NotMade, match="signed it already"):
        sign(bundle, SIGNER.key_pem, SIGNER.chain_pem)
    assert bundle.read_bytes() == before


def test_wrong_keys_and_chains_attach_nothing(bundle: Path) -> None:
    before = bundle.read_bytes()
    rsa = ROOT.issue_leaf(kind="rsa2048")
    locked = SIGNER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    for key, chain, why in (
        (OTHER_SIGNER.key_pem, SIGNER.chain_pem, "not the signature of this manifest by this certificate"),
        (rsa.key_pem, SIGNER.chain_pem, "it cannot sign with ecdsa-p256-sha256"),
        (SIGNER.key_pem, rsa.chain_pem, "not the signature"),
        (locked, SIGNER.chain_pem, "it has a password"),
        (b"x", SIGNER.chain_pem, "no private key in PEM"),
        (SIGNER.key_pem, b"", "0 certificates"),
        (SIGNER.key_pem, SIGNER.chain_pem * 5, "5 certificates"),
        (ROOT.key_pem, ROOT.chain_pem, "no extended key usage"),
    ):
        with pytest.raises((NotMade, UpdateRefused), match=why):
            sign(bundle, key, chain)
    with pytest.raises(NotMade, match="use rsa-pss-sha256 or rsa-pkcs1-sha256"):
        sign(bundle, rsa.key_pem, rsa.chain_pem, Algorithm.ECDSA_P256_SHA256)
    assert bundle.read_bytes() == before


def test_room_for_signatures_is_limited_and_never_moves_payloads(bundle: Path) -> None:
    """A bundle by hand with little room; eight signatures are the end of any bundle."""
    signers = [ROOT.issue_leaf(f"Signer {number}") for number in range(9)]
    for signer in signers[:8]:
        attach(bundle, signer.entry(signing_input(bundle)))
    assert judged(bundle, policy(threshold=8)).version == "2.1.0"
    before = bundle.read_bytes()
    with pytest.raises(UpdateRefused, match="9 signatures"):
        attach(bundle, signers[8].entry(signing_input(bundle)))
    assert bundle.read_bytes() == before


def test_signatures_that_do_not_fit_the_room_are_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_bytes(Forge.new().build())  # 4096 bytes of room
    before = bundle.read_bytes()
    long_chain = ROOT.issue_ca("One", kind="rsa3072").issue_ca("Two", kind="rsa3072").issue_leaf(kind="rsa3072")
    with pytest.raises(NotMade, match="it has room for 4096"):
        attach(bundle, long_chain.entry(signing_input(bundle)))
    assert bundle.read_bytes() == before


def test_signing_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"\xff\xd8" * 5000)
    with pytest.raises(UpdateRefused, match="not a bundle"):
        sign(other, SIGNER.key_pem, SIGNER.chain_pem)
    entry = Signature(Algorithm.ECDSA_P256_SHA256, SIGNER.chain, b"")
    with pytest.raises(FileNotFoundError):
        attach(tmp_path / "absent", entry)


def test_chain_file_may_hold_words_around_the_certificates() -> None:
    text = b"subject=CN = Signer\n" + SIGNER.chain_pem + b"\nissuer\n" + ROOT.chain_pem
    assert load_chain(text) == (SIGNER.certificate, ROOT.certificate)


# ------------------------------------------------------------------------------------------ a command


def key_file(folder: Path, signer: Authority) -> Path:
    file = folder / "a key.pem"
    file.write_bytes(signer.key_pem)
    return file


@needs_openssl
@pytest.mark.wire
@pytest.mark.parametrize(
    ("kind", "options", "algorithm"),
    [
        ("p256", "-sha256", None),
        ("p384", "-sha384", None),
        ("rsa2048", "-sha256 -sigopt rsa_padding_mode:pss", None),
        ("rsa2048", "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:0", Algorithm.RSA_PSS_SHA256),
        ("rsa2048", "-sha256", Algorithm.RSA_PKCS1_SHA256),
    ],
)
def test_openssl_signs_by_command(bundle: Path, kind: Kind, options: str, algorithm: Algorithm | None) -> None:
    signer = ROOT.issue_leaf(kind=kind)
    command = f"openssl dgst {options} -sign '{key_file(bundle.parent, signer)}' -out {{out}} {{in}}"
    sign_by_command(bundle, command, signer.chain_pem, algorithm)
    assert judged(bundle, policy(allow_pkcs1=True)).version == "2.1.0"
    (entry,) = read_head(BytesSource(bundle.read_bytes())).signatures
    assert entry.algorithm is (algorithm or algorithms_of(signer.key.public_key())[0])


@needs_openssl
@pytest.mark.wire
def test_manifest_cut_out_with_plain_tools_can_be_signed_and_verified(bundle: Path) -> None:
    """As the document says it: bytes 4096 on, as many as the header says at byte 12."""
    folder, signer = bundle.parent, ROOT.issue_leaf()
    length = int.from_bytes(bundle.read_bytes()[12:16], "little")
    script = f"""
        set -e
        dd if=bundle of=manifest bs=1 skip=4096 count={length} status=none
        openssl dgst -sha256 -sign '{key_file(folder, signer)}' -out signature manifest
    """
    subprocess.run(["sh", "-c", script], cwd=folder, check=True)
    assert (folder / "manifest").read_bytes() == signing_input(bundle)
    sign_by_command(bundle, f"cp {folder}/signature {{out}}", signer.chain_pem)
    assert judged(bundle).version == "2.1.0"


def script(folder: Path, body: str) -> str:
    """A command that runs Python: ``source`` and ``result`` are the two paths."""
    file = folder / "signer.py"
    file.write_text(f"import sys\nfrom pathlib import Path\nsource, result = map(Path, sys.argv[1:3])\n{body}\n")
    return f"{sys.executable} {file} {{in}} {{out}}"


@pytest.mark.wire
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("sys.exit(3)", "it ended with 3"),
        ("pass", "left no signature"),
        ("result.write_bytes(b'')", "left no signature"),
        ("result.write_bytes(b'x' * 5000)", "left no signature"),
        ("result.mkdir()", "left no signature"),
        ("result.write_bytes(b'x' * 70)", "was not accepted as ecdsa-p256-sha256"),
        ("source.write_bytes(b'x'); result.write_bytes(b'x')", "was not accepted"),
    ],
)
def test_command_that_does_not_sign_attaches_nothing(bundle: Path, body: str, why: str) -> None:
    before = bundle.read_bytes()
    with pytest.raises(NotMade, match=why):
        sign_by_command(bundle, script(bundle.parent, body), SIGNER.chain_pem)
    assert bundle.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "{out} is missing"),
        ("sign {in}", "{out} is missing"),
        ("sign '{in} {out}", "cannot be taken apart"),
        ("/nonexistent/signer {in} {out}", "cannot be started"),
    ],
)
def test_command_that_cannot_run_is_named(bundle: Path, command: str, why: str) -> None:
    with pytest.raises(NotMade, match=why):
        sign_by_command(bundle, command, SIGNER.chain_pem)


@pytest.mark.wire
def test_command_is_started_without_a_shell(bundle: Path) -> None:
    marker = bundle.parent / "shell-was-here"
    with pytest.raises(NotMade):
        sign_by_command(bundle, f"echo {{in}} {{out}} ; touch {marker}", SIGNER.chain_pem)
    with pytest.raises(NotMade):
        sign_by_command(bundle, f"echo {{in}} {{out}} $(touch {marker})", SIGNER.chain_pem)
    assert not marker.exists()


def test_strangers_may_sign_but_nobody_need_trust_them(bundle: Path) -> None:
    sign(bundle, STRANGER.key_pem, STRANGER.chain_pem)
    with pytest.raises(UpdateRefused, match="leads to no root"):
        judged(bundle)
