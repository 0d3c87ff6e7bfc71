"""The ports between the station and its hardware: value types, declared errors, small Protocols.

Charter: this file is all that the pure core may know of hardware. It holds no I/O, no clock and no
third-party import. Drivers turn bytes into these types; simulators and real devices look the same
from here.

Rules every driver keeps:

* Nothing here blocks the control loop. Commands are plain calls that put bytes on the wire (or into
  a bounded outgoing buffer) and return; answers and news arrive through the ``on_event`` callback,
  in the event loop's thread.
* A driver never raises into the control loop for what a device did. It reports ``Lost`` once, keeps
  trying to reopen with bounded back-off, and reports ``Back`` once when the device answers again.
* A value is never repeated as if it were new: each reading carries the monotonic time at which its
  reply arrived, and silence stays silence.

Units: milliampere, millivolt, milliwatt, milliwatt-hour, milliseconds, 0.01 % duty.
Sources: IEC 61851-1 Annex A (pilot), hardware register maps named in each driver.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

# ------------------------------------------------------------------------------------------ errors


class DeviceError(Exception):
    """A device did not do what its protocol promises. ``device`` names it, ``detail`` says how."""

    def __init__(self, device: str, detail: str) -> None:
        super().__init__(f"{device}: {detail}")
        self.device = device
        self.detail = detail


class DeviceLost(DeviceError):
    """The adapter or line is gone: unplugged, hang-up, port cannot be opened."""


class DeviceTimeout(DeviceError):
    """The line works but the device did not answer in time."""


class BadReply(DeviceError):
    """Bytes came that cannot be the answer: checksum, length, unit id, garbage, impossible value."""


class DeviceRefused(DeviceError):
    """The device answered, and its answer was no (exception code, $NK, error field)."""


class LossKind(enum.StrEnum):
    """Why a device counts as lost; one per declared error."""

    GONE = "gone"
    SILENT = "silent"
    GARBAGE = "garbage"
    REFUSED = "refused"


# ----------------------------------------------------------------------------------- device events


@dataclass(frozen=True, slots=True)
class Lost:
    """The device stopped being usable. Sent once; the driver goes on trying."""

    kind: LossKind
    detail: str


@dataclass(frozen=True, slots=True)
class Back:
    """The device answers again, or for the first time. ``detail`` names model, serial, firmware."""

    detail: str


# --------------------------------------------------------------------------------- control pilot


class CpState(enum.StrEnum):
    """Control pilot state of IEC 61851-1 as seen at the EVSE."""

    A = "A"  # no vehicle
    B = "B"  # vehicle connected, not ready
    C = "C"  # vehicle ready, no ventilation needed
    D = "D"  # vehicle ready, ventilation needed
    E = "E"  # short to protective earth, or no power at the pilot
    F = "F"  # EVSE not available


DUTY_X1 = 10_000  # steady +12 V: no PWM, no current offered
DUTY_F = 0  # steady -12 V
DUTY_DIGITAL = 500  # 5 %: high-level communication required


class BoardFault(enum.StrEnum):
    """What a pilot board detects by itself. Names follow IEC 61851-1 and the boards' own lists."""

    DIODE = "diode"
    RESIDUAL_CURRENT = "residual_current"
    RESIDUAL_SELF_TEST = "residual_self_test"
    NO_GROUND = "no_ground"
    CONTACTOR_WELDED = "contactor_welded"
    CONTACTOR_OPEN = "contactor_open"  # commanded closed, mirror contact says open
    OVER_TEMPERATURE = "over_temperature"
    OVER_CURRENT = "over_current"
    NO_VENTILATION = "no_ventilation"
    LOCK = "lock"
    PILOT = "pilot"
    PROXIMITY = "proximity"
    SPURIOUS_RESET = "spurious_reset"  # the board rebooted without being asked


@dataclass(frozen=True, slots=True)
class PilotState:
    """The pilot's state changed (or is told for the first time after ``Back``)."""

    cp: CpState


@dataclass(frozen=True, slots=True)
class Contactor:
    """What the mirror contact says; from a board that says it has none (``PilotCapabilities``), what it commands."""

    closed: bool


@dataclass(frozen=True, slots=True)
class Cable:
    """Proximity pilot: the cable's rating, or None where no cable is plugged or it is invalid."""

    rating_ma: int | None


class LockPosition(enum.StrEnum):
    UNKNOWN = "unknown"
    UNLOCKED = "unlocked"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Lock:
    position: LockPosition


@dataclass(frozen=True, slots=True)
class BoardFaults:
    """The complete set of faults the board reports now; an empty set clears all."""

    faults: frozenset[BoardFault]


@dataclass(frozen=True, slots=True)
class PilotCapabilities:
    """What a board can do, told after ``Back`` and when it changes. ``autonomous`` boards run IEC 61851 and close the
    contactor themselves."""

    autonomous: bool
    has_lock: bool
    has_contactor_feedback: bool
    can_signal_digital: bool  # 5 % duty, needed for DC and ISO 15118
    max_current_ma: int  # AC: what the board's contactor and wiring carry
    supervision_ms: int  # how long after our death the board keeps what it was told


