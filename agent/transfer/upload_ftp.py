"""A file to an FTP server, plain or inside TLS: one login, one STOR.

Charter: logs in as downloads do (``over_ftp``: passive, both connections protected or nothing is sent, anonymous where
the location names nobody), asks whether the location is a folder, stores. The file counts as arrived when the server
says so after the data connection is closed.

Sources: RFC 959 (CWD, STOR), RFC 4217 (TLS: the data connection ends with close_notify, or the file may be cut).
"""

from __future__ import annotations

import contextlib
import ftplib
import re
import socket
from typing import Final

from agent.transfer.over_ftp import FtpControl
from agent.transfer.settings import TransferLimits
from agent.transfer.upload import FailureKind, Parcel, Upload, UploadFailed
from agent.transfer.wire import lost

_MEANINGS: Final = {
    "530": ("the login is refused", FailureKind.DENIED),
    "532": ("this user may not store files", FailureKind.DENIED),
    "550": ("no such folder, or it is not for this user", FailureKind.DENIED),
    "553": ("this file name is not allowed", FailureKind.DENIED),
    "500": ("the server does not know how", FailureKind.UNSUPPORTED),
    "502": ("the server does not know how", FailureKind.UNSUPPORTED),
    "504": ("the server does not know how", FailureKind.UNSUPPORTED),
    "452": ("the server has no room", FailureKind.BROKEN),
    "552": ("the server has no room", FailureKind.BROKEN),
}


def send_ftp(upload: Upload, parcel: Parcel) -> None:
    """Raises ``UploadFailed``, ``SourceLost``."""
    where, settings = upload.where, upload.settings
    limits = TransferLimits(
        max_size_bytes=max(1, parcel.size),
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.io_timeout_s,
    )
    control = FtpControl(limits, upload.clock_ms, settings.tls() if where.scheme == "ftps" else None)
    try:
        control.reach(where.host, where.port)
        assert control.sock is not None
        upload.uses(control.sock)
        control.login(where.user or "", where.password)
        control.protect()
        control.voidcmd("TYPE I")
        _store(upload, parcel, control)
        with contextlib.suppress(ftplib.Error, OSError, EOFError):
            control.quit()  # out of politeness: the file is there
    except ftplib.Error as error:
        raise _refused(upload, error) from None  # a server's text could hold what we sent
    except (OSError, EOFError) as error:
        raise lost(where, error) from None
    finally:
        control.close()


def _store(upload: Upload, parcel: Parcel, control: FtpControl) -> None:
    data = control.transfercmd(f"STOR {_target(control, upload.where.path, parcel.name)}")
    with data:
        data.settimeout(upload.settings.io_timeout_s)
        upload.uses(data)
        upload.pour(parcel, data.sendall)
        _finish(data)
    assert control.sock is not None
    upload.uses(control.sock)
    control.voidresp()


def _target(control: FtpControl, path: str, name: str) -> str:
    try:
        control.voidcmd(f"CWD {path}")
    except ftplib.error_perm:  # no folder: the path is the file's
        return path
    return name


def _finish(data: socket.socket) -> None:
    unwrap = getattr(data, "unwrap", None)  # of ssl.SSLSocket, without importing ssl
    if unwrap is not None:
        with contextlib.suppress(OSError):  # the server closed at once; whether it has the file is its answer's affair
            unwrap()


def _refused(upload: Upload, error: ftplib.Error) -> UploadFailed:
    code = str(error)[:3]
    if not re.fullmatch(r"[45][0-9]{2}", code):
        return UploadFailed(f"{upload.where}: the answer cannot be understood", retryable=True)
    words, kind = _MEANINGS.get(code, ("the server refuses", FailureKind.BROKEN))
    return UploadFailed(f"{upload.where}: FTP answer {code} ({words})", kind, retryable=code[0] == "4")
