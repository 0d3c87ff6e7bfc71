"""What can be done to a charger, as values: the words of the scenario language.

Charter: one frozen dataclass for each thing that a driver, a car, a network, a mains supply, a CSMS or a careless
technician does. A verb says what, never how: that is the rig's part (``agent.sim.scenario.rig``). ``words`` is what a
technician would write into a protocol. No I/O, no clock.

Units: ``evse`` counts from 1; amperes where a person says them (``amperes``), Wh, milliseconds, seconds in
``StepClock`` (a clock's step may be decades). Names of faults are those of the simulators (``hal.sim.faults.Fault``,
``agent.sim.car.Habit``).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass

CARD, OTHER_CARD = "04A1B2C3D4E5F6", "04B2C3D4E5F6A1"
"""Two drivers' cards that every rig has on its site list: they may charge with and without a CSMS."""


class Process(enum.StrEnum):
    STATION = "station"
    GATEWAY = "gateway"
    BOTH = "station and gateway"


STATION, GATEWAY, BOTH = Process


class Message(enum.StrEnum):
    """What the station tells the CSMS, in the words of both dialects."""

    START = "Start"  # StartTransaction, TransactionEvent Started
    VALUES = "Values"  # MeterValues of a transaction, TransactionEvent Updated
    STOP = "Stop"  # StopTransaction, TransactionEvent Ended
    AUTHORIZE = "Authorize"
    BOOT = "BootNotification"
    STATUS = "StatusNotification"
    HEARTBEAT = "Heartbeat"
    SECURITY = "SecurityEventNotification"


START, VALUES, STOP, SECURITY = Message.START, Message.VALUES, Message.STOP, Message.SECURITY


class Mood(enum.StrEnum):
    """How a CSMS may treat a message. But for ``REFUSE`` it takes nothing of it into its books."""

    ERROR = "with an error"  # CALLERROR
    MALFORMED = "with what no schema allows"  # a CALLRESULT
    GARBAGE = "with garbage"  # no frame at all
    SILENCE = "not at all"
    CLOSE = "by closing the connection"
    REFUSE = "with a refusal"  # it has read and booked it, and says no: Invalid, Rejected


class Verb(ABC):
    """Something that a rig does."""

    __slots__ = ()

    @abstractmethod
    def words(self) -> str:
        """The step as a line of a protocol."""


@dataclass(frozen=True, slots=True)
class AtEvse(Verb, ABC):
    """A verb that concerns one EVSE."""

    evse: int = 1


# ------------------------------------------------------------------------------- driver and car


@dataclass(frozen=True, slots=True)
class Plug(AtEvse):
    def words(self) -> str:
        return f"EVSE {self.evse}: plug in"


@dataclass(frozen=True, slots=True)
class Unplug(AtEvse):
    def words(self) -> str:
        return f"EVSE {self.evse}: unplug"


@dataclass(frozen=True, slots=True)
class Swipe(Verb):
    """A card at the reader of an EVSE. What comes of it is expected, not answered: the CSMS may be asked first."""

    token: str
    evse: int = 1

    def words(self) -> str:
        return f"EVSE {self.evse}: swipe {self.token}"


@dataclass(frozen=True, slots=True)
class CarPauses(AtEvse):
    def words(self) -> str:
        return f"EVSE {self.evse}: the car wants no more power for now"


@dataclass(frozen=True, slots=True)
class CarWakes(AtEvse):
    def words(self) -> str:
        return f"EVSE {self.evse}: the car wants power again"


# ------------------------------------------------------------------------------ link, processes, mains


@dataclass(frozen=True, slots=True)
class DropLink(Verb):
    """The CSMS is gone: the link is cut, every attempt is refused."""

    def words(self) -> str:
        return "the CSMS is lost"


@dataclass(frozen=True, slots=True)
class RestoreLink(Verb):
    def words(self) -> str:
        return "the CSMS is back"


@dataclass(frozen=True, slots=True)
class HalfOpenLink(Verb):
    """From now on nothing passes on the present connection, and neither side is told; a new one would work."""

    def words(self) -> str:
        return "the link goes half-open"


@dataclass(frozen=True, slots=True)
class Kill(Verb):
    """kill -9; whoever watches over the process starts it again."""

    process: Process

    def words(self) -> str:
        return f"kill {self.process}"


@dataclass(frozen=True, slots=True)
class CutPower(Verb):
    """Mains is gone: processes, boards, meters; what was not synced may be lost."""

    def words(self) -> str:
        return "cut the power"


