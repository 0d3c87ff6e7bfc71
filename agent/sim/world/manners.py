"""How a back office behaves: well, or in the ways real ones do not.

Charter: tunable rates and the texts of bad behaviour. All rates zero is a back office without fault. What is done
with them is ``back_office``'s.

Sources: field faults 5, 6, 8; field notes "What real back offices do".
"""

from __future__ import annotations

import enum
import random
import zlib
from dataclasses import dataclass, fields
from typing import Any, Final

from agent.ocpp.timestamps import to_rfc3339

Payload = dict[str, Any]


class Manner(enum.StrEnum):
    """What becomes of the answer to one CALL."""

    GOOD = "good"
    LATE = "late"  # after the station's time-out
    TWICE = "twice"
    STRAY = "stray"  # an answer to nobody before the right one
    ERROR = "error"  # a CALLERROR
    MALFORMED = "malformed"  # a CALLRESULT that cannot be used
    GARBAGE = "garbage"  # something that is no frame
    SILENCE = "silence"
    CLOSE = "close"  # of the connection, instead of an answer


@dataclass(frozen=True, slots=True)
class Rates:
    """From 0 to 1, of the CALLs of the station; their sum must not exceed 1."""

    late: float = 0.0
    twice: float = 0.0
    stray: float = 0.0
    error: float = 0.0
    malformed: float = 0.0
    garbage: float = 0.0
    silence: float = 0.0
    close: float = 0.0

    def draw(self, rng: random.Random) -> Manner:
        luck = rng.random()
        for name, manner in _RATED:
            luck -= getattr(self, name)
            if luck < 0:
                return manner
        return Manner.GOOD


_RATED: Final = tuple((each.name, Manner(each.name)) for each in fields(Rates))
NONE: Final = Rates()


@dataclass(frozen=True, slots=True)
class Manners:
    """``rates`` of answers; the others are rates from 0 to 1 of what their names say.

    ``booked_anyway``: of the CALLs that get no good answer, those that are booked all the same. ``foreign_codes``: of
    the CALLERRORs, those with a code of another OCPP version or of none."""

    rates: Rates = NONE
    booked_anyway: float = 0.5
    foreign_codes: float = 0.5
    boot_pending: float = 0.0  # of BootNotifications: not accepted for a while
    boot_rejected: float = 0.0
    interval_zero: float = 0.0  # of answers to BootNotification
    talks_before_boot: float = 0.0  # of BootNotifications: asks for settings and reports before it answers
    changes_mind: float = 0.0  # of verdicts on tokens
    odd_timestamps: float = 0.0  # of currentTime: another RFC 3339 form
    nonsense_time: float = 0.0  # of currentTime: no time that could be right
    nulls: float = 0.0  # of answers: optional fields without a value are written, as null


QUIET: Final = Manners()

HARSH: Final = Manners(
    rates=Rates(0.01, 0.01, 0.01, 0.02, 0.01, 0.01, 0.01, 0.005),
    boot_pending=0.1,
    boot_rejected=0.05,
    interval_zero=0.1,
    talks_before_boot=0.2,
    changes_mind=0.03,
    odd_timestamps=0.3,
    nulls=0.2,
)
"""Everything at once, but time: a back office that tells the wrong time is a fault of its own."""

# ------------------------------------------------------------------------------------- bad answers

CODES_16: Final = ("GenericError", "InternalError", "NotImplemented", "FormationViolation", "ProtocolError")
CODES_201: Final = ("GenericError", "InternalError", "NotSupported", "FormatViolation", "RpcFrameworkError")
CODES_FOREIGN: Final = ("FormatViolation", "FormationViolation", "OccurrenceConstraintViolation", "ServerError", "500")

GARBAGE: Final = (
    b"",
    b"null",
    b"{}",
    b"[]",
    b"[3]",
    b'[3,"',
    b"hello",
    b"\xff\xfe\x00",
    b"[" * 200,
    b'{"status":"Accepted"}',
    b"<html><body>502 Bad Gateway</body></html>",
)


_NEEDED: Final = {"StartTransaction": ["transactionId"], "StopTransaction": [], "TransactionEvent": []}
"""Fields without which the answer is of no use; all of them where nothing is said here."""

_OPTIONAL: Final = {
    "BootNotification": ("customData", "statusInfo"),
    "StopTransaction": ("idTagInfo",),
    "TransactionEvent": ("chargingPriority", "customData", "idTokenInfo", "totalCost", "updatedPersonalMessage"),
    "idTagInfo": ("expiryDate", "parentIdTag"),
    "idTokenInfo": (
        "cacheExpiryDateTime",
        "chargingPriority",
        "evseId",
        "groupIdToken",
        "language1",
        "personalMessage",
    ),
}
"""Fields of answers, and of what is in them."""


def spoil(action: str, answer: Payload, rng: random.Random) -> object:
    """``answer`` so that it cannot be used: a field of a wrong type, or no object at all ([] and null may be one)."""
    needed = _NEEDED.get(action, list(answer))
    if needed and rng.random() < 0.8:
        return answer | {rng.choice(needed): [None]}
    return rng.choice(([None], "Accepted", False, 0))


def with_nulls(name: str, answer: Payload) -> Payload:
    """``answer`` (to an action, or a part of one) as it is written where nobody leaves out a field without a value."""
    filled = {each: with_nulls(each, value) if isinstance(value, dict) else value for each, value in answer.items()}
    return dict.fromkeys(_OPTIONAL.get(name, ())) | filled


def strikes_by(name: str, rate: float) -> bool:
    """Whether it strikes what has this name, as often as it comes: without a draw of anybody's random numbers."""
    return zlib.crc32(name.encode()) < rate * 2**32


# ------------------------------------------------------------------------------------------- times


def timestamp(wall_ms: int, manners: Manners, rng: random.Random) -> str:
    """``currentTime`` as this back office writes it."""
    if manners.nonsense_time and rng.random() < manners.nonsense_time:
        day_ms = 86_400_000
        return rng.choice(
            (
                "1970-01-01T00:00:00Z",
                "9999-12-31T23:59:59Z",
                "now",
                "",
                to_rfc3339(wall_ms + 3_600_000),  # local time taken for UTC
                to_rfc3339(wall_ms - 400 * day_ms),
                to_rfc3339(wall_ms + 400 * day_ms),
            )
        )
    if manners.odd_timestamps and rng.random() < manners.odd_timestamps:
        text = to_rfc3339(wall_ms)
        local = to_rfc3339(wall_ms + 7_200_000)
        return rng.choice(
            (
                f"{text[:19]}Z",
                f"{text[:23]}456Z",
                f"{text[:23]}456+00:00",
                f"{local[:23]}+02:00",
                f"{text[:10]} {text[11:19]}z",
                text[:23],
            )
        )
    return to_rfc3339(wall_ms)
