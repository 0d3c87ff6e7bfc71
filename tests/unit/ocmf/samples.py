"""Records of our own making, and the published ones (read where they lie, never copied)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from agent.ocmf.public_key import PublicKey
from agent.ocmf.record import Draft, Identification, Reading, payload
from agent.ocmf.sign import seal
from agent.security.keys import MeteringKey

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "ocmf"
START_MS = 1_790_000_000_000
PREV_HASH = bytes(range(32))


def vector_files() -> list[Any]:
    """One parameter per published record; one skipped parameter where they are not on this machine."""
    files = sorted(VECTORS.glob("*.json"))
    if not files:
        return [pytest.param(VECTORS, id="absent", marks=pytest.mark.skip("the published vectors are not beside us"))]
    return [pytest.param(file, id=file.stem) for file in files]


def vector(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def named_vector(start: str) -> dict[str, Any]:
    files = sorted(VECTORS.glob(f"{start}-*.json"))
    if not files:
        pytest.skip("the published vectors are not beside us")
    return vector(files[0])


@functools.cache
def signing_key() -> MeteringKey:
    """A key with a known private number, so that a failure can be repeated."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

    return MeteringKey(derive_private_key(0x0C3F_5EED, SECP256R1()))


def public_key() -> PublicKey:
    return PublicKey(der=signing_key().public_der)


def reading(tx: str | None, minutes: int = 0, energy_mwh: int = 12_340_000, **changes: Any) -> Reading:
    return Reading(
        **{"wall_ms": START_MS + minutes * 60_000, "energy_mwh": energy_mwh, "tx": tx, "zone_offset_minutes": 120}
        | changes
    )


def draft(*readings: Reading, **changes: Any) -> Draft:
    """A whole transaction unless told otherwise."""
    fields: dict[str, Any] = {
        "readings": readings or (reading("B"), reading("E", 60, 23_340_001)),
        "meter_serial": "EM-0042",
        "gateway_serial": "EX-000123",
        "gateway_identification": "evsed",
        "gateway_version": "0.1.0",
        "meter_vendor": "Eastron",
        "meter_model": "SDM630",
        "identification": Identification(
            assigned=True, level="HEARSAY", flags=("RFID_PLAIN", "OCPP_WHITELIST"), type="ISO14443", data="04A1B2C3"
        ),
        "tariff_text": "0.39 EUR/kWh a1b2c3d4",
        "controller_firmware": "0.1.0",
        "charge_point_id": "DE*ABC*E0001",
    }
    return Draft(**fields | changes)


def sealed(one: Draft | None = None, pagination: str = "T7") -> bytes:
    return seal(payload(one or draft(), pagination, PREV_HASH), signing_key())
