"""What a transfer may cost, and whom it trusts: values from the configuration.

Units: bytes, bytes per second, seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.built import BUILD_TIME_MS
from agent.firmware.errors import SourceLost

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Bounds of one transfer. Raises ``ValueError`` where one makes no sense.

    ``max_bytes_per_s`` 0: as fast as it comes. ``read_timeout_s``: how long the server may take for its answer, and
    then for each 4 KiB. ``resumes_max``: how often a broken transfer is taken up again before 1 MiB has come anew.
    """

    max_size_bytes: int
    max_bytes_per_s: int = 0
    connect_timeout_s: float = 30.0
    read_timeout_s: float = 60.0
    redirects_max: int = 5
    resumes_max: int = 10

    def __post_init__(self) -> None:
        if self.max_size_bytes <= 0 or self.connect_timeout_s <= 0 or self.read_timeout_s <= 0:
            raise ValueError("max_size_bytes, connect_timeout_s and read_timeout_s must be above 0")
        if min(self.max_bytes_per_s, self.redirects_max, self.resumes_max) < 0:
            raise ValueError("max_bytes_per_s, redirects_max and resumes_max must not be negative")


@dataclass(frozen=True, slots=True)
class TransferTls:
    """Whom to trust: the roots in ``ca_file`` (PEM) and nobody else, or, where it is None, the system's store."""

    ca_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Chain and host name are checked; TLS 1.2 or newer. Raises ``SourceLost`` when the file is not usable."""
        import ssl

        from agent.security.peer_dates import verify_dates

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        verify_dates(context, BUILD_TIME_MS)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        if self.ca_file is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            return context
        try:
            context.load_verify_locations(cafile=self.ca_file)
        except OSError as error:  # also ssl.SSLError
            raise SourceLost(f"CA file {self.ca_file}: {error.strerror or error}", retryable=False) from error
        return context
