"""The maker's desk: every command of packaging/update/README.md, run as it stands there.

What comes out is judged as a charger would: the bundle by its signatures, OCPP's signature over the file by gate A.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.firmware.bundle.signer import check_signing_certificate
from agent.firmware.bundle.trust import JudgedTime, TrustPolicy, load_roots

pytestmark = [
    pytest.mark.wire,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here"),
]
DESK = Path(__file__).parents[2] / "packaging" / "update"
NOW = JudgedTime(0, trusted=False)


def test_the_commands_of_the_desk_make_what_a_charger_accepts(tmp_path: Path) -> None:
    for name in ("make-keys.sh", "bundle.toml"):
        shutil.copy(DESK / name, tmp_path)
    (tmp_path / "boot.img").write_bytes(bytes(200_000))
    (tmp_path / "rootfs.img").write_bytes(b"root" * 500_000)
    blocks = re.findall(r"```sh\n(.*?)```", (DESK / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "evsed").write_text(f'#!/bin/sh\nexec {sys.executable} -m agent.cli "$@"\n')
    (tmp_path / "evsed").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(DESK.parents[1])}
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(blocks)], cwd=tmp_path, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 in all" in done.stdout
    assert done.stdout.count("2026.11.1.bundle: good") == 2
    assert "evsed: revoked: " in done.stderr

    policy = TrustPolicy(load_roots((tmp_path / "keys" / "root.pem").read_bytes()))
    signer = check_signing_certificate((tmp_path / "keys" / "release.pem").read_text(), policy, NOW)
    digest = hashlib.sha256((tmp_path / "2026.11.1.bundle").read_bytes()).digest()
    signer.verify(digest, (tmp_path / "2026.11.1.signature").read_text())
    secret = [file for file in (tmp_path / "keys").glob("*.key") if file.stat().st_mode & 0o077]
    assert secret == [], "others can read these"
