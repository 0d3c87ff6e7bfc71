"""Answers of the CSMS to our calls, taken as far as they can be used.

Charter: a CALLRESULT says that the CSMS has taken the message, and what it is about is in the fields that must be
there. So nothing that could as well be missing voids it: many serializers write an optional field without a value as
null, and a group may be longer than its schema allows. Such a field is dropped. Nobody is let in by it: a group that
cannot be held is none, a status of a token that we do not know is Invalid, and where all that is said beside a status
had to be dropped, a refusal stays. Where nothing is said of a token there is no verdict, though 1.6 wants one in the
answer to StartTransaction. CALLs of the CSMS stay strict, and so does all that we send.

Limits: what was null is told once per action and connection, a fault each time, up to eight of each.
Sources: OCPP-J 1.6 section 4.2.2, OCPP 2.0.1 part 4 section 4.2.2; checklist RPC-03, RPC-11, 16-TX-04.
"""

from __future__ import annotations

from typing import Final

from agent.ocpp import schema
from agent.ocpp.frames import Payload
from agent.ocpp.version import Version

NAMED_MAX: Final = 8
_NUMBERED: Final = "StartTransaction"


class Answers:
    """Those of one connection."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._told: set[str] = set()  # actions whose answers had nulls

    def take(self, action: str, payload: Payload) -> list[str]:
        """Make ``payload`` conform to its schema, unknown fields aside; returns what is worth a log line.

        Raises ``schema.SchemaViolation`` where what must be there is missing or wrong."""
        of_token = payload.get("idTokenInfo")
        found = self._mend(action, payload)
        status = of_token.get("status") if isinstance(of_token, dict) and "idTokenInfo" not in payload else None
        if isinstance(status, str):  # what narrows it cannot be read: accepted it is nowhere
            payload["idTokenInfo"] = {"status": "Invalid" if status == "Accepted" else status}
            self._mend(action, payload)
        noticed = []
        if found.unknown:
            noticed.append(f"unknown response fields: {_names(found.unknown)}")
        if found.nulls and action not in self._told:
            self._told.add(action)
            noticed.append(f"null response fields: {_names(found.nulls)}")
        if found.faults:
            noticed.append(f"unusable response fields: {_names(found.faults)}")
        return noticed

    def _mend(self, action: str, payload: Payload) -> schema.Leniency:
        """The number that a transaction got is what bills it, whatever is wrong with what was said of its token."""
        try:
            return schema.mend_response(self._version, action, payload)
        except schema.SchemaViolation as violation:
            if action != _NUMBERED or not violation.path.startswith("idTagInfo"):
                raise
            told = violation.description
        of_token = payload.get("idTagInfo")
        payload["idTagInfo"] = {"status": "Invalid"}
        found = schema.mend_response(self._version, action, payload)
        if not (of_token.get("status") if isinstance(of_token, dict) else of_token):
            del payload["idTagInfo"]
        found.faults.append(told)
        return found


def _names(found: list[str]) -> str:
    return ", ".join(found[:NAMED_MAX])
