"""The signed record of a simulated EM580: real OCMF, really signed.

Charter: from what was written to the transaction registers and two readings makes the text that the
device would, signed with a key made here. Its tables of names are its own, not the driver's: a mistake in
one of them shows as a record that says something else than was asked.

Sources: OCMF 1.0 as in the transparency software; which of its optional fields the real device writes, and
in what order, is not known. Units: watt-hour, UTC milliseconds, zone in minutes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# Curve -> signature type register, name in OCMF.
_CURVES: dict[str, tuple[int, str]] = {
    "secp256r1": (0, "ECDSA-secp256r1-SHA256"),
    "brainpoolP384r1": (1, "ECDSA-brainpool384r1-SHA256"),
}

LEVELS = ("NONE", "HEARSAY", "TRUSTED", "VERIFIED", "CERTIFIED", "SECURE", "MISMATCH", "INVALID", "OUTDATED", "UNKNOWN")
_TYPE_CODES = (0, 1, 2, 10, 11, 20, 21, 30, 40, 50, 60, 61, 62, 70, 71, 72, 80, 90)
_TYPE_NAMES = (
    *("NONE", "DENIED", "UNDEFINED", "ISO14443", "ISO15693", "EMAID", "EVCCID", "EVCOID", "ISO7812", "CARD_TXN_NR"),
    *("CENTRAL", "CENTRAL_1", "CENTRAL_2", "LOCAL", "LOCAL_1", "LOCAL_2", "PHONE_NUMBER", "KEY_CODE"),
)
TYPES = dict(zip(_TYPE_CODES, _TYPE_NAMES, strict=True))
_OCPP = ("NONE", "RS", "AUTH", "RS_TLS", "AUTH_TLS", "CACHE", "WHITELIST", "CERTIFIED")
FLAGS: tuple[tuple[str, ...], ...] = (  # one tuple per register
    ("RFID_NONE", "RFID_PLAIN", "RFID_RELATED", "RFID_PSK"),
    tuple(f"OCPP_{name}" for name in _OCPP),
    ("ISO15118_NONE", "ISO15118_PNC"),
    ("PLMN_NONE", "PLMN_RING", "PLMN_SMS"),
)


@dataclass(frozen=True, slots=True)
class Described:
    """What the transaction registers say of the user, as codes and texts."""

    assigned: int
    level: int
    flags: tuple[int, ...]
    type: int
    data: str
    tariff: str
    point_type: int
    point: str


@dataclass(frozen=True, slots=True)
class SimReading:
    """One reading of a record. ``utc_ms`` None: the clock was not set."""

    kind: str  # OCMF's TX
    import_wh: int
    utc_ms: int | None
    zone_minutes: int


class SimSigner:
    """The signing part of one device: its key, and its count of records that never goes back."""

    def __init__(self, serial: str, key: ec.EllipticCurvePrivateKey) -> None:
        self._serial = serial
        self._key = key
        self._page = 0
        self.type, self._algorithm = _CURVES[key.curve.name]

    @property
    def key_der(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_raw(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def record(self, user: Described, readings: tuple[SimReading, ...]) -> bytes:
        self._page += 1
        head: dict[str, object] = {"FV": "1.0", "GI": "Gavazzi EM580", "GS": self._serial, "PG": f"T{self._page}"}
        head |= {"MV": "Carlo Gavazzi", "MM": "EM580", "MS": self._serial, "MF": "1.0.0"}
        head |= {"IS": user.assigned == 1, "IL": LEVELS[user.level]}
        head |= {"IF": [family[code] for family, code in zip(FLAGS, user.flags, strict=True)], "IT": TYPES[user.type]}
        head |= {"ID": user.data, "TT": user.tariff, "CT": ("EVSEID", "CBIDC")[user.point_type], "CI": user.point}
        # By hand: a reading's digits carry its resolution, and floating point would not keep them.
        told = ",".join(_reading(each) for each in readings)
        payload = (json.dumps(head, separators=(",", ":"))[:-1] + f',"RD":[{told}]}}').encode("ascii")
        signature = self._key.sign(payload, ec.ECDSA(hashes.SHA256())).hex().upper()
        return b"OCMF|" + payload + f'|{{"SA":"{self._algorithm}","SD":"{signature}"}}'.encode("ascii")


def _reading(reading: SimReading) -> str:
    when = datetime.fromtimestamp((reading.utc_ms or 0) // 1_000, UTC)
    local = when.astimezone(timezone(timedelta(minutes=reading.zone_minutes)))
    status = "U" if reading.utc_ms is None else "S"
    moment = f"{local:%Y-%m-%dT%H:%M:%S},{(reading.utc_ms or 0) % 1_000:03d}{local:%z} {status}"
    energy = f"{reading.import_wh // 1_000}.{reading.import_wh % 1_000:03d}"
    return (
        f'{{"TM":"{moment}","TX":"{reading.kind}","RV":{energy},"RI":"01-00:01.08.00.FF","RU":"kWh",'
        f'"RT":"AC","EF":"","ST":"G"}}'
    )
