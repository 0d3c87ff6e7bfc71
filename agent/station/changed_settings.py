"""What changed settings leave in the ledger: a line of the log book each, and a security event for secrets.

Charter: pure. The log book never tells a secret's value.

Source: OCPP security white paper, ReconfigurationOfSecurityParameters.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.config.device_model import DeviceModel
from agent.config.variable import Key, Mutability
from agent.core.facts import LogEntry, LogFact, SecurityFact


def facts_of(
    model: DeviceModel, before: Mapping[Key, str], after: Mapping[Key, str], dialect: str | None
) -> list[LogFact | SecurityFact]:
    """``before`` and ``after``: the values of the settings that were accepted; ``dialect`` of the CSMS on the link."""
    who = f"CSMS, OCPP {dialect}" if dialect else "local"
    facts: list[LogFact | SecurityFact] = []
    for key, value in after.items():
        secret = model.spec(key).mutability is Mutability.WRITE_ONLY
        shown = (("before", "secret"), ("after", "secret")) if secret else (("before", before[key]), ("after", value))
        facts.append(LogFact(LogEntry.SETTING_CHANGED, details=(("setting", str(key)), *shown, ("by", who))))
        if secret:
            facts.append(SecurityFact("ReconfigurationOfSecurityParameters", f"{key}, by {who}"[:255]))
    return facts
