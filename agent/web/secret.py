"""The technician's secret: its hash in a file, and whether what somebody typed is it.

Charter: one line of text, made at commissioning by ``evsed web-secret``, read at each login. The secret itself is
nowhere. Hash: scrypt (RFC 7914) with N = 2^14, r = 8, p = 1: 16 MiB and some 50 ms on a PC, some 200 ms on a charger's
processor. It is computed in a thread, one at a time (``agent.web.login``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from pathlib import Path
from typing import Final

SECRET_MIN_CHARS: Final = 10
SECRET_MAX_CHARS: Final = 200
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_FILE_MAX_BYTES: Final = 400
_LINE: Final = re.compile(rf"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:([A-Za-z0-9+/]{{22}}==):([A-Za-z0-9+/]{{43}}=)")


class SecretUnusable(Exception):
    """There is no secret in the file: it is not there, cannot be read, or holds something else."""


def made(secret: str) -> str:
    """The line to keep. Raises ``ValueError`` for a secret too short or too long."""
    if not SECRET_MIN_CHARS <= len(secret) <= SECRET_MAX_CHARS:
        raise ValueError(
            f"a secret has {SECRET_MIN_CHARS} to {SECRET_MAX_CHARS} characters, this one has {len(secret)}"
        )
    salt = os.urandom(_SALT_BYTES)
    hashed = _hash(secret, salt)
    parts = (base64.b64encode(part).decode("ascii") for part in (salt, hashed))
    return ":".join((f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}", *parts))


def read(file: Path) -> str:
    """The line in this file. Raises ``SecretUnusable``."""
    try:
        with file.open("rb") as opened:
            line = opened.read(_FILE_MAX_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnusable(f"{file}: {error}") from error
    if _LINE.fullmatch(line) is None:
        raise SecretUnusable(f"{file}: not a line written by `evsed web-secret`")
    return line


def matches(line: str, secret: str) -> bool:
    """Whether this is the secret; takes its time (see above)."""
    found = _LINE.fullmatch(line)
    if found is None or len(secret) > SECRET_MAX_CHARS:
        return False
    salt, hashed = (base64.b64decode(part) for part in found.groups())
    return hmac.compare_digest(_hash(secret, salt), hashed)


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=_HASH_BYTES)
