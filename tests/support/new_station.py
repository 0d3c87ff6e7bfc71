"""What a station has when it is switched on for the first time: a key and a ledger. Made once, since that is slow."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from agent.ledger.store import Birth, open_ledger
from agent.security.keys import MeteringKey


@functools.cache
def station_key() -> MeteringKey:
    return MeteringKey(generate_private_key(SECP256R1()))


@functools.cache
def new_ledger() -> bytes:
    """A ledger with its first row."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "ledger"
        open_ledger(path, Birth("0.1.0", "S-1", "boot-0", 0, 0, "U"))
        return path.read_bytes()
