"""``evsed bundle``: from a description to a bundle that is judged good, and every way this can fail for a person."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.firmware.bundle.layout import HEADER_BYTES
from tests.unit.firmware.bundle.making import files, image, make_bundle, mcu
from tests.unit.firmware.bundle.pki import OTHER_SIGNER, ROOT, SIGNER, STRANGER

DESCRIPTION = """
version = "2.1.0"
security_epoch = 3
built = 2026-11-20T12:00:00Z
product = { compatible = ["acme,ac22"], hardware = { min = 1, max = 3 } }
requires = { bootloader = "2023.01" }

[[payloads]]
name = "rootfs"
type = "slot-image"
target = "rootfs"
source = "rootfs.img"
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A maker's desk: description, image, keys, chains, roots, and a signed bundle of every type of payload."""
    (tmp_path / "release.toml").write_text(DESCRIPTION)
    (tmp_path / "rootfs.img").write_bytes(b"rootfs" * 10_000)
    (tmp_path / "signer.key").write_bytes(SIGNER.key_pem)
    (tmp_path / "signer.pem").write_bytes(SIGNER.chain_pem)
    (tmp_path / "roots.pem").write_text(ROOT.certificate_pem)
    (tmp_path / "good").write_bytes(make_bundle(image(b"x" * 9000), files({"a/b": b"1" * 10}), mcu(b"2" * 10)))
    return tmp_path


def run(*arguments: object) -> int:
    return main(["bundle", *map(str, arguments)])


def verify(desk: Path, *arguments: object, bundle: str = "good") -> int:
    return run("verify", desk / bundle, "--roots", desk / "roots.pem", *arguments)


# ------------------------------------------------------------------------------------------ right ones


def test_from_description_to_verdict(desk: Path, capsys: Captured) -> None:
    out = desk / "release.bundle"
    assert run("create", desk / "release.toml", out) == 0
    assert "1 payloads, not signed yet" in capsys.readouterr().out
    assert verify(desk, bundle="release.bundle") == 1
    assert "signature block: 0 different signers" in capsys.readouterr().err
    assert run("sign", out, "--key", desk / "signer.key", "--chain", desk / "signer.pem") == 0
    assert "signed by 'CN=Signer' (ecdsa-p256-sha256), 1 in all" in capsys.readouterr().out
    assert verify(desk, bundle="release.bundle") == 0
    captured = capsys.readouterr()
    assert "good; version 2.1.0" in captured.out
    assert "MiB/s" in captured.out
    assert captured.err == ""


@pytest.mark.wire
def test_signing_by_a_command(desk: Path, capsys: Captured) -> None:
    out = desk / "release.bundle"
    assert run("create", desk / "release.toml", out) == 0
    program = desk / "sign.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from cryptography.hazmat.primitives import hashes, serialization\n"
        "from cryptography.hazmat.primitives.asymmetric import ec\n"
        "key = serialization.load_pem_private_key(Path(sys.argv[1]).read_bytes(), None)\n"
        "signature = key.sign(Path(sys.argv[2]).read_bytes(), ec.ECDSA(hashes.SHA256()))\n"
        "Path(sys.argv[3]).write_bytes(signature)\n"
    )
    command = f"{sys.executable} {program} {desk / 'signer.key'} {{in}} {{out}}"
    assert run("sign", out, "--chain", desk / "signer.pem", "--command", command) == 0
    assert verify(desk, bundle="release.bundle") == 0


def test_inspect_for_people(desk: Path, capsys: Captured) -> None:
    assert run("inspect", desk / "good") == 0
    shown = capsys.readouterr().out
    for text in (
        "2.1.0",
        "acme,ac22, revisions 1 to 3",
        "2026-11-20T12:00:00Z",
        "files, 1 files",
        "1.4.0",
        "CN=Signer",
    ):
        assert text in shown
    assert SIGNER.fingerprint in shown
    (desk / "unsigned").write_bytes(make_bundle(signers=[]))
    assert run("inspect", desk / "unsigned") == 0
    assert "not signed" in capsys.readouterr().out


def test_inspect_for_machines(desk: Path, capsys: Captured) -> None:
    assert run("inspect", desk / "good", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["hardware"] == {"min": 1, "max": 3}
    assert [each["type"] for each in plain["payloads"]] == ["slot-image", "files", "mcu-firmware"]
    assert plain["payloads"][1]["files"] == [{"path": "a/b", "size": 10, "mode": "0644"}]
    assert plain["signatures"][0]["fingerprint"] == SIGNER.fingerprint


def test_verify_for_machines(desk: Path, capsys: Captured) -> None:
    assert verify(desk, "--json") == 0
    good = json.loads(capsys.readouterr().out)
    assert (good["good"], good["version"], good["signatures"]) == (True, "2.1.0", 1)
    assert verify(desk, "--json", "--epoch", 4) == 1
    bad = json.loads(capsys.readouterr().out)
    assert bad == {
        "good": False,
        "refusal": "downgrade",
        "where": "manifest: security_epoch",
        "why": "3 is below this device's 4",
    }


@pytest.mark.wire
def test_verify_shows_its_progress_on_a_terminal(desk: Path) -> None:
    ours, theirs = os.openpty()
    arguments = [sys.executable, "-m", "agent.cli", "bundle", "verify", str(desk / "good")]
    try:
        done = subprocess.run(
            [*arguments, "--roots", str(desk / "roots.pem")], stdout=subprocess.PIPE, stderr=theirs, check=False
        )
        os.close(theirs)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
    assert done.returncode == 0
    assert b"good; version 2.1.0" in done.stdout
    assert "checking" in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--compatible", "acme,ac22", "--hardware", 2, "--epoch", 3), 0),
        (("--compatible", "acme,ac11"), 1),
        (("--hardware", 4), 1),
        (("--epoch", 4), 1),
        (("--threshold", 2), 1),
        (("--threshold", 0), 2),
    ],
)
def test_verify_against_a_device(desk: Path, arguments: tuple[object, ...], code: int) -> None:
    assert verify(desk, *arguments) == code


