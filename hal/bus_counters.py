"""What a line to devices has carried: exchanges, failures by kind, latency.

Charter: counters that a driver adds to, and nothing else; reading them is for whoever wants statistics. They count
from when they were made and never fall. Python's integers do not overflow.

Units: microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hal.ports import BadReply, DeviceError, DeviceLost, DeviceRefused, DeviceTimeout, LossKind

_KIND_OF = {
    DeviceLost: LossKind.GONE,
    DeviceTimeout: LossKind.SILENT,
    BadReply: LossKind.GARBAGE,
    DeviceRefused: LossKind.REFUSED,
}


@dataclass(slots=True)
class BusCounters:
    """``exchanges``: requests, or messages where the device speaks by itself; failed ones included. ``timed`` of them
    have a latency: from the request on the line to its whole answer."""

    exchanges: int = 0
    failures: dict[LossKind, int] = field(default_factory=lambda: dict.fromkeys(LossKind, 0))
    timed: int = 0
    latency_sum_us: int = 0
    latency_max_us: int = 0

    def answered(self, latency_us: int | None = None) -> None:
        """One exchange went well; ``latency_us`` where there is one."""
        self.exchanges += 1
        if latency_us is not None:
            self.timed += 1
            self.latency_sum_us += latency_us
            self.latency_max_us = max(self.latency_max_us, latency_us)

    def failed(self, kind: LossKind, times: int = 1) -> None:
        """So many exchanges did not."""
        self.exchanges += times
        self.failures[kind] += times

    @contextmanager
    def failures_counted(self) -> Iterator[None]:
        """Counts the ``DeviceError`` that leaves the block, if one does."""
        try:
            yield
        except DeviceError as error:
            self.failed(_KIND_OF[type(error)])
            raise
