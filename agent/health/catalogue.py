"""Every trouble that a station can have: what it is called, how bad it is, who is told by which name, what to do.

Charter: the one truth of fault codes. ``FaultCode`` of the core is a part of it; what the core needs to act (when a
fault clears, what it ends) stays in ``agent.core.faults``. The vendor error code of OCPP 1.6 and the ``techCode`` of
2.0.1 are the code itself.

OCPP 2.0.1 names are those of its appendix 3 but for the variable Problem of RCD, SecurityCtrlr and TariffCostCtrlr,
which the appendix lists for other components only. A line to a device is a DataLink of its EVSE, the one to the CSMS
a DataLink of the station.

Sources: OCPP 1.6 section 7.6 (checklist 16-ST-07); OCPP 2.0.1 part 2 appendix 3, SetMonitoringData (severity).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from agent.core.faults import SPECS, Clears
from agent.core.status import FaultCode
from agent.health.model import Condition, Part, Severity


@dataclass(frozen=True, slots=True)
class Entry:
    """One trouble. ``text`` says what is wrong, ``remedy`` what a person can do about it, both in plain words;
    ``ocpp16`` is the ChargePointErrorCode, ``component`` and ``variable`` what a 2.0.1 event names."""

    code: str
    part: Part
    severity: Severity
    text: str
    remedy: str
    ocpp16: str
    component: str
    variable: str = "Problem"
    clears: Clears = Clears.SELF

    @property
    def condition(self) -> Condition:
        """A fault keeps somebody from charging, or will; a warning does not."""
        return Condition.FAULT if self.severity <= Severity.ERROR else Condition.WARNING

    @property
    def latched(self) -> bool:
        return self.clears is Clears.ACTION


_P, _S = Part, Severity
_PILOT, _METER, _POWER, _RCD = "CPPWMController", "FiscalMetering", "AcDcConverter", "RCD"
_STATION, _LINK, _SECURITY, _CLOCK = "Controller", "DataLink", "SecurityCtrlr", "RealTimeClock"


def _core(
    fault: FaultCode,
    part: Part,
    severity: Severity,
    text: str,
    remedy: str,
    ocpp16: str,
    component: str,
    variable: str = "Problem",
) -> Entry:
    """A fault of an EVSE; when it clears is the core's to say."""
    return Entry(fault.value, part, severity, text, remedy, ocpp16, component, variable, SPECS[fault].clears)


