"""Who listens at the back office of the world rig: notes what the station says, and lets it be answered in a mood.

Charter: stands between the simulated network and ``agent.sim.world.back_office``, which does the booking. For each
message it asks for the manner that the scenario wants, and keeps an account of what came in which order.

Units: UTC milliseconds, seconds of the loop's clock.
"""

from __future__ import annotations

import json
from typing import Any

from agent.sim.scenario.reading import QUEUED, message_of, wall_ms_of
from agent.sim.scenario.rig import Account, Told
from agent.sim.scenario.verbs import Message, Mood
from agent.sim.world.back_office import BackOffice
from agent.sim.world.manners import Manner
from agent.sim.world.wire import Wire

_CALL = 2
_MANNERS = {
    Mood.ERROR: Manner.ERROR,
    Mood.MALFORMED: Manner.MALFORMED,
    Mood.GARBAGE: Manner.GARBAGE,
    Mood.SILENCE: Manner.SILENCE,
    Mood.CLOSE: Manner.CLOSE,
}


class Listener:
    """``wire.FarEnd`` before ``office``. ``moods`` are for the scenario to set at any time."""

    def __init__(self, office: BackOffice) -> None:
        self.moods: dict[Message, Mood] = {}
        self.told: list[Told] = []
        self.statuses: list[tuple[int, str]] = []
        self.boots = 0  # that were accepted
        self._office = office
        self._taken: set[str] = set()
        self._complaints: dict[str, None] = {}

    def choose(self, offers: tuple[str, ...]) -> str | None:
        return self._office.choose(offers)

    def opened(self, wire: Wire) -> None:
        self._office.opened(wire)

    def spoiled(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        self._office.spoiled(wire, frame, sent_s)

    def closed(self, wire: Wire) -> None:
        self._office.closed(wire)

    def heard(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        array = json.loads(frame)
        message = message_of(array[2], array[3]) if array[0] == _CALL else None
        if message is None:
            self._office.heard(wire, frame, sent_s)
            return
        mood = self.moods.get(message)
        if mood is Mood.REFUSE:
            self._refuse(message, wire, frame, sent_s)
        else:
            if mood is not None:
                self._office.script(array[2], _MANNERS[mood])
            self._office.heard(wire, frame, sent_s)
        self._note(message, array[3], mood)

    def _refuse(self, message: Message, wire: Wire, frame: bytes, sent_s: float) -> None:
        """What is booked now is answered with a no."""
        mind = self._office.mind
        if message is Message.BOOT:
            mind.hold_boot("Rejected", 0.001)
        tokens, status = mind.tokens, mind.default_status
        mind.tokens, mind.default_status = {}, "Invalid"
        self._office.heard(wire, frame, sent_s)
        mind.tokens, mind.default_status = tokens, status

    def _note(self, message: Message, payload: dict[str, Any], mood: Mood | None) -> None:
        taken = mood in (None, Mood.REFUSE)
        if message in QUEUED:
            ident = json.dumps(payload, sort_keys=True)
            self.told.append(
                Told(message, self._name(payload), wall_ms_of(payload), taken, taken and ident in self._taken)
            )
            if taken:
                self._taken.add(ident)
        elif message is Message.STATUS and taken:
            evse = payload["connectorId"] if "status" in payload else payload["evseId"]
            self.statuses.append((evse, payload["status"] if "status" in payload else payload["connectorStatus"]))
        elif message is Message.BOOT and mood is None:
            self.boots += 1

    def _name(self, payload: dict[str, Any]) -> str:
        """The back office's key of the transaction; "" where it knows none."""
        if "transactionInfo" in payload:
            return str(payload["transactionInfo"]["transactionId"])
        if "meterStart" in payload:
            return f"{payload['connectorId']} {payload['timestamp']} {payload['meterStart']}"
        booked = self._office.book.numbered(payload.get("transactionId", -1))
        return "" if booked is None else booked.key

    def accounts(self) -> tuple[Account, ...]:
        """The back office's transactions of which it knows the begin."""
        return tuple(
            Account(
                each.key,
                each.evse,
                each.begin_mwh,
                wall_ms_of({"timestamp": each.started_at}),
                each.end_mwh,
                wall_ms_of({"timestamp": each.ended_at}) if each.ended_at else None,
                each.reason or None,
            )
            for each in self._office.book.transactions.values()
            if each.begin_mwh is not None
        )

    def complaints(self) -> tuple[str, ...]:
        """All that the back office has ever found wrong, in the order in which it was found."""
        found = [*self._office.violations]
        for each in self._office.book.transactions.values():
            if not each.excused:
                found += [f"{each.key}: {note}" for note in each.disorder]
        self._complaints.update(dict.fromkeys(found))
        return tuple(self._complaints)
