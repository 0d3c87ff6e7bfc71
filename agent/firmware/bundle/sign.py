"""Sign a bundle: with a key in a file, or with whatever command holds the key. Maker's desk only.

Charter: a signature is made over the manifest's exact bytes, checked against the signer's certificate, and put into
the room that the bundle has for signatures; payloads never move. Only header and signature area are rewritten.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.firmware.bundle.head import Head, read_head
from agent.firmware.bundle.layout import Header
from agent.firmware.bundle.make import NotMade
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.bundle.signatures import (
    CHAIN_MAX,
    Algorithm,
    Signature,
    algorithms_of,
    check_signature,
    encode_signatures,
)
from agent.firmware.errors import UpdateRefused
from agent.firmware.storage import FileStorage, StoredFile, opened

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

COMMAND_TIMEOUT_S: Final = 600
"""A person may have to type a PIN."""
_RESULT_BYTES_MAX: Final = 4096


def signing_input(bundle: Path) -> bytes:
    """The bytes to sign: the manifest. Raises ``UpdateRefused``, ``OSError``."""
    with opened(FileStorage().open(bundle.resolve())) as file:
        return read_head(file).manifest_bytes


def attach(bundle: Path, entry: Signature) -> None:
    """Add one signature, after checking it. Raises ``NotMade``, ``UpdateRefused``, ``OSError``."""
    from agent.firmware.bundle.certificates import check_leaf, public_key

    with opened(FileStorage().open(bundle.resolve(), writable=True)) as file:
        head = read_head(file)
        check_leaf(entry.chain[0], "chain[0]")
        check_signature(entry, head.manifest_bytes, "signature")
        for other in head.signatures:
            if public_key(other.chain[0], "signature block") == public_key(entry.chain[0], "chain[0]"):
                raise NotMade(str(bundle), "this signer has signed it already")
        _write_signatures(file, head, (*head.signatures, entry), bundle)


def _write_signatures(file: StoredFile, head: Head, entries: tuple[Signature, ...], bundle: Path) -> None:
    block = encode_signatures(entries)
    old = head.header
    first_payload = parse_manifest(head.manifest_bytes, old).payloads[0].offset
    room = first_payload - old.signatures_offset
    if len(block) > room:
        why = f"{len(entries)} signatures need {len(block)} bytes, it has room for {room}"
        raise NotMade(str(bundle), why, "use shorter chains, without the root")
    header = Header(old.manifest_length, len(block), old.total_size)
    file.write(old.signatures_offset, block.ljust(room, b"\0"))
    file.write(0, header.encode())
    file.sync()


# ------------------------------------------------------------------------------------------- signing


def sign(bundle: Path, key_pem: bytes, chain_pem: bytes, algorithm: Algorithm | None = None) -> None:
    """Sign with a private key in PEM without a password. ``chain_pem``: the signer's certificate first. Without
    ``algorithm`` the key decides (RSA: PSS). Raises as ``attach`` does."""
    chain = load_chain(chain_pem)
    chosen = _algorithm(chain, algorithm)
    attach(bundle, Signature(chosen, chain, _signed(_private_key(key_pem), chosen, signing_input(bundle))))


def sign_by_command(bundle: Path, command: str, chain_pem: bytes, algorithm: Algorithm | None = None) -> None:
    """Sign with a command that writes the bare signature of the file ``{in}`` to the file ``{out}``. It is started
    without a shell. It may do without ``{in}``: who signed the manifest elsewhere copies the result to ``{out}``.
    Raises as ``attach`` does."""
    chain = load_chain(chain_pem)
    chosen = _algorithm(chain, algorithm)
    signature = _run(_words(command), signing_input(bundle))
    try:
        attach(bundle, Signature(chosen, chain, signature))
    except UpdateRefused as error:
        remedy = "does the command use the certificate's key, and this algorithm?"
        raise NotMade("command", f"its result was not accepted as {chosen} ({error})", remedy) from error


def load_chain(pem: bytes) -> tuple[Certificate, ...]:
    """Raises ``NotMade``, ``UpdateRefused`` (certificate)."""
    from agent.firmware.bundle.certificates import load_pem, pem_blocks

    blocks = pem_blocks(pem)
    if not 1 <= len(blocks) <= CHAIN_MAX:
        raise NotMade("chain", f"{len(blocks)} certificates, 1 to {CHAIN_MAX} belong there", "the signer's comes first")
    return tuple(load_pem(block, f"chain[{index}]") for index, block in enumerate(blocks))


def _algorithm(chain: tuple[Certificate, ...], wanted: Algorithm | None) -> Algorithm:
    from agent.firmware.bundle.certificates import public_key

    possible = algorithms_of(public_key(chain[0], "chain[0]"))
    if wanted is not None and wanted not in possible:
        raise NotMade("algorithm", f"{wanted} does not fit the certificate's key", f"use {' or '.join(possible)}")
    return wanted or possible[0]


def _private_key(pem: bytes) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise NotMade("key", "it has a password", "sign by a command that asks for it") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotMade("key", f"it is no private key in PEM ({error})") from error


def _signed(key: PrivateKeyTypes, algorithm: Algorithm, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384

    if isinstance(key, RSAPrivateKey) and algorithm is Algorithm.RSA_PKCS1_SHA256:
        return key.sign(data, padding.PKCS1v15(), SHA256())
    if isinstance(key, RSAPrivateKey) and algorithm is Algorithm.RSA_PSS_SHA256:
        return key.sign(data, padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH), SHA256())
    if isinstance(key, EllipticCurvePrivateKey):
        digest = SHA384() if algorithm is Algorithm.ECDSA_P384_SHA384 else SHA256()
        return key.sign(data, ECDSA(digest, deterministic_signing=True))
    raise NotMade("key", f"it cannot sign with {algorithm}", "give the key that belongs to the certificate")


# ------------------------------------------------------------------------------------------- commands


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise NotMade("command", f"it cannot be taken apart ({error})", "check its quotes") from error
    if not any("{out}" in word for word in words):
        example = "openssl dgst -sha256 -sign key.pem -out {out} {in}"
        raise NotMade("command", "{out} is missing", f"for example: {example}")
    return words


def _run(words: list[str], data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "manifest"), Path(folder, "signature")
        source.write_bytes(data)
        line = [word.replace("{in}", str(source)).replace("{out}", str(result)) for word in words]
        try:
            # What it prints is for the person at the terminal; our standard output may be read by a machine.
            done = subprocess.run(line, stdout=2, timeout=COMMAND_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise NotMade("command", f"it did not end within {COMMAND_TIMEOUT_S} s") from error
        except OSError as error:
            raise NotMade("command", f"{words[0]} cannot be started ({error.strerror})") from error
        if done.returncode != 0:
            raise NotMade("command", f"it ended with {done.returncode}")
        if not result.is_file() or not 0 < result.stat().st_size <= _RESULT_BYTES_MAX:
            raise NotMade("command", "it left no signature in {out}")
        return result.read_bytes()