@dataclass(frozen=True, slots=True)
class RestorePower(Verb):
    """Mains is back, in a new boot. ``clock_lost``: the real-time clock says 1970. ``clock_stood``: there is none, and
    the machine's clock goes on where it stood."""

    clock_lost: bool = False
    clock_stood: bool = False

    def words(self) -> str:
        clock = ", the clock has lost the time" if self.clock_lost else ", the clock stood still"
        return "the power is back" + (clock if self.clock_lost or self.clock_stood else "")


@dataclass(frozen=True, slots=True)
class FillDisk(Verb):
    def words(self) -> str:
        return "the disk fills up"


@dataclass(frozen=True, slots=True)
class FreeDisk(Verb):
    def words(self) -> str:
        return "the disk has room again"


@dataclass(frozen=True, slots=True)
class StepClock(Verb):
    """The clock that the station follows (the CSMS's) steps, and the station hears of it at once."""

    by_s: int

    def words(self) -> str:
        return f"the CSMS's clock steps by {self.by_s:+} s"


@dataclass(frozen=True, slots=True)
class StepMachineClock(Verb):
    """The machine's own clock steps; whoever has heard of a better one need not care."""

    by_s: int

    def words(self) -> str:
        return f"the machine's clock steps by {self.by_s:+} s"


# ------------------------------------------------------------------------------------------ devices


@dataclass(frozen=True, slots=True)
class Fault(Verb):
    """A device does wrong from now on. ``device``: pilot, meter, can, or car (``name`` is a habit of it)."""

    device: str
    name: str
    param: int | None = None
    evse: int = 1

    def words(self) -> str:
        return f"EVSE {self.evse}: fault of the {self.device}: {self.name}"


@dataclass(frozen=True, slots=True)
class FaultGone(Verb):
    """All faults of this device are gone."""

    device: str
    evse: int = 1

    def words(self) -> str:
        return f"EVSE {self.evse}: the {self.device} is well again"


# --------------------------------------------------------------------------------------------- CSMS


@dataclass(frozen=True, slots=True)
class CsmsAnswers(Verb):
    """From now on the CSMS answers this message like that."""

    message: Message
    mood: Mood

    def words(self) -> str:
        return f"the CSMS answers {self.message} {self.mood}"


@dataclass(frozen=True, slots=True)
class CsmsWell(Verb):
    """The CSMS answers everything as it should."""

    def words(self) -> str:
        return "the CSMS answers well again"


class Command(Verb, ABC):
    """A command of the CSMS; what the station answers is compared with ``answer``."""

    __slots__ = ()

    answer: str


@dataclass(frozen=True, slots=True)
class RemoteStart(Command):
    token: str
    evse: int = 1
    answer: str = "Accepted"

    def words(self) -> str:
        return f"EVSE {self.evse}: the CSMS starts remotely for {self.token}"


@dataclass(frozen=True, slots=True)
class RemoteStop(Command):
    """The CSMS stops the transaction that it knows to be open at this EVSE."""

    evse: int = 1
    answer: str = "Accepted"

    def words(self) -> str:
        return f"EVSE {self.evse}: the CSMS stops remotely"


@dataclass(frozen=True, slots=True)
class Reset(Command):
    """``when_idle`` (2.0.1 only): after the last transaction, and the answer is then Scheduled while one runs."""

    when_idle: bool = False
    answer: str = "Accepted"

    def words(self) -> str:
        return "the CSMS resets the station" + (" when it is idle" if self.when_idle else "")


@dataclass(frozen=True, slots=True)
class ChangeAvailability(Command):
    """``evse`` 0: the whole station."""

    operative: bool
    evse: int = 0
    answer: str = "Accepted"

    def words(self) -> str:
        where = f"EVSE {self.evse}" if self.evse else "the station"
        return f"the CSMS makes {where} {'operative' if self.operative else 'inoperative'}"


@dataclass(frozen=True, slots=True)
class Limit(Command):
    """A charging profile for the whole station, from now on until the next one; 0: pause."""

    amperes: int
    answer: str = "Accepted"

    def words(self) -> str:
        return f"the CSMS limits the station to {self.amperes} A"


# Scenarios are written in these words.
plug, unplug, swipe, car_pauses, car_wakes = Plug, Unplug, Swipe, CarPauses, CarWakes
drop_link, restore_link, half_open_link = DropLink, RestoreLink, HalfOpenLink
kill, cut_power, restore_power, fill_disk, free_disk = Kill, CutPower, RestorePower, FillDisk, FreeDisk
step_clock, step_machine_clock, fault, fault_gone = StepClock, StepMachineClock, Fault, FaultGone
csms_answers, csms_well = CsmsAnswers, CsmsWell
remote_start, remote_stop, reset, change_availability, limit = RemoteStart, RemoteStop, Reset, ChangeAvailability, Limit
