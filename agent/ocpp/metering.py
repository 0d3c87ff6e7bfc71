"""What both dialects share of metering: the frame of a meter value, and the thinning of long lists.

Charter: pure. How a measurand is spelled and scaled is each dialect's: it brings a table of makers.
What a CSMS hangs up at is sent again with less in it (``agent.ocpp.retry``): ``forms``.
Sources: checklist 16-MV-03, 16-MV-06, 16-TX-15; OCPP 2.0.1 J02.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from agent.core.facts import Sample
from agent.ocpp.timestamps import to_rfc3339

TRANSACTION_DATA_VALUES_MAX: Final = 300
"""SampledValues in one transactionData: about 40 kB of text."""

SampledValue = dict[str, Any]
Maker = Callable[[Sample], list[SampledValue]]


def meter_value(
    sample: Sample, clock_offset_ms: int, measurands: Iterable[str], makers: Mapping[str, Maker]
) -> dict[str, Any] | None:
    """One meter value with those of ``measurands`` that the sample has; None if it has none of them."""
    sampled: list[SampledValue] = []
    for measurand in measurands:
        make = makers.get(measurand)
        for value in make(sample) if make is not None else ():
            sampled.append(
                {"value": value.pop("value"), "context": sample.context.value, "measurand": measurand} | value
            )
    if not sampled:
        return None
    return {"timestamp": to_rfc3339(clock_offset_ms + sample.at_ms), "sampledValue": sampled}


def thin(meter_values: Sequence[dict[str, Any]], values_max: int = TRANSACTION_DATA_VALUES_MAX) -> list[dict[str, Any]]:
    """At most about ``values_max`` sampledValues: every n-th of the middle; first and last always stay."""
    total = sum(len(value["sampledValue"]) for value in meter_values)
    if total <= values_max or len(meter_values) <= 2:
        return list(meter_values)
    first, *middle, last = meter_values
    step = -(-total // values_max)
    return [first, *middle[step - 1 :: step], last]


def forms(
    meter_values: Sequence[dict[str, Any]], signed: Sequence[dict[str, Any]] = ()
) -> tuple[list[dict[str, Any]], ...]:
    """What a message may carry of these readings, in less and less space: all; the first and the last; none.

    ``signed`` stand beside them, and stay as long as any does."""
    full, ends = [*meter_values, *signed], [*meter_values[:1], *meter_values[-1:], *signed]
    return (full, *([ends] if len(ends) < len(full) else []), *([[]] if full else []))