def test_verify_with_two_signers(desk: Path) -> None:
    (desk / "two").write_bytes(make_bundle(signers=[SIGNER, OTHER_SIGNER]))
    assert verify(desk, "--threshold", 2, bundle="two") == 0
    revoked = desk / "revoked"
    revoked.write_text(f"{OTHER_SIGNER.fingerprint}  # lost\n")
    assert verify(desk, "--revoked", revoked, bundle="two") == 0
    assert verify(desk, "--threshold", 2, "--revoked", revoked, bundle="two") == 1


# ------------------------------------------------------------------------------------------ wrong ones


def changed(desk: Path, at: int, name: str = "changed") -> str:
    data = bytearray((desk / "good").read_bytes())
    data[at] ^= 1
    (desk / name).write_bytes(data)
    return name


def test_every_part_that_was_changed_is_found(desk: Path, capsys: Captured) -> None:
    data = (desk / "good").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    first = json.loads(data[HEADER_BYTES : HEADER_BYTES + length])["payloads"][0]["offset"]
    for at, said in (
        (9, "malformed: header: format version"),
        (HEADER_BYTES + 30, "signature: signature block: signatures[0]"),
        (HEADER_BYTES + length, f"malformed: padding: bytes {HEADER_BYTES + length} to"),
        (first - 1, "malformed: padding"),
        (first, "corrupt: payload rootfs, chunk 0"),
        (first + 8999, "corrupt: payload rootfs, chunk 2"),
        (first + 9000, "malformed: padding"),
        (len(data) - 1, "corrupt: payload pilot, chunk 0"),
    ):
        assert verify(desk, bundle=changed(desk, at)) == 1
        assert f"evsed: {said}" in capsys.readouterr().err, at


def test_strangers_bundle_is_not_good(desk: Path, capsys: Captured) -> None:
    (desk / "strange").write_bytes(make_bundle(signers=[STRANGER]))
    assert verify(desk, bundle="strange") == 1
    assert "certificate: signature block: signatures[0].chain[0]" in capsys.readouterr().err


def test_mistakes_of_a_description_are_all_told(desk: Path, capsys: Captured) -> None:
    (desk / "release.toml").write_text(DESCRIPTION.replace("2.1.0", "2 1").replace("rootfs.img", "absent"))
    assert run("create", desk / "release.toml", desk / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("evsed: release.toml: ") for line in lines)
    assert not (desk / "out").exists()


def test_files_that_cannot_be_read_are_wrong_use(desk: Path, capsys: Captured) -> None:
    absent = desk / "absent"
    for arguments in (
        ("create", absent, desk / "out"),
        ("create", desk / "release.toml", absent / "out"),
        ("inspect", absent),
        ("inspect", desk),
        ("verify", desk / "good", "--roots", absent),
        ("verify", desk / "good", "--roots", desk / "signer.key"),
        ("verify", desk / "good", "--roots", desk / "signer.pem"),
        ("verify", desk / "good", "--roots", desk / "roots.pem", "--revoked", desk / "signer.pem"),
        ("sign", desk / "good", "--chain", absent, "--key", desk / "signer.key"),
        ("sign", desk / "good", "--chain", desk / "signer.pem"),
        ("sign", desk / "good", "--chain", desk / "signer.pem", "--key", desk / "signer.key", "--command", "x"),
        ("sign", desk / "good", "--chain", desk / "signer.pem", "--key", desk / "signer.key", "--algorithm", "md5"),
    ):
        assert run(*arguments) == 2, arguments
        captured = capsys.readouterr()
        assert captured.err.startswith("evsed: ")
        assert len(captured.err.splitlines()) == 1


def test_signing_twice_is_told(desk: Path, capsys: Captured) -> None:
    assert run("sign", desk / "good", "--key", desk / "signer.key", "--chain", desk / "signer.pem") == 1
    assert "signed it already" in capsys.readouterr().err


def test_a_file_that_is_no_bundle(desk: Path, capsys: Captured) -> None:
    for command in ("inspect", "verify"):
        options = ("--roots", desk / "roots.pem") if command == "verify" else ()
        assert run(command, desk / "rootfs.img", *options) == 1
        assert "malformed: header: magic: this is not a bundle" in capsys.readouterr().err
