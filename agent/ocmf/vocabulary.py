"""The words OCMF allows in each field; writer and judge read them from here.

Charter: constants only. Sources: OCMF 1.4 text, tables of payload data, readings and signature.
"""

from __future__ import annotations

from typing import Final

FORMAT_VERSIONS: Final = ("1.0", "1.1", "1.2", "1.3", "1.4")
DEFAULT_OBIS: Final = "01-00:01.08.00*FF"

TRANSACTION, FISCAL = "T", "F"
"""First letter of PG: what kind of record, each with a counter of its own."""

TIME_STATUSES: Final = frozenset("UISR")
TX_LETTERS: Final = frozenset("BCXELRAPST")
BEGIN_LETTER: Final = "B"
END_LETTERS: Final = frozenset("ELRAP")
METER_STATES: Final = {
    "G": "good",
    "N": "not present",
    "T": "timeout",
    "D": "disconnected",
    "R": "removed",
    "M": "manipulated",
    "X": "exchanged",
    "I": "incompatible",
    "O": "out of range",
    "S": "substitute value",
    "E": "error",
    "F": "read error",
}
ERROR_FLAGS: Final = frozenset(("", "E", "t", "Et"))

ERROR_LEVELS: Final = frozenset(("MISMATCH", "INVALID", "OUTDATED", "UNKNOWN"))
LEVELS: Final = ERROR_LEVELS | {"NONE", "HEARSAY", "TRUSTED", "VERIFIED", "CERTIFIED", "SECURE"}
FLAGS: Final = frozenset(
    (
        *("RFID_NONE", "RFID_PLAIN", "RFID_RELATED", "RFID_PSK"),
        *("OCPP_NONE", "OCPP_RS", "OCPP_AUTH", "OCPP_RS_TLS", "OCPP_AUTH_TLS"),
        *("OCPP_CACHE", "OCPP_WHITELIST", "OCPP_CERTIFIED"),
        *("ISO15118_NONE", "ISO15118_PNC"),
        *("PLMN_NONE", "PLMN_RING", "PLMN_SMS"),
    )
)
TYPES: Final = frozenset(
    (
        *("NONE", "DENIED", "UNDEFINED", "ISO14443", "ISO15693", "EMAID", "EVCCID", "EVCOID", "ISO7812"),
        *("CARD_TXN_NR", "CENTRAL", "CENTRAL_1", "CENTRAL_2", "LOCAL", "LOCAL_1", "LOCAL_2"),
        *("PHONE_NUMBER", "KEY_CODE"),
    )
)


def family(flag: str) -> str:
    """The technology a flag speaks of; a record holds one flag of each at most."""
    return flag.partition("_")[0]
