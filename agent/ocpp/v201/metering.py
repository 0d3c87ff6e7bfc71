"""Samples as 2.0.1 meterValue objects.

Charter: pure functions from samples to MeterValueType dicts with the measurands that the settings ask
for, in every phase that was measured, and the choice of readings for the event that ends a
transaction.

Values are JSON numbers in Wh, W, A, V, Hz with exactly the thousandths that were measured: a whole
number where it is one, else the float that prints with those digits.

Sources: OCPP 2.0.1 part 2 J01, J02, MeterValueType, SampledValueType, appendix 2 (units).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from agent.core.facts import Sample, SampleContext, TransactionFact
from agent.ipc.port import Record
from agent.ocmf.ocpp import signed_value_201
from agent.ocpp import metering
from agent.ocpp.dialect import StationView
from agent.ocpp.metering import SampledValue, thin
from agent.ocpp.signed import Carried
from agent.ocpp.v201 import settings


def meter_value(sample: Sample, clock_offset_ms: int, measurands: Iterable[str]) -> dict[str, Any] | None:
    """One MeterValueType with those of ``measurands`` that the sample has; None if it has none of them."""
    return metering.meter_value(sample, clock_offset_ms, measurands, _MAKERS)


def started_or_updated(view: StationView, fact: TransactionFact, clock_offset_ms: int) -> list[dict[str, Any]]:
    """The readings that come with an event before the last one (J02)."""
    return _values(fact.samples, clock_offset_ms, lambda context: view.names(_IN_TRANSACTION[context]))


def ended(view: StationView, rows: Iterable[Record]) -> list[dict[str, Any]]:
    """The readings of a whole transaction, for its last event: the first and the last, and between them
    one per interval, as far as they have room (J02)."""
    sampled = _Every(view.integer(settings.TX_ENDED_INTERVAL, 0))
    aligned = _Every(view.integer(settings.ALIGNED_TX_ENDED_INTERVAL, 0))
    names = view.names(settings.TX_ENDED_MEASURANDS)
    aligned_names = view.names(settings.ALIGNED_TX_ENDED_MEASURANDS)
    values: list[dict[str, Any] | None] = []
    for row in rows:
        if not isinstance(row.fact, TransactionFact):
            continue
        for sample in row.fact.samples:
            at_ms = row.clock_offset_ms + sample.at_ms
            match sample.context:
                case SampleContext.BEGIN | SampleContext.END:
                    sampled.taken(at_ms)
                    values.append(meter_value(sample, row.clock_offset_ms, names))
                case SampleContext.PERIODIC if sampled.due(at_ms):
                    sampled.taken(at_ms)
                    values.append(meter_value(sample, row.clock_offset_ms, names))
                case SampleContext.CLOCK if aligned.due(at_ms):
                    aligned.taken(at_ms)
                    values.append(meter_value(sample, row.clock_offset_ms, aligned_names))
                case _:
                    pass
    return thin([value for value in values if value is not None])


def sign(values: list[dict[str, Any]], sample: Sample, clock_offset_ms: int, carried: Sequence[Carried]) -> None:
    """Put signed records to the register reading of this sample, which is added where nobody asked for it. Several
    records stand at one reading each, all of the same register."""
    place = next((value for value in values if _register_in(value, sample.context)), None)
    if place is None:
        place = meter_value(sample, clock_offset_ms, (_REGISTER,))
        assert place is not None, "every sample has a register"
        values.append(place)
    register = _register_in(place, sample.context)
    assert register is not None
    for each, sampled in zip(carried, [register, *({**register} for _ in carried[1:])], strict=True):
        sampled["signedMeterValue"] = signed_value_201(each.record, each.public_key)
        if sampled is not register:
            place["sampledValue"].append(sampled)


def _register_in(value: dict[str, Any], context: SampleContext) -> dict[str, Any] | None:
    wanted = (context.value, _REGISTER)
    return next((each for each in value["sampledValue"] if (each["context"], each["measurand"]) == wanted), None)


def idle(view: StationView, sample: Sample, clock_offset_ms: int) -> list[dict[str, Any]]:
    """A reading outside transactions (J01, F06): aligned or triggered, both with the aligned measurands."""
    return _values((sample,), clock_offset_ms, lambda _context: view.names(settings.ALIGNED_MEASURANDS))


def _values(
    samples: Iterable[Sample], clock_offset_ms: int, names: Callable[[SampleContext], tuple[str, ...]]
) -> list[dict[str, Any]]:
    values = (meter_value(sample, clock_offset_ms, names(sample.context)) for sample in samples)
    return [value for value in values if value is not None]


_IN_TRANSACTION: Final = {
    SampleContext.BEGIN: settings.TX_STARTED_MEASURANDS,
    SampleContext.PERIODIC: settings.TX_UPDATED_MEASURANDS,
    SampleContext.CLOCK: settings.ALIGNED_MEASURANDS,
    SampleContext.END: settings.TX_ENDED_MEASURANDS,
    SampleContext.TRIGGER: settings.TX_UPDATED_MEASURANDS,
    SampleContext.INTERRUPTION_BEGIN: settings.TX_UPDATED_MEASURANDS,
    SampleContext.INTERRUPTION_END: settings.TX_UPDATED_MEASURANDS,
}


_REGISTER: Final = "Energy.Active.Import.Register"


class _Every:
    """Which of many readings to keep so that they are an interval apart; 0 s: none."""

    def __init__(self, interval_s: int) -> None:
        # Readings are not on the dot: a tenth early is in time.
        self._least_ms = interval_s * 900
        self._last_ms: int | None = None

    def due(self, at_ms: int) -> bool:
        return self._least_ms > 0 and (self._last_ms is None or at_ms - self._last_ms >= self._least_ms)

    def taken(self, at_ms: int) -> None:
        self._last_ms = at_ms


# ---------------------------------------------------------------------------------------- measurands


def number(thousandths: int) -> int | float:
    """The number itself; ``json`` writes both kinds with exactly these digits (up to 15 of them)."""
    whole, rest = divmod(thousandths, 1000)
    return whole if rest == 0 else thousandths / 1000


def _scalar(read: Callable[[Sample], int | None], unit: str) -> Callable[[Sample], list[SampledValue]]:
    def make(sample: Sample) -> list[SampledValue]:
        thousandths = read(sample)
        return [] if thousandths is None else [{"value": number(thousandths), "unitOfMeasure": {"unit": unit}}]

    return make


def _phases(
    read: Callable[[Sample], tuple[int | None, int | None, int | None]], names: tuple[str, str, str], unit: str
) -> Callable[[Sample], list[SampledValue]]:
    def make(sample: Sample) -> list[SampledValue]:
        return [
            {"value": number(thousandths), "phase": phase, "unitOfMeasure": {"unit": unit}}
            for phase, thousandths in zip(names, read(sample), strict=True)
            if thousandths is not None
        ]

    return make


_MAKERS: Final[dict[str, Callable[[Sample], list[SampledValue]]]] = {
    "Energy.Active.Import.Register": _scalar(lambda sample: sample.energy_import_mwh, "Wh"),
    "Energy.Active.Export.Register": _scalar(lambda sample: sample.energy_export_mwh, "Wh"),
    "Power.Active.Import": _scalar(lambda sample: sample.power_mw, "W"),
    "Current.Import": _phases(lambda sample: sample.current_ma, ("L1", "L2", "L3"), "A"),
    "Current.Offered": _scalar(lambda sample: sample.offered_current_ma, "A"),
    "Voltage": _phases(lambda sample: sample.voltage_mv, ("L1-N", "L2-N", "L3-N"), "V"),
    "Frequency": _scalar(lambda sample: sample.frequency_mhz, "Hz"),
}