_F = FaultCode
_PILOT_AND_VEHICLE: Final = (
    _core(
        *(_F.PILOT_LOST, _P.PILOT, _S.HARDWARE_FAILURE, "pilot board does not answer"),
        "Check the board's power and the cable to it. If they are sound, replace the board.",
        *("InternalError", _PILOT),
    ),
    _core(
        *(_F.DIODE, _P.PILOT, _S.ERROR, "diode in the vehicle's pilot circuit is missing"),
        "Unplug and try another vehicle. If it charges, the first vehicle is at fault; if not, check plug and cable.",
        *("EVCommunicationError", _PILOT),
    ),
    _core(
        *(_F.PILOT_SHORT, _P.PILOT, _S.ERROR, "pilot is short-circuited (state E)"),
        "Unplug. If the fault stays, check cable, plug and pilot wiring for a short circuit.",
        *("EVCommunicationError", _PILOT),
    ),
    _core(
        *(_F.PILOT, _P.PILOT, _S.ERROR, "pilot level is out of range"),
        "Unplug and plug in again. If the fault stays, check plug contacts and pilot wiring.",
        *("EVCommunicationError", _PILOT),
    ),
    _core(
        *(_F.PROXIMITY, _P.PILOT, _S.ERROR, "proximity pilot is invalid"),
        "Use another charging cable. If the fault stays, check the socket's contacts.",
        *("OtherError", "Connector"),
    ),
    _core(
        *(_F.NO_VENTILATION, _P.PILOT, _S.ERROR, "vehicle asks for ventilation, and there is none here"),
        "This vehicle cannot be charged here. Unplug it.",
        *("OtherError", "AreaVentilation"),
    ),
    _core(
        *(_F.BOARD_RESET, _P.PILOT, _S.SYSTEM_FAILURE, "pilot board restarted by itself"),
        "If it happens again, check the board's power supply and its firmware.",
        *("InternalError", _PILOT),
    ),
)
_PROTECTION: Final = (
    _core(
        *(_F.RESIDUAL_CURRENT, _P.PILOT, _S.DANGER, "residual current was detected"),
        "Unplug the vehicle. If it trips again with another vehicle, have an electrician check insulation and cable.",
        *("GroundFailure", _RCD, "Tripped"),
    ),
    _core(
        *(_F.RESIDUAL_SELF_TEST, _P.PILOT, _S.DANGER, "residual current detector failed its self-test"),
        "Do not charge here. Replace the detector or its board, then clear the fault.",
        *("InternalError", _RCD),
    ),
    _core(
        *(_F.NO_GROUND, _P.PILOT, _S.DANGER, "protective earth is missing"),
        "Do not charge here. Have an electrician check the protective earth of the supply.",
        *("GroundFailure", "ElectricalFeed"),
    ),
    _core(
        *(_F.CONTACTOR_WELDED, _P.CONTACTOR, _S.DANGER, "contactor does not open (welded)"),
        "Switch off the supply: the plug may be live. Replace the contactor, then clear the fault.",
        *("PowerSwitchFailure", "PowerContactor"),
    ),
    _core(
        *(_F.CONTACTOR_OPEN, _P.CONTACTOR, _S.HARDWARE_FAILURE, "contactor does not close"),
        "Unplug and try again. If the fault comes back, check the contactor's coil, its wiring and its feedback.",
        *("PowerSwitchFailure", "PowerContactor"),
    ),
    _core(
        *(_F.OVER_CURRENT, _P.CONTACTOR, _S.CRITICAL, "vehicle draws more current than it was offered"),
        "Unplug the vehicle. If other vehicles do it too, check the meter's and the limit's configuration.",
        *("OverCurrentFailure", "OverCurrentProtection", "Operated"),
    ),
    _core(
        *(_F.LOCK, _P.LOCK, _S.HARDWARE_FAILURE, "connector lock does not reach its position"),
        "Push the plug fully in. If the lock still jams, check its motor and its feedback switch.",
        *("ConnectorLockFailure", "ConnectorPlugRetentionLock"),
    ),
    _core(
        *(_F.OVER_TEMPERATURE, _P.TEMPERATURE, _S.CRITICAL, "temperature is too high"),
        "Let it cool down. Check fans, filters and sun; check terminals and plug contacts for heat.",
        *("HighTemperature", "TemperatureSensor"),
    ),
)
_POWER_AND_METER: Final = (
    _core(
        *(_F.METER_LOST, _P.METER, _S.HARDWARE_FAILURE, "energy meter does not answer"),
        "Check the meter's supply, the bus wiring and the configured address.",
        *("PowerMeterFailure", _METER),
    ),
    _core(
        *(_F.METER_IMPLAUSIBLE, _P.METER, _S.HARDWARE_FAILURE, "energy meter tells values that cannot be"),
        "Check meter and bus. After a meter was exchanged, reset or stood still, restart the station.",
        *("PowerMeterFailure", _METER),
    ),
    _core(
        *(_F.POWER_MODULE_LOST, _P.POWER_MODULE, _S.HARDWARE_FAILURE, "no DC power module answers"),
        "Check the modules' supply and the CAN wiring with its terminators.",
        *("InternalError", _POWER),
    ),
    _core(
        *(
            _F.POWER_MODULE,
            _P.POWER_MODULE,
            _S.HARDWARE_FAILURE,
            "DC power module reports an alarm, or puts out too much",
        ),
        "Check the supply's phases, the fans and the output. Replace the module if the alarm stays.",
        *("InternalError", _POWER),
    ),
    Entry(
        *("reader_lost", _P.READER, _S.HARDWARE_FAILURE, "token reader does not answer"),
        "Check the reader's cable and supply. Until it answers, charging starts by app or CSMS only.",
        *("ReaderFailure", "TokenReader"),
    ),
    Entry(
        *("bus_gone", _P.BUS, _S.HARDWARE_FAILURE, "serial or CAN adapter is gone"),
        "Check that the adapter is plugged in and that its device name in the configuration is right.",
        *("InternalError", _LINK),
    ),
    Entry(
        *("bus_garbled", _P.BUS, _S.WARNING, "what comes over the line is garbled"),
        "Check shielding, terminators, baud rate, and that no two devices have the same address.",
        *("InternalError", _LINK),
    ),
)
_STORE: Final = (
    _core(
        *(_F.LEDGER, _P.LEDGER, _S.SYSTEM_FAILURE, "ledger cannot be written"),
        "Charging has stopped. Check the disk; the station restarts by itself and tries again.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("ledger_damaged", _P.LEDGER, _S.CRITICAL, "ledger was damaged and is kept as evidence"),
        "Save the evidence file, find out why, then run `evsed ledger acknowledge`.",
        *("InternalError", _STATION),
        clears=Clears.ACTION,
    ),
    Entry(
        *("ledger_not_whole", _P.LEDGER, _S.SYSTEM_FAILURE, "ledger is not whole"),
        "Run `evsed ledger verify` and keep a copy of the ledger before anything is changed.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("disk_full", _P.DISK, _S.CRITICAL, "too little room on the ledger's disk: no new transactions"),
        "Free space on the disk that holds the ledger.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("disk_scarce", _P.DISK, _S.WARNING, "room on the ledger's disk is scarce: only starts and ends are written"),
        "Free space on the disk that holds the ledger. Readings in between are left out until then.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("disk_unreadable", _P.DISK, _S.SYSTEM_FAILURE, "ledger's disk cannot be looked at"),
        "Check that the disk is mounted and sound. Replace it if the kernel log shows errors of it.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("clock_unset", _P.CLOCK, _S.WARNING, "clock was not set since power-up"),
        "It is set when the CSMS answers. Check the link; check the battery of the real-time clock.",
        *("OtherError", _CLOCK),
    ),
    Entry(
        *("clock_unconfirmed", _P.CLOCK, _S.NOTICE, "CSMS has not confirmed the time since the start"),
        "It is confirmed when the CSMS answers. Check the link.",
        *("OtherError", _CLOCK),
    ),
)
_OUTSIDE: Final = (
    Entry(
        *("csms_link_down", _P.CSMS_LINK, _S.ALERT, "no link to the CSMS"),
        "Check the network and the URL of the CSMS. Charging goes on by the rules for offline.",
        *("OtherError", _LINK),
    ),
    Entry(
        *("csms_refused", _P.CSMS_LINK, _S.ERROR, "CSMS refuses this station"),
        "Check identity and password on both sides.",
        *("OtherError", _LINK),
    ),
    Entry(
        *("csms_mistrusted", _P.CSMS_LINK, _S.ERROR, "no secure link to the CSMS can be agreed on"),
        "Check the clock, the CA file and the name in the CSMS's certificate.",
        *("OtherError", _SECURITY),
    ),
    Entry(
        *("csms_boot_rejected", _P.CSMS_LINK, _S.ERROR, "CSMS rejects the station's registration"),
        "Register serial number and model of this station at the CSMS.",
        *("OtherError", _LINK),
    ),
    Entry(
        *("certificate_expiring", _P.CERTIFICATES, _S.WARNING, "certificate expires soon"),
        "Install a new certificate before it expires.",
        *("OtherError", _SECURITY),
    ),
    Entry(
        *("certificate_expired", _P.CERTIFICATES, _S.ERROR, "certificate has expired"),
        "Install a new certificate. Check the clock if it should still be valid.",
        *("OtherError", _SECURITY),
    ),
    Entry(
        *("certificate_unusable", _P.CERTIFICATES, _S.ERROR, "certificate file cannot be used"),
        "Check that the file is there, in PEM form, and readable for the gateway.",
        *("OtherError", _SECURITY),
    ),
)
_SOFTWARE: Final = (
    Entry(
        *("update_failed", _P.SLOTS, _S.ALERT, "last firmware update failed"),
        "The old image runs on. Order the update again when its cause is removed.",
        *("OtherError", _STATION),
    ),
    Entry(
        *("slot_on_trial", _P.SLOTS, _S.NOTICE, "new image is on trial"),
        "Nothing: it is kept when the self-test passes, else the old image comes back.",
        *("OtherError", _STATION),
    ),
    Entry(
        *("slot_bad", _P.SLOTS, _S.WARNING, "other image does not boot: there is nothing to go back to"),
        "Install an update, so that there are two good images again.",
        *("OtherError", _STATION),
    ),
    Entry(
        *("installer_away", _P.PROCESSES, _S.ALERT, "installer does not answer: no updates"),
        "See the log of evsed-installer. It is restarted by itself.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("gateway_away", _P.PROCESSES, _S.ALERT, "gateway does not answer: no CSMS"),
        "See the log of evsed-gateway. It is restarted by itself.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("process_crashed", _P.PROCESSES, _S.ALERT, "station software ended without order and was started again"),
        "Send a diagnostics archive to the maker: `evsed diagnostics`.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("memory_high", _P.PROCESSES, _S.WARNING, "station software uses too much memory"),
        "Restart the station when nobody charges, and send a diagnostics archive to the maker.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("loop_late", _P.PROCESSES, _S.WARNING, "station software runs late"),
        "See what else runs on the machine, and whether it is too hot.",
        *("InternalError", _STATION),
    ),
    Entry(
        *("tariff_refused", _P.PROCESSES, _S.WARNING, "live tariff was refused, the one before goes on"),
        "Correct the tariff file: `evsed tariff check FILE` lists every mistake.",
        *("OtherError", "TariffCostCtrlr"),
    ),
)

CATALOGUE: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        entry.code: entry
        for group in (_PILOT_AND_VEHICLE, _PROTECTION, _POWER_AND_METER, _STORE, _OUTSIDE, _SOFTWARE)
        for entry in group
    }
)
"""Every trouble by its code."""

DRIVERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        _F.CONTACTOR_WELDED.value: "Do not unplug, and do not touch plug or cable: they may be live. Call for help.",
        _F.NO_GROUND.value: "Do not touch plug, cable or a vehicle that is plugged in. Call for help.",
        _F.RESIDUAL_CURRENT.value: "Do not touch plug or cable if they are wet or damaged. Call for help.",
        _F.RESIDUAL_SELF_TEST.value: "Do not touch plug or cable if they are wet or damaged. Do not charge here.",
        _F.OVER_TEMPERATURE.value: "The plug may be hot. Let it cool down before you touch it.",
    }
)
"""What a driver is told where touching matters, by code: in place of all other advice, the most dangerous first."""
