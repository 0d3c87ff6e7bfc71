"""A file over FTP, plain or inside TLS: one login becomes a stream.

Charter: logs in, asks for size and time, starts the transfer where it is wanted (REST). Passive only: a charger is
behind somebody's router; the data connection goes to the host that answers, whatever address PASV names. A
stream that is given up takes its login with it.

``ftps``: on port 990, which is the default, TLS begins with the first byte; on any other port AUTH TLS asks for it.
Both connections are protected, or nothing is sent; the data connection continues the control connection's TLS
session, without which common servers refuse it. No user in the location: anonymous.

Sources: RFC 959, RFC 3659 (SIZE, MDTM, REST), RFC 2428 (EPSV), RFC 4217 (TLS).
"""

from __future__ import annotations

import ftplib
import io
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent.firmware.errors import SourceLost
from agent.transfer.location import DEFAULT_PORTS, Location
from agent.transfer.settings import TransferLimits, TransferTls
from agent.transfer.stream import Identity
from agent.transfer.wire import Wire, connect, lost, secure

if TYPE_CHECKING:
    import ssl

ANSWER_MAX_LINES: Final = 100

_SIZE = re.compile(r"213 +([0-9]{1,18})\s*")
_TIME = re.compile(r"213 +([0-9.]{14,24})\s*")
_UNKNOWN_COMMAND = frozenset({"500", "501", "502", "504"})
_MEANINGS = {"530": "the login is refused", "550": "no such file, or it is not for this user"}


class FtpOpener:
    """See ``Opener``."""

    def __init__(
        self, location: Location, limits: TransferLimits, tls: TransferTls, clock_ms: Callable[[], int]
    ) -> None:
        self._location = location
        self._limits = limits
        self._tls = tls
        self._clock_ms = clock_ms
        self._context: ssl.SSLContext | None = None

    def open(self, offset: int, known: Identity | None) -> FtpStream:  # noqa: ARG002 - asked anew at each login
        if self._location.scheme == "ftps":
            self._context = self._context or self._tls.context()
        control = FtpControl(self._limits, self._clock_ms, self._context)
        try:
            return self._start(control, offset)
        except (ftplib.Error, OSError, EOFError) as error:
            control.close()
            raise self._lost(error) from None  # a server's text could hold what we sent
        except BaseException:
            control.close()
            raise

    def _start(self, control: FtpControl, offset: int) -> FtpStream:
        where = self._location
        control.reach(where.host, where.port)
        control.login(where.user or "", where.password)
        control.protect()
        control.voidcmd("TYPE I")
        identity = Identity(self._size(control), modified=self._modified(control))
        start, data = self._retrieve(control, offset)
        return FtpStream(where, control, Wire(data, self._limits.read_timeout_s, self._clock_ms), start, identity)

    def _size(self, control: FtpControl) -> int:
        try:
            answer = control.sendcmd(f"SIZE {self._location.path}")
        except ftplib.error_perm as error:
            if _code(error) not in _UNKNOWN_COMMAND:
                raise
            answer = ""
        if (found := _SIZE.fullmatch(answer)) is None:
            raise SourceLost(f"{self._location}: the server does not say how long the file is (SIZE)", retryable=False)
        return int(found[1])

    def _modified(self, control: FtpControl) -> str:
        try:
            found = _TIME.fullmatch(control.sendcmd(f"MDTM {self._location.path}"))
        except ftplib.error_perm:  # it does not know the command, or not for this file
            return ""
        return found[1] if found else ""

    def _retrieve(self, control: FtpControl, offset: int) -> tuple[int, socket.socket]:
        """Where the data begin, and the connection they come by."""
        command = f"RETR {self._location.path}"
        if offset:
            try:
                return offset, control.transfercmd(command, rest=str(offset))
            except ftplib.error_perm as error:
                if _code(error) not in _UNKNOWN_COMMAND:
                    raise
        return 0, control.transfercmd(command)

    def _lost(self, error: Exception) -> SourceLost:
        code = _code(error) if isinstance(error, ftplib.Error) else ""
        if not code:
            return lost(self._location, error)
        why = f"FTP answer {code} ({_MEANINGS.get(code, 'the server refuses')})"
        return SourceLost(f"{self._location}: {why}", retryable=not isinstance(error, ftplib.error_perm))


def _code(error: ftplib.Error) -> str:
    """The three digits of a refusal; ``""`` where it is none, but an answer that makes no sense."""
    code = str(error)[:3]
    return code if re.fullmatch(r"[45][0-9]{2}", code) else ""


class FtpStream:
    """See ``Stream``. Owns both connections."""

    def __init__(self, location: Location, control: FtpControl, data: Wire, start: int, identity: Identity) -> None:
        self.start, self.identity = start, identity
        self._location = location
        self._control = control
        self._data = data

    def read(self, max_bytes: int) -> bytes:
        try:
            piece = self._data.read(max_bytes) or b""
        except OSError as error:
            raise lost(self._location, error) from error
        self._data.was_useful(len(piece))
        return piece

    def close(self) -> None:
        self._data.close()
        self._control.close()


class FtpControl(ftplib.FTP):
    """The library's control connection, with bounded answers and with TLS. All but ``close`` raises ``ftplib.Error``,
    ``OSError`` and ``EOFError``."""

    def __init__(self, limits: TransferLimits, clock_ms: Callable[[], int], context: ssl.SSLContext | None) -> None:
        super().__init__(timeout=limits.connect_timeout_s)
        self._limits = limits
        self._clock_ms = clock_ms
        self._context = context
        self._lines = 0

    def reach(self, host: str, port: int) -> None:
        """Up to where a login may be sent."""
        at_once = self._context if port == DEFAULT_PORTS["ftps"] else None
        self.host = host
        self._use(connect(host, port, self._limits.connect_timeout_s, at_once))
        self.getresp()
        if self._context is not None and at_once is None:
            self.voidcmd("AUTH TLS")
            assert self.sock is not None
            self._use(secure(self.sock, host, self._context))

    def protect(self) -> None:
        """Has the data connection inside TLS too."""
        if self._context is not None:
            self.voidcmd("PBSZ 0")
            self.voidcmd("PROT P")

    def _use(self, connected: socket.socket) -> None:
        """What came before and was not read yet is forgotten: nobody vouches for it once TLS begins."""
        self.sock, self.af = connected, connected.family
        self._wire = Wire(connected, self._limits.read_timeout_s, self._clock_ms)
        self.file = io.TextIOWrapper(self._wire.makefile("rb"), encoding="utf-8", errors="replace")

    def putcmd(self, line: str) -> None:
        self._wire.start()
        super().putcmd(line)

    def getmultiline(self) -> str:
        self._lines = 0
        return super().getmultiline()

    def getline(self) -> str:
        self._lines += 1
        if self._lines > ANSWER_MAX_LINES:
            raise ftplib.Error(f"more than {ANSWER_MAX_LINES} lines")
        return super().getline()

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        try:
            data, size = super().ntransfercmd(cmd, rest)
        except (ValueError, OverflowError) as error:  # the answer to EPSV names no port, or none that there can be
            raise ftplib.Error("no port") from error
        if self._context is not None:
            session: ssl.SSLSession | None = getattr(self.sock, "session", None)
            data = secure(data, self.host, self._context, session)
        return data, size
