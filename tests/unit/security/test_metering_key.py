"""The metering key's file: made whole or not at all, refused rather than replaced."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
    load_pem_public_key,
)

from agent.security.keys import KeyUnusable, MeteringKey, load_key, load_or_create_key


def put(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "metering.pem"
    old = os.umask(0)
    try:
        made = load_or_create_key(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert load_or_create_key(path).public_der == made.public_der
    assert [one.name for one in tmp_path.iterdir()] == ["metering.pem"]


def test_signatures_verify_and_repeat(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path / "key")
    signature = key.sign(b"data")
    assert key.sign(b"data") == signature
    public = load_der_public_key(key.public_der)
    public.verify(signature, b"data", ECDSA(SHA256()))  # type: ignore[union-attr,call-arg,arg-type]


def test_the_public_half_in_every_form(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path / "key")
    assert len(key.public_der) == 91
    assert bytes.fromhex(key.public_hex) == key.public_der
    assert base64.b64decode(key.public_oca).decode() == f"oca:base16:asn1:{key.public_hex}"
    assert key.key_id == hashlib.sha256(key.public_der).hexdigest()[:16]
    assert load_pem_public_key(key.public_pem.encode()) == load_der_public_key(key.public_der)
    assert key.public_hex not in repr(key)


def pem(curve: SECP256R1 | SECP384R1, password: bytes | None = None) -> bytes:
    how = NoEncryption() if password is None else BestAvailableEncryption(password)
    return generate_private_key(curve).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o600, "0 bytes"),
        (b"x" * 5_000, 0o600, "5000 bytes"),
        (b"no key at all", 0o600, "no key that can be read"),
        (pem(SECP256R1())[:100], 0o600, "no key that can be read"),
        (pem(SECP256R1(), b"secret"), 0o600, "no key that can be read"),
        (pem(SECP384R1()), 0o600, "not on P-256"),
        (pem(SECP256R1()), 0o640, "mode 0640"),
        (pem(SECP256R1()), 0o604, "mode 0604"),
    ],
)
def test_a_key_that_is_no_good_is_refused_and_left_alone(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    path = put(tmp_path / "key", content, mode)
    with pytest.raises(KeyUnusable, match=why) as caught:
        load_or_create_key(path)
    assert caught.value.path == path
    assert path.read_bytes() == content


@pytest.mark.parametrize(("code", "passing"), [(errno.EIO, True), (errno.EMFILE, True), (errno.EACCES, False)])
def test_a_storage_that_fails_may_be_well_at_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, passing: bool
) -> None:
    path, really = put(tmp_path / "key", pem(SECP256R1())), os.open

    def failing(name: Any, *arguments: Any, **more: Any) -> int:
        if name == path:
            raise OSError(code, os.strerror(code))
        return really(name, *arguments, **more)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(KeyUnusable) as caught:
        load_or_create_key(path)
    assert caught.value.passing is passing


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    real = put(tmp_path / "real", pem(SECP256R1()))
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, why in (("link", "link"), ("dangling", "link"), ("directory", "not a file"), ("pipe", "not a file")):
        with pytest.raises(KeyUnusable, match=why):
            load_or_create_key(tmp_path / name)
    with pytest.raises(KeyUnusable, match="directory cannot be opened"):
        load_or_create_key(tmp_path / "absent" / "key")


def test_another_users_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "key", pem(SECP256R1()))
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(KeyUnusable, match=f"belongs to user {owner}"):
        load_key(path)


def test_a_key_that_does_not_sign_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "key", pem(SECP256R1()))
    monkeypatch.setattr(MeteringKey, "sign", lambda self, data: b"0")
    with pytest.raises(KeyUnusable, match="does not sign"):
        load_key(path)


@pytest.mark.parametrize(("where", "call"), [(os, "write"), (os, "fsync"), (os, "fchmod"), (Path, "rename")])
def test_a_failure_while_making_leaves_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, call: str
) -> None:
    """As a full disk or a power cut would: the name appears only after content is synced."""
    path = tmp_path / "key"

    def fail(*_: object) -> None:
        assert not path.exists()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(where, call, fail)
        with pytest.raises(KeyUnusable, match="No space left"):
            load_or_create_key(path)
    assert not path.exists()
    key = load_or_create_key(path)
    assert load_key(path).public_der == key.public_der
    assert [one.name for one in tmp_path.iterdir()] == ["key"], "what the failure left is gone"


def test_content_then_name_then_directory_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def watch(file: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
        synced.append((kind, path.exists()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", watch)
    load_or_create_key(path)
    assert synced == [("file", False), ("directory", True)]
    load_or_create_key(path)
    assert synced[2:] == [("directory", True)], "who renamed it may have died before the directory was synced"


def test_starting_twice_at_once_makes_one_key(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_or_create_key(tmp_path / "key").public_der)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
