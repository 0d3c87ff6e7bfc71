"""How changed settings are kept, and what they leave in the ledger: a line of the log book each, and a security event
for secrets.

Charter: durable first, then they hold. Whether they may be set is for others to judge, before. The log book never tells
a secret's value.

Source: OCPP security white paper, ReconfigurationOfSecurityParameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.config.device_model import DeviceModel
from agent.config.variable import Key, Mutability
from agent.core.facts import LogEntry, LogFact, SecurityFact
from agent.ledger.state import Namespace, Put, StateChange


class Shell(Protocol):
    async def save(self, changes: Sequence[StateChange]) -> None:
        """Returns when the changes are durable."""
        ...

    def append(self, *facts: LogFact | SecurityFact) -> None: ...


async def keep(model: DeviceModel, shell: Shell, values: Mapping[Key, str], dialect: str | None) -> None:
    """These canonical values hold from now on, over restarts."""
    await shell.save([Put(Namespace.SETTING, str(key), value) for key, value in values.items()])
    before = {key: model.text(key) for key in values}
    for key, value in values.items():
        model.put(key, value)
    shell.append(*facts_of(model, before, values, dialect))


def facts_of(
    model: DeviceModel, before: Mapping[Key, str], after: Mapping[Key, str], dialect: str | None
) -> list[LogFact | SecurityFact]:
    """``before`` and ``after``: the values of the settings that are kept; what is the same leaves nothing. ``dialect``
    of the CSMS on the link."""
    who = f"CSMS, OCPP {dialect}" if dialect else "local"
    facts: list[LogFact | SecurityFact] = []
    for key, value in after.items():
        if value == before[key]:
            continue
        secret = model.spec(key).mutability is Mutability.WRITE_ONLY
        shown = (("before", "secret"), ("after", "secret")) if secret else (("before", before[key]), ("after", value))
        facts.append(LogFact(LogEntry.SETTING_CHANGED, details=(("setting", str(key)), *shown, ("by", who))))
        if secret:
            facts.append(SecurityFact("ReconfigurationOfSecurityParameters", f"{key}, by {who}"[:255]))
    return facts