PilotEvent = Lost | Back | PilotCapabilities | PilotState | Contactor | Cable | Lock | BoardFaults


class ControlPilot(Protocol):
    """Common to both kinds of pilot board."""

    @property
    def capabilities(self) -> PilotCapabilities: ...

    def start(self, on_event: Callable[[PilotEvent], None]) -> None:
        """Begin opening the device and keep it open; must be called inside a running event loop."""
        ...

    async def close(self) -> None:
        """Put the board into its safe state as far as it still answers, and release the port."""
        ...


class SubordinatePilot(ControlPilot, Protocol):
    """A board that obeys: we run the IEC 61851 states and grant power. Calls never block."""

    def set_duty(self, duty_centipercent: int) -> None:
        """Pilot duty in 0.01 %; DUTY_X1, DUTY_F and DUTY_DIGITAL are the special values."""
        ...

    def allow_power(self, allowed: bool) -> None:
        """Grant or withdraw power. Withdrawal goes out at once, ahead of anything buffered."""
        ...

    def set_lock(self, locked: bool) -> None: ...

    def reset(self) -> None:
        """Reboot the board to clear its latched faults; the reboot that follows is not spurious."""
        ...


class AutonomousPilot(ControlPilot, Protocol):
    """A board that runs the pilot itself: we set a current, and let it charge or not. Calls never block.

    The driver holds the wanted state and repeats it until the board confirms it; a newer call
    replaces an older one. ``stop`` and ``disable`` go out at once, ahead of anything pending.
    """

    def offer(self, current_ma: int) -> None:
        """Let the vehicle charge with at most this current (rounded down to the board's steps)."""
        ...

    def stop(self) -> None:
        """Withdraw the offer: steady pilot, contactor opens once the vehicle stops drawing."""
        ...

    def disable(self) -> None:
        """Open the contactor now (pilot state F)."""
        ...

    def reset(self) -> None:
        """Reboot the board to clear its latched faults; the reboot that follows is not spurious."""
        ...


# ---------------------------------------------------------------------------------- energy meter


@dataclass(frozen=True, slots=True)
class MeterReading:
    """One consistent reading. Absent quantities are None, never a number.

    ``energy_import_mwh`` is the meter's own import register, never reset by us.
    Per-phase tuples are (L1, L2, L3); a single-phase or DC meter fills L1 only.
    """

    at_ms: int  # monotonic time when the reply arrived
    serial: str
    energy_import_mwh: int
    energy_export_mwh: int | None
    power_mw: int
    voltage_mv: tuple[int | None, int | None, int | None]
    current_ma: tuple[int | None, int | None, int | None]
    frequency_mhz: int | None = None


MeterEvent = Lost | Back | MeterReading


class EnergyMeter(Protocol):
    """A meter polled by its driver. Readings, loss and return come through the callback."""

    def start(self, on_event: Callable[[MeterEvent], None]) -> None: ...

    def read_soon(self) -> None:
        """Ask for a fresh reading before the next poll is due (session begin and end)."""
        ...

    async def close(self) -> None: ...


# ------------------------------------------------------------------------- meters that sign records


class RecordFault(enum.StrEnum):
    """Why a signing meter has no record to give, or takes no new one."""

    CORRUPTED = "corrupted"  # the meter says that its record is damaged
    UNCONFIRMED = "unconfirmed"  # it still holds a finished record that was not confirmed
    NOT_FETCHED = "not_fetched"  # a record was to be confirmed that this run has never read
    RUNNING = "running"  # a record is running already
    NOT_RUNNING = "not_running"  # none is running, and none is held
    CLOCK_NOT_SET = "clock_not_set"
    NO_KEY = "no_key"  # the meter was never given a signing key
    TEXT = "text"  # part of the request does not fit the meter: length, characters, unknown name
    TOO_LARGE = "too_large"  # the record would be larger than the meter's memory for it


class RecordFailed(DeviceError):
    """A signed record cannot be had, or begun, for a reason that repeating does not cure."""

    def __init__(self, device: str, reason: RecordFault, detail: str) -> None:
        super().__init__(device, detail)
        self.reason = reason


