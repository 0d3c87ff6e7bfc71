"""What a dialect's desk in the back office is: it reads messages of one OCPP version, books them, words the answers.

Charter: the types between ``back_office`` (connections, manners, orders) and ``back_office16`` / ``back_office201``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from agent.ocpp.version import Version
from agent.sim.world.excuses import Row

Payload = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def frame_text(array: list[Any]) -> bytes:
    """A frame as it goes over the wire."""
    return _encode(array).encode()


@dataclass(frozen=True, slots=True)
class Message:
    """A CALL of the station. ``row`` names its content; ``is_repeat``: that content was booked before."""

    message_id: str
    action: str
    payload: Payload
    row: Row | None
    is_repeat: bool


class Clerk(Protocol):
    """What the desks share: the back office's mind about stations, tokens and the time."""

    def boot(self, software: str, reason: str) -> tuple[str, int]:
        """Status and interval for BootNotification."""

    def verdict(self, token: str) -> str:
        """The status of a token, as it is thought of just now."""

    def group(self, token: str) -> str | None:
        """The group (1.6: parent) of a token."""

    def current_time(self) -> str: ...

    def is_excused(self, row: Row) -> bool:
        """Whether the station may have dropped this row."""

    def violation(self, what: str) -> None:
        """The station did what it must not."""


class Desk(Protocol):
    """One version."""

    version: Version

    def row(self, action: str, payload: Payload) -> tuple[Row, bool] | None:
        """The name of a message that comes out of the ledger, and whether a refusal is the end of it; None: of
        any other message. Raises ``KeyError``, ``IndexError``, ``TypeError`` where fields are missing."""

    def answer(self, message: Message) -> Payload | None:
        """Book a message and word the answer; None: there is no such action."""
