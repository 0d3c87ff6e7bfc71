"""The installer, as station, gateway and command line see it: blocking calls over its socket.

Charter: one connection, one call at a time; errors come back as the types that the installer raised. ``close`` from
another thread ends a call under way. Nothing of the installer's own code is imported.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.mcu import Staged
from agent.firmware.ports import Progress, Source
from agent.firmware.view import InstallerView, InstallOrder, StagedView
from agent.firmware.wire import COMING_S, MAX_DATA_BYTES, PeerGone, receive, receive_data, send
from agent.ipc.codec import CodecError, from_plain, to_plain

T = TypeVar("T")
ANSWER_MAX_S: Final = 600.0  # a slow card takes its time; what takes longer says that it is coming


class InstallerAway(Exception):
    """The installer does not answer, or refuses this user."""


class InstallerClient:
    """A connection to the installer. Methods raise ``InstallerAway`` beside what they say, also where it has said
    nothing for ``answer_max_s``."""

    def __init__(self, path: Path, answer_max_s: float = ANSWER_MAX_S) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._calling, self._closing = threading.RLock(), False
        try:
            self._sock.settimeout(answer_max_s)
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise InstallerAway(f"the installer does not answer at {path}: {error.strerror or error}") from error

    def __enter__(self) -> InstallerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Also from another thread: a call that waits ends with ``InstallerAway``, and lets go of the descriptor.
        One that is closed under it may be another file by the time it looks, and it would wait for that."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._closing = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and self._calling.acquire(blocking=False):
            self._sock.close()
            self._calling.release()

    @contextlib.contextmanager
    def _in_a_call(self) -> Iterator[None]:
        try:
            with self._calling:
                yield
        finally:
            self._close_if_idle()

    def status(self) -> InstallerView:
        return _read(self._call("status"), InstallerView)

    def install(self, source: Source, order: InstallOrder, on_progress: Callable[[Progress], None]) -> StagedView:
        """Give a bundle; ``source`` is read in another thread, and may take its time. Raises ``UpdateRefused``,
        ``SlotFailed``, and ``SourceLost`` of the source."""
        args = {"size": source.size, "order": to_plain(order)}
        return _read(self._call("install", args, source, on_progress), StagedView)

    def mcu(self, target: str) -> Staged | None:
        """What the running slot brings for a microcontroller; None: nothing. Raises ``UpdateRefused``,
        ``SlotFailed``."""
        with self._in_a_call():
            return self._mcu(target)

    def _mcu(self, target: str) -> Staged | None:
        value = self._call("mcu", {"target": target})
        if value is None:
            return None
        try:
            version, digest, length = value["version"], bytes.fromhex(value["sha256"]), value["data"]
            if not isinstance(version, str) or not isinstance(length, int):
                raise TypeError("version is no text, or data no number")
        except (LookupError, TypeError, ValueError) as error:
            raise InstallerAway(f"the installer's answer cannot be understood: {error!r:.200}") from error
        try:
            return Staged(version, receive_data(self._sock, length), digest)
        except PeerGone as gone:
            raise InstallerAway(f"the installer went away: {gone}") from gone

    def activate(self, digest: str) -> StagedView:
        """Raises ``UpdateRefused``, ``SlotFailed``."""
        return _read(self._call("activate", {"digest": digest}), StagedView)

    def confirm(self) -> None:
        """Raises ``SlotFailed``."""
        self._call("confirm")

    def revert(self) -> str:
        """The slot that runs after the next boot. Raises ``UpdateRefused``, ``SlotFailed``."""
        return str(self._call("revert"))

    def reboot(self) -> None:
        """Restart the machine. Raises ``SlotFailed``."""
        self._call("reboot")

    def _call(
        self,
        method: str,
        args: dict[str, Any] | None = None,
        source: Source | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Any:
        with self._in_a_call():
            try:
                send(self._sock, {"call": method, "args": args or {}})
                while True:
                    message = receive(self._sock)
                    if "value" in message:
                        return message["value"]
                    if isinstance(error := message.get("error"), dict):
                        _raise(error)
                    if "read" in message and source is not None:
                        self._bring(source, message["read"])
                    if "progress" in message and on_progress is not None:
                        on_progress(_read(message["progress"], Progress))
            except PeerGone as gone:
                raise InstallerAway(f"the installer went away: {gone}") from gone

    def _bring(self, source: Source, wanted: Any) -> None:
        offset, length = _read(wanted, tuple[int, int])
        if offset < 0 or not 0 <= length <= MAX_DATA_BYTES:
            raise InstallerAway(f"the installer asks for {length} bytes at {offset}")
        try:
            with ThreadPoolExecutor(1) as reader:
                work = reader.submit(source.read, offset, length)
                while not wait({work}, COMING_S).done:  # a slow link, or a pause before another try
                    self._reply({"coming": True})
                data = work.result()
        except SourceLost as lost:
            self._reply({"lost": {"why": lost.why, "retryable": lost.retryable}})
            return
        self._reply({"data": len(data)}, data)

    def _reply(self, message: dict[str, Any], data: bytes = b"") -> None:
        """An installer that does not listen any more may have said why: what it says next tells, or that it is gone."""
        with contextlib.suppress(PeerGone):
            send(self._sock, message, data)


def _read(plain: Any, kind: type[T]) -> T:
    """An installer that does not speak as we do is as good as none."""
    try:
        return cast(T, from_plain(plain, kind))
    except CodecError as error:
        raise InstallerAway(f"the installer's answer cannot be understood: {error}") from error


def _raise(error: dict[str, Any]) -> None:
    kind, where, why = error.get("kind"), str(error.get("where", "")), str(error.get("why", ""))
    if kind == "refused" and error.get("refusal") in tuple(Refusal):
        raise UpdateRefused(Refusal(error["refusal"]), where, why, str(error.get("remedy", "")))
    if kind == "lost":
        raise SourceLost(why, retryable=error.get("retryable") is True)
    if kind == "slot":
        raise SlotFailed(where, why, str(error.get("remedy", "")))
    raise InstallerAway(f"the installer does not take this: {why}")