class HeldRecord(enum.StrEnum):
    """What a signing meter holds now; at most one record at a time."""

    NOTHING = "nothing"
    RUNNING = "running"
    FINISHED = "finished"  # until confirmed
    CORRUPTED = "corrupted"  # until confirmed, too: by that the loss is accepted


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What a meter signs beside its own values. Names are those of OCMF, text is printable ASCII without "|"."""

    id_assigned: bool  # IS
    id_level: str  # IL: "NONE", "HEARSAY", "TRUSTED", ...
    id_flags: tuple[str, ...]  # IF: "RFID_PLAIN", "OCPP_AUTH_TLS", ...; at most one of a family
    id_type: str  # IT: "ISO14443", "EMAID", "CENTRAL", ...
    id_data: str  # ID; up to 40 characters, some meters one less
    tariff_text: str  # TT; up to 252 characters, some meters one less
    point_id_type: str  # CT: "EVSEID" or "CBIDC"
    point_id: str  # CI; up to 40 characters, some meters one less
    utc_ms: int | None  # wall time now, since 1970; None where the station itself does not know it
    zone_minutes: int  # local time minus UTC


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A signed record, byte for byte as the device told it, and the device's key as DER SubjectPublicKeyInfo.

    Whether the signature is right is for the receiver to check; while it is not confirmed the record
    can be fetched again.
    """

    text: bytes
    public_key: bytes


class SigningMeter(EnergyMeter, Protocol):
    """A meter that signs by itself. Its records pass through unread and unchanged.

    Every call waits for the device, within a bounded time; calls are carried out one after another.
    Call between ``start`` and ``close``. Each may raise ``DeviceLost``, ``DeviceTimeout``, ``BadReply``,
    ``DeviceRefused`` or ``RecordFailed``; after any of them ``held_record`` tells where the meter stands.
    After the first two or three of these, the same call may simply be made again.
    """

    async def held_record(self) -> HeldRecord:
        """What the meter holds now, also from before a restart. Changes nothing."""
        ...

    async def begin_record(self, request: RecordRequest) -> None:
        """Set the meter's clock and begin a record. Returns once the meter says that it runs."""
        ...

    async def end_record(self) -> SignedRecord:
        """End the running record and fetch it. One that has ended already is only fetched."""
        ...

    async def abort_record(self) -> None:
        """Give the running record up; harmless where none runs. Some meters hold a record of it afterwards."""
        ...

    async def pending_record(self) -> SignedRecord | None:
        """Fetch what the meter holds from before a restart, ending it first where it runs. None: nothing."""
        ...

    async def confirm_record(self) -> None:
        """Let the meter forget the record fetched last: only after it is durable here. Harmless where none is held.

        In the state CORRUPTED there is nothing to fetch, and confirming accepts the loss.
        """
        ...

    async def public_key(self) -> bytes:
        """The meter's signing key, DER SubjectPublicKeyInfo, as the meter tells it."""
        ...


# ---------------------------------------------------------------------------------- power module


class ModuleFault(enum.StrEnum):
    """Alarms of a DC power module, reduced to what the station must act on."""

    FAULT = "fault"
    PROTECTION = "protection"
    FAN = "fan"
    OVER_TEMPERATURE = "over_temperature"
    OUTPUT_OVER_VOLTAGE = "output_over_voltage"
    OUTPUT_SHORT = "output_short"
    DISCHARGE = "discharge"
    INPUT = "input"  # phase lost, unbalanced, too low or too high
    DUPLICATE_ADDRESS = "duplicate_address"
    COMMUNICATION = "communication"  # the module says it did not hear us


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """What the responding modules can deliver together."""

    min_voltage_mv: int
    max_voltage_mv: int
    max_current_ma: int
    max_power_w: int
    modules: int


@dataclass(frozen=True, slots=True)
class PowerOutput:
    """Measured at the modules' output: voltage of the bus, sum of the currents."""

    at_ms: int
    voltage_mv: int
    current_ma: int
    on: bool


@dataclass(frozen=True, slots=True)
class ModuleFaults:
    """The complete set of alarms over all modules; an empty set clears all."""

    faults: frozenset[ModuleFault]


PowerEvent = Lost | Back | PowerLimits | PowerOutput | ModuleFaults


class PowerModule(Protocol):
    """One group of DC power modules that feeds one EVSE. Calls never block.

    The driver repeats the set-point as the modules' keep-alive. After a reconnect it sends OFF,
    then voltage and current, then ON if that is still wanted.
    """

    def start(self, on_event: Callable[[PowerEvent], None]) -> None: ...

    def set_output(self, voltage_mv: int, current_ma: int) -> None: ...

    def switch(self, on: bool) -> None:
        """On or off. Off goes out at once, to every module, and is repeated until confirmed."""
        ...

    async def close(self) -> None: ...


# ------------------------------------------------------------------------------------ temperature


@runtime_checkable
class Thermometer(Protocol):
    """A driver whose device also tells temperatures."""

    def temperatures(self) -> dict[str, int]:
        """The newest of each sensor, 0.001 degrees Celsius; a sensor that tells none now is absent."""
        ...


# ---------------------------------------------------------------------------------- token reader


@dataclass(frozen=True, slots=True)
class TokenSeen:
    """A token was presented: upper-case hex UID (byte 0 first) and its OCPP 2.0.1 type."""

    id_token: str
    token_type: str


ReaderEvent = Lost | Back | TokenSeen


class TokenReader(Protocol):
    """An RFID reader or anything else that yields tokens."""

    def start(self, on_event: Callable[[ReaderEvent], None]) -> None: ...

    async def close(self) -> None: ...
