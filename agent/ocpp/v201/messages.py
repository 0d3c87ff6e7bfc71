"""Small 2.0.1 payloads: boot, authorize, tokens and what the CSMS says of them, security events.

Charter: pure functions, camelCase dicts, optional fields left out when empty (RPC-03). Text longer
than its field is cut: a serial number too long must not keep us off the CSMS.

Sources: OCPP 2.0.1 part 2 B01, C01, C09, A04; part 2 section 2 (data types).
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from agent.core.facts import SecurityFact, Token
from agent.ipc.port import Record, TokenVerdict, Welcome
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339, to_rfc3339

log = structlog.get_logger("ocpp")

CONNECTOR: Final = 1
"""The number of an EVSE's only connector."""

ID_TOKEN_MAX_CHARS: Final = 36
REASON_CODE_MAX_CHARS: Final = 20
MESSAGE_CONTENT_MAX_CHARS: Final = 512

_BOOT_REASONS: Final = frozenset(
    {
        "ApplicationReset",
        "FirmwareUpdate",
        "LocalReset",
        "PowerUp",
        "RemoteReset",
        "ScheduledReset",
        "Triggered",
        "Unknown",
        "Watchdog",
    }
)


def boot_notification(welcome: Welcome) -> Payload:
    """BootNotificationRequest."""
    station = {"model": welcome.model[:20], "vendorName": welcome.vendor[:50]}
    firmware = welcome.firmware_version or welcome.software_version
    optional = {"serialNumber": welcome.serial[:25], "firmwareVersion": firmware[:50]}
    return {
        "chargingStation": station | {name: value for name, value in optional.items() if value},
        "reason": welcome.boot_cause if welcome.boot_cause in _BOOT_REASONS else "Unknown",
    }


def id_token(token: Token) -> dict[str, Any]:
    """IdTokenType."""
    return {"idToken": token.id_token[:ID_TOKEN_MAX_CHARS], "type": token.token_type}


def read_id_token(value: dict[str, Any]) -> Token:
    """The token of an IdTokenType."""
    return Token(value["idToken"], value["type"])


def authorize(token: Token) -> Payload:
    """AuthorizeRequest."""
    return {"idToken": id_token(token)}


def read_id_token_info(info: dict[str, Any], evse: int) -> TokenVerdict:
    """What idTokenInfo says of a token that was presented at ``evse``."""
    status: str = info["status"]
    if status == "Accepted" and info.get("evseId") and evse not in info["evseId"]:
        status = "NotAtThisLocation"  # C01: accepted, but for other EVSEs
    expiry_wall_ms = None
    if "cacheExpiryDateTime" in info:
        try:
            expiry_wall_ms = from_rfc3339(info["cacheExpiryDateTime"])
        except BadTimestamp:
            log.warning("bad_cache_expiry")  # the status still counts
    group = info.get("groupIdToken", {}).get("idToken")
    return TokenVerdict(status, group or None, expiry_wall_ms, everywhere=not info.get("evseId"))


def personal_message(answer: Payload) -> str:
    """The price in the words of an answer to a token or a transaction event (I01, I02); empty: it says nothing.
    ``personalMessage`` of a token that is not accepted says something else than a price."""
    info = answer.get("idTokenInfo", {})
    of_token = info.get("personalMessage", {}) if info.get("status") == "Accepted" else {}
    # To Authorize, updatedPersonalMessage is a field that no schema has looked at.
    message = answer.get("updatedPersonalMessage", of_token)
    content = message.get("content") if isinstance(message, dict) else None
    return content[:MESSAGE_CONTENT_MAX_CHARS] if isinstance(content, str) else ""


def security_event(fact: SecurityFact, record: Record) -> Payload:
    """SecurityEventNotificationRequest."""
    payload = {"type": fact.event_type[:50], "timestamp": to_rfc3339(record.wall_ms)}
    return payload | ({"techInfo": fact.tech_info[:255]} if fact.tech_info else {})


def status(value: str, reason_code: str = "", additional_info: str = "") -> Payload:
    """A response that is a status, with the reason of a refusal where there is more to say."""
    if not reason_code:
        return {"status": value}
    info = {"reasonCode": reason_code[:REASON_CODE_MAX_CHARS]}
    if additional_info:
        info["additionalInfo"] = additional_info[:512]
    return {"status": value, "statusInfo": info}
