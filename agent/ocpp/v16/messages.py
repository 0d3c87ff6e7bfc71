"""Small 1.6 payloads: boot, authorize, idTagInfo.

Charter: one pure function per message, camelCase dicts, optional fields left out when empty
(RPC-03). Text longer than its field is cut: a serial number too long must not keep us off the CSMS. A token is
not: cut, it may be another customer's.

Sources: OCPP 1.6 section 6; checklist 16-AUTH-11.
"""

from __future__ import annotations

from typing import Any

import structlog

from agent.core.facts import Token
from agent.ipc.port import TokenVerdict, Welcome
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339

log = structlog.get_logger("ocpp")

ID_TAG_MAX_CHARS = 20


def boot_notification(welcome: Welcome) -> Payload:
    """BootNotification.req."""
    payload = {"chargePointVendor": welcome.vendor[:20], "chargePointModel": welcome.model[:20]}
    optional = {
        "chargePointSerialNumber": welcome.serial[:25],
        "firmwareVersion": (welcome.firmware_version or welcome.software_version)[:50],
    }
    return payload | {name: value for name, value in optional.items() if value}


def id_tag(token: Token) -> str:
    """A token's idTag; empty for one that does not fit, of a session that a change of version left to 1.6."""
    if len(token.id_token) > ID_TAG_MAX_CHARS:
        log.warning("token_too_long", chars=len(token.id_token))
        return ""
    return token.id_token


def authorize(token: Token) -> Payload:
    """Authorize.req."""
    return {"idTag": id_tag(token)}


def read_id_tag_info(info: dict[str, Any]) -> TokenVerdict:
    """What idTagInfo says of a token. The statuses are a subset of those of 2.0.1."""
    expiry_wall_ms = None
    if "expiryDate" in info:
        try:
            expiry_wall_ms = from_rfc3339(info["expiryDate"])
        except BadTimestamp:
            log.warning("bad_expiry_date")  # the status still counts
    return TokenVerdict(info["status"], info.get("parentIdTag") or None, expiry_wall_ms)
