"""The metering key: a P-256 key in a file that only the station can read.

Charter: makes the key once, loads it ever after, signs with it, shows its public half. The key is the
identity of the meter's records: a lost or replaced key makes every later record a stranger's, so a file
that is there but unusable is an error for a person to resolve, never a reason to make a new key.

Durability: the file is written aside, synced, renamed, and the directory is synced. A power cut leaves no
key or a whole one. Signatures are deterministic (RFC 6979): a poor random source cannot leak the key.

Not here: keys in secure elements (they are another ``SigningKey``), TLS keys.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.passing import is_passing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_FILE_MODE: Final = 0o600
_FILE_MAX_BYTES: Final = 4_096
_SELF_TEST: Final = b"evsed: does this key sign"


class KeyUnusable(Exception):
    """The metering key cannot be used; the text says which file, why, and what to do. ``passing``: the storage failed,
    or is full, and not the key: the next try may succeed."""

    def __init__(self, path: Path, why: str, remedy: str, cause: OSError | None = None) -> None:
        super().__init__(f"metering key {path}: {why}; {remedy}")
        self.path, self.why, self.remedy = path, why, remedy
        self.passing = cause is not None and is_passing(cause)


def key_id_of(public_der: bytes) -> str:
    """A short name of a key: 16 hex digits of the hash of its public half."""
    return hashlib.sha256(public_der).hexdigest()[:16]


def oca_key(public_der: bytes) -> str:
    """A public key as OCPP carries it: Base64 of ``oca:base16:asn1:`` and the hex form."""
    return base64.b64encode(f"oca:base16:asn1:{public_der.hex().upper()}".encode("ascii")).decode("ascii")


class MeteringKey:
    """A private key that signs, and its public half in the forms others ask for."""

    __slots__ = ("_private", "public_der")

    def __init__(self, private: EllipticCurvePrivateKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._private = private
        self.public_der: Final = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def __repr__(self) -> str:
        return f"MeteringKey({self.key_id})"

    def sign(self, data: bytes) -> bytes:
        """ECDSA over SHA-256, as DER; the same data always gives the same signature."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._private.sign(data, ECDSA(SHA256(), deterministic_signing=True))

    @property
    def key_id(self) -> str:
        """A short name of the key: 16 hex digits of the hash of its public half."""
        return key_id_of(self.public_der)

    @property
    def public_hex(self) -> str:
        """As printed on labels and receipts."""
        return self.public_der.hex().upper()

    @property
    def public_oca(self) -> str:
        """As OCPP carries it: Base64 of ``oca:base16:asn1:`` and the hex form."""
        return oca_key(self.public_der)

    @property
    def public_pem(self) -> str:
        """As openssl reads it."""
        text = base64.b64encode(self.public_der).decode("ascii")
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def load_or_create_key(path: Path) -> MeteringKey:
    """The key in this file; made at the first start. KeyUnusable when it is there and no good."""
    with _locked(path) as directory:
        if not os.path.lexists(path):
            _create(path)
        key = load_key(path)
        # Also for a key that was found: whoever renamed it may have died before this line, and nothing
        # may be signed by a key that the next power cut could still take back.
        os.fsync(directory)
    return key


def load_key(path: Path) -> MeteringKey:
    """The key in this file, which must be ours alone."""
    key = MeteringKey(_private(path, _read(path)))
    _prove(path, key)
    return key


# ---------------------------------------------------------------------------------------------- file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The directory, open and locked: two processes that start at once make one key."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        why = f"its directory cannot be opened ({error.strerror})"
        raise KeyUnusable(path, why, "make the directory", error) from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


def _create(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    aside = path.with_name(f".{path.name}.new")
    try:
        aside.unlink(missing_ok=True)  # what a power cut left of an attempt; nothing was signed with it
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
        try:
            os.fchmod(file, _FILE_MODE)  # the umask may have taken the owner's own rights
            _write_all(file, pem)
            os.fsync(file)
        finally:
            os.close(file)
        aside.rename(path)
    except OSError as error:
        raise KeyUnusable(path, f"it cannot be made ({error.strerror})", "check space and rights", error) from error


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _read(path: Path) -> bytes:
    try:
        # Not blocking: a pipe put in its place would otherwise stop the station at start.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeyUnusable(path, "it is a symbolic link", "put the file itself there") from error
        raise KeyUnusable(path, f"it cannot be opened ({error.strerror})", "check owner and rights", error) from error
    try:
        _check_file(path, os.fstat(file))
        return os.read(file, _FILE_MAX_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(path, f"it cannot be read ({error.strerror})", "check the storage", error) from error
    finally:
        os.close(file)


def _check_file(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise KeyUnusable(path, "it is not a file", "put the key file there")
    if found.st_uid != os.geteuid():
        raise KeyUnusable(path, f"it belongs to user {found.st_uid}", f"give it to user {os.geteuid()}")
    if mode & 0o077:
        raise KeyUnusable(path, f"others may use it (mode {mode:04o})", "set mode 0600 and consider the key known")
    if not 0 < found.st_size <= _FILE_MAX_BYTES:
        raise KeyUnusable(path, f"it has {found.st_size} bytes", "restore it from the backup")


# ----------------------------------------------------------------------------------------------- key


def _private(path: Path, pem: bytes) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(path, f"it holds no key that can be read ({error})", "restore it from the backup") from error
    if not isinstance(private, EllipticCurvePrivateKey) or not isinstance(private.curve, SECP256R1):
        raise KeyUnusable(path, "its key is not on P-256", "put a P-256 key there")
    return private


def _prove(path: Path, key: MeteringKey) -> None:
    """Sign once at start, rather than find out with the first transaction that it does not work."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key._private.public_key().verify(key.sign(_SELF_TEST), _SELF_TEST, ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm) as error:
        raise KeyUnusable(path, f"it does not sign ({type(error).__name__})", "check the installed OpenSSL") from error
