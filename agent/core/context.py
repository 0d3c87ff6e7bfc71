"""What all EVSEs of a station share during a step: time, clock, link, settings, the way out.

Charter: collects effects and allocates tickets; knows no state machine.

Wall time is an offset to the monotonic clock, set by ``ClockSet``; until a trusted source has spoken
rows are marked "U" and are restamped later from the ``ClockFact`` of the same boot.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.core.effects import Append, Effect
from agent.core.facts import Fact, Token
from agent.core.settings import Behaviour

TariffFor = Callable[[int, Token, str | None], str | None]
"""Content hash of the tariff for an EVSE, a token and its group; None: none is known."""


class Context:
    """Shared by the EVSEs of one station; ``at_ms`` is the time of the event being handled."""

    def __init__(self, behaviour: Behaviour, new_tx_id: Callable[[], str], tariff_for: TariffFor) -> None:
        self.behaviour = behaviour
        self.new_tx_id = new_tx_id
        self.tariff_for = tariff_for
        self.at_ms = 0
        self.online = False
        self.ledger_ok = True
        self.ledger_room = True
        self.ledger_scarce = False  # what room there is, is for starts and ends
        self.wall_offset_ms = 0
        self.time_status = "U"
        self._effects: list[Effect] = []
        self._next_ticket = 1

    @property
    def wall_ms(self) -> int:
        return self.at_ms + self.wall_offset_ms

    @property
    def sure_wall_ms(self) -> int:
        """For what begins at a date: 0 while nobody knows the time, since then it has not begun."""
        return 0 if self.time_status == "U" else self.wall_ms

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def append(self, *facts: Fact) -> int:
        """Append facts; returns the ticket under which ``Durable`` will come."""
        ticket = self._next_ticket
        self._next_ticket += 1
        self.emit(Append(ticket, facts, self.at_ms, self.wall_ms, self.time_status))
        return ticket

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
