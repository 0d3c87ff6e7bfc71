"""What a scenario needs of a rig, and what a rig lets be seen.

Charter: the port between the scenario language and whatever plays it: real processes on ptys, the simulated world,
later an image in QEMU or a bench with a real charger. A rig says what it can do (``can``, ``evses``), does it, lets
time pass (real or virtual: its own affair) and shows a snapshot. Everything shown is plain data of the station's
witnesses: board, car, meter, ledger, CSMS. No I/O here.

Units: mA, mWh; ``at_ms`` is the rig's own monotonic time, ``*_wall_ms`` UTC since 1970. Registers count as the meter
shows them. What adds up (energies, books, boots) may have begun before the scenario: ``play`` looks at what is new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from agent.sim.scenario.verbs import Message, Verb


@dataclass(frozen=True, slots=True)
class SeenEvse:
    """One EVSE. The station's own words (``state``, ``faults``, ``tx_id``, ``limit_ma``) are empty while it is away;
    the rest is what board, car and meter are seen to do."""

    evse: int
    state: str = ""  # OCPP 1.6 ChargePointStatus
    faults: tuple[str, ...] = ()
    tx_id: str | None = None
    limit_ma: int | None = None  # of the charging profiles for this instant (the composite schedule)
    plugged: bool = False
    cp: str = "A"
    contactor_closed: bool = False
    signalled_ma: int = 0  # what the pilot's duty allows the car; 0: nothing
    current_ma: int = 0  # what flows
    taken_mwh: int = 0  # by the car
    metered_mwh: int = 0  # by the meter

    def words(self) -> str:
        contact = "closed" if self.contactor_closed else "open"
        faults = f" ({', '.join(self.faults)})" if self.faults else ""
        return (
            f"EVSE {self.evse} {self.state or 'unknown'}{faults}, cp {self.cp}, contactor {contact}, "
            f"{self.signalled_ma / 1_000:.1f} A signalled, {self.current_ma / 1_000:.1f} A flowing, "
            f"{self.metered_mwh / 1_000:.3f} Wh"
        )


@dataclass(frozen=True, slots=True)
class Account:
    """A transaction in the ledger or in the CSMS's book; what has not happened is None."""

    tx: str  # each book has its own names
    evse: int
    begin_mwh: int
    began_wall_ms: int
    end_mwh: int | None = None
    ended_wall_ms: int | None = None
    reason: str | None = None  # OCPP; 1.6 and 2.0.1 spell some differently

    def words(self) -> str:
        end = "open" if self.end_mwh is None else f"to {self.end_mwh / 1_000:.3f} Wh ({self.reason})"
        return f"{self.tx} at EVSE {self.evse}: {self.begin_mwh / 1_000:.3f} {end}"


@dataclass(frozen=True, slots=True)
class Told:
    """A message from the ledger as it reached the CSMS. ``taken``: it was booked and well answered; ``repeated``: the
    same had been taken before. ``tx`` is the CSMS's name as in its ``Account``, empty where it knows none."""

    message: Message
    tx: str
    wall_ms: int
    taken: bool
    repeated: bool = False

    def words(self) -> str:
        return f"{self.message}{'' if self.taken else ' (not taken)'}{' again' if self.repeated else ''}"


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything at one instant. ``statuses`` are (connector or EVSE, status) as the CSMS was told them, in order."""

    at_ms: int
    evses: tuple[SeenEvse, ...]
    station_up: bool = True
    online: bool = False  # in the station's opinion
    undelivered: int | None = None  # ledger rows that the CSMS must yet hear of; None: the station is away
    ledger: tuple[Account, ...] = ()
    csms: tuple[Account, ...] = ()
    told: tuple[Told, ...] = ()
    statuses: tuple[tuple[int, str], ...] = ()
    boots: int = 0  # BootNotifications that were accepted
    violations: tuple[str, ...] = ()  # what the CSMS found wrong with messages or books
    csms_step_mwh: int = 1  # what the dialect can express: 1.6 tells whole Wh
    events: tuple[str, ...] = ()  # the last few things that happened, in plain words

    def evse(self, number: int) -> SeenEvse:
        return self.evses[number - 1]

    def since(self, begin: Observation) -> Observation:
        """The same without what had already been there at ``begin``, when nothing was under way."""
        before = {evse.evse: evse for evse in begin.evses}
        return replace(
            self,
            evses=tuple(
                replace(
                    evse,
                    taken_mwh=evse.taken_mwh - before[evse.evse].taken_mwh,
                    metered_mwh=evse.metered_mwh - before[evse.evse].metered_mwh,
                )
                for evse in self.evses
            ),
            ledger=self.ledger[len(begin.ledger) :],
            csms=self.csms[len(begin.csms) :],
            told=self.told[len(begin.told) :],
            statuses=self.statuses[len(begin.statuses) :],
            boots=self.boots - begin.boots,
            violations=self.violations[len(begin.violations) :],
        )

    def words(self) -> str:
        link = "online" if self.online else "offline"
        station = f"station {link}, {self.undelivered} rows to tell" if self.station_up else "no station"
        told = ", ".join(each.words() for each in self.told[-12:]) or "nothing"
        return "; ".join([station, *(evse.words() for evse in self.evses), f"the CSMS heard: {told}"])


class RigTrouble(Exception):
    """A rig could not do what it says it can; the text says why, in plain words."""


class Rig(Protocol):
    """What plays a scenario. It is started before and ended after by whoever made it."""

    @property
    def name(self) -> str: ...

    @property
    def can(self) -> frozenset[type[Verb]]:
        """The verbs that it does; scenarios with others are not played."""
        ...

    @property
    def evses(self) -> int:
        """How many EVSEs it has."""
        ...

    @property
    def patience(self) -> int:
        """How many times a scenario's deadlines hold here: whole machines boot in more time than processes start."""
        ...

    async def do(self, verb: Verb) -> str:
        """Do it; returns as soon as it is done, not when its effects are seen. The status that the station
        answers to a ``Command``, any plain words or nothing otherwise. Raises ``RigTrouble``."""
        ...

    async def look(self) -> Observation: ...

    async def wait(self, ms: int) -> None:
        """Let this much of the rig's time pass."""
        ...
