"""The OCPP versions this station speaks.

Source: OCPP 1.6J section 3.1.2 and OCPP 2.0.1 part 4 section 3.1.2 (subprotocol names).
"""

from __future__ import annotations

import enum


class Version(enum.StrEnum):
    """An OCPP version; the value is how the standard writes it."""

    V16 = "1.6"
    V201 = "2.0.1"
    V21 = "2.1"

    @property
    def subprotocol(self) -> str:
        """The name offered in the WebSocket handshake."""
        return f"ocpp{self.value}"

    @property
    def is_16(self) -> bool:
        """True for 1.6, whose framing and error rules differ from all 2.x versions."""
        return self is Version.V16
