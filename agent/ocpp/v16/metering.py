"""Samples as 1.6 meterValue objects.

Charter: pure functions from ``Sample`` to ``meterValue`` dicts with the measurands that the settings
ask for, in every phase that was measured (16-MV-03).

Registers are told in whole watt-hours, always rounded down: so meterStart, meterStop and all values
between come from the same step function of the register and their differences can never be negative
or drift (16-TX-11).

Sources: OCPP 1.6 section 7.33 to 7.45; checklist 16-MV-01 to 09, 16-TX-15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from agent.core.facts import Sample, SampleContext
from agent.ocmf.ocpp import signed_value_16
from agent.ocpp import metering
from agent.ocpp.metering import Maker, SampledValue
from agent.ocpp.signed import Carried
from agent.ocpp.timestamps import to_rfc3339


def whole_wh(energy_mwh: int) -> int:
    """A register in Wh as it is told to the CSMS: rounded down."""
    return energy_mwh // 1000


def meter_value(sample: Sample, clock_offset_ms: int, measurands: Iterable[str]) -> dict[str, Any] | None:
    """One meterValue with those of ``measurands`` that the sample has; None if it has none of them."""
    return metering.meter_value(sample, clock_offset_ms, measurands, _MAKERS)


def signed_value(at_wall_ms: int, context: SampleContext, carried: Carried) -> dict[str, Any]:
    """A meterValue that carries one signed record (OCA white paper: the object as text, format SignedData)."""
    sampled = {
        "value": signed_value_16(carried.record, carried.public_key),
        "context": context.value,
        "format": "SignedData",
        "measurand": "Energy.Active.Import.Register",
    }
    return {"timestamp": to_rfc3339(at_wall_ms), "sampledValue": [sampled]}


def decimal(thousandths: int) -> str:
    """``16``, ``0.5``, ``-11040.25`` of a whole number of thousandths, exactly."""
    sign = "-" if thousandths < 0 else ""
    whole, rest = divmod(abs(thousandths), 1000)
    return f"{sign}{whole}.{rest:03d}".rstrip("0").rstrip(".")


# ---------------------------------------------------------------------------------------- measurands


def _register(read: Callable[[Sample], int | None]) -> Callable[[Sample], list[SampledValue]]:
    def make(sample: Sample) -> list[SampledValue]:
        energy_mwh = read(sample)
        return [] if energy_mwh is None else [{"value": str(whole_wh(energy_mwh)), "unit": "Wh"}]

    return make


def _scalar(read: Callable[[Sample], int | None], unit: str | None) -> Callable[[Sample], list[SampledValue]]:
    def make(sample: Sample) -> list[SampledValue]:
        thousandths = read(sample)
        if thousandths is None:
            return []
        return [{"value": decimal(thousandths)} | ({"unit": unit} if unit else {})]

    return make


def _phases(
    read: Callable[[Sample], tuple[int | None, int | None, int | None]], names: tuple[str, str, str], unit: str
) -> Callable[[Sample], list[SampledValue]]:
    def make(sample: Sample) -> list[SampledValue]:
        return [
            {"value": decimal(thousandths), "phase": phase, "unit": unit}
            for phase, thousandths in zip(names, read(sample), strict=True)
            if thousandths is not None
        ]

    return make


_MAKERS: Final[dict[str, Maker]] = {
    "Energy.Active.Import.Register": _register(lambda sample: sample.energy_import_mwh),
    "Energy.Active.Export.Register": _register(lambda sample: sample.energy_export_mwh),
    "Power.Active.Import": _scalar(lambda sample: sample.power_mw, "W"),
    "Current.Import": _phases(lambda sample: sample.current_ma, ("L1", "L2", "L3"), "A"),
    "Current.Offered": _scalar(lambda sample: sample.offered_current_ma, "A"),
    "Voltage": _phases(lambda sample: sample.voltage_mv, ("L1-N", "L2-N", "L3-N"), "V"),
    # 1.6 has no unit for it ("Hertz" came with an erratum that strict peers do not know).
    "Frequency": _scalar(lambda sample: sample.frequency_mhz, None),
}

MEASURANDS: Final = frozenset(_MAKERS)
"""What this station can tell."""
