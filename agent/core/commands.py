"""Commands to the station, from whatever dialect or tool they come.

Charter: neutral requests; each is answered once with an ``Outcome`` under its ``command_id``.
``evse`` counts from 1; None means the station as a whole, or "you choose".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.core.facts import Token

WHO_MAX_CHARS = 100  # of a person in the log book


@dataclass(frozen=True, slots=True)
class RemoteStart:
    """Start charging for this token. Whether the token is checked first is the station's setting
    (1.6 AuthorizeRemoteTxRequests, 2.0.1 AuthCtrlr.AuthorizeRemoteStart).

    ``profile``: a TxProfile in the neutral form of ``agent.charging``, under the rules of OCPP ``rules`` ("1.6",
    "2.0.1"). It holds from the transaction's begin; the core only hands it on."""

    token: Token
    evse: int | None = None
    remote_start_id: int | None = None
    group: str | None = None
    profile: dict[str, Any] | None = None
    rules: str = ""


@dataclass(frozen=True, slots=True)
class RemoteStop:
    tx_id: str


@dataclass(frozen=True, slots=True)
class ChangeAvailability:
    """``who`` does it, where it is not the CSMS, goes into the log book."""

    operative: bool
    evse: int | None = None
    who: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """Restart the station software. ``immediate`` ends transactions now; else wait for idle.

    1.6 Soft and Hard are both immediate; ``hard`` only changes the stop reason that is told."""

    immediate: bool
    hard: bool = False
    evse: int | None = None


@dataclass(frozen=True, slots=True)
class Unlock:
    """Release the connector's lock. ``end_transaction``: 1.6 stops a running transaction first,
    2.0.1 refuses while an authorized one runs."""

    evse: int
    end_transaction: bool


@dataclass(frozen=True, slots=True)
class TakeSample:
    """Take a reading now, with context Trigger, for one EVSE or all."""

    evse: int | None = None


@dataclass(frozen=True, slots=True)
class ClearFaults:
    """Clear latched faults (authorized local or remote action only). ``who`` does it goes into the log book."""

    evse: int
    who: str = "local"


Command = RemoteStart | RemoteStop | ChangeAvailability | Reset | Unlock | TakeSample | ClearFaults
