"""Who answers: what a new image must prove before it is marked good.

Charter: listens to device events. A device answers when it has said anything but that it is lost; the gateway, where
there is something for it to do, while it is connected to this process. The test covers only what an image can break:
links to pilot boards, meters and power modules, and a gateway that starts; that the configuration parses and the disk
takes rows is proved by getting this far. Never the network, never the CSMS (firmware reference 1.3, item 11). What did
not answer before the update either is not held against it (item 10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.config.model import Config
from agent.core.events import FromMeter, FromPilot, FromPower
from hal.ports import Lost

_NAMES = {FromPilot: "pilot", FromMeter: "meter", FromPower: "power module"}


class DeviceWatch:
    """All devices of a configuration, by names like ``meter 1`` (EVSE 1), and ``gateway``."""

    def __init__(self, config: Config, gateway_is_there: Callable[[], bool]) -> None:
        self._expected = [f"{name} {evse.id}" for evse in config.evse for name in ("pilot", "meter")]
        self._expected += [f"power module {evse.id}" for evse in config.evse if evse.power is not None]
        self._answering: set[str] = set()
        self._wants_gateway = config.csms is not None or config.web is not None
        self._gateway_is_there = gateway_is_there

    def hear(self, event: FromPilot | FromMeter | FromPower) -> None:
        name = f"{_NAMES[type(event)]} {event.evse}"
        if isinstance(event.event, Lost):
            self._answering.discard(name)
        else:
            self._answering.add(name)

    def silent(self) -> tuple[str, ...]:
        """Who does not answer now."""
        gateway = ("gateway",) if self._wants_gateway and not self._gateway_is_there() else ()
        return (*(name for name in self._expected if name not in self._answering), *gateway)

    def missing(self, forgiven: Iterable[str]) -> list[str]:
        """Whom an image on trial must reach and does not; who was silent before is ``forgiven``."""
        return [name for name in self.silent() if name not in set(forgiven)]
