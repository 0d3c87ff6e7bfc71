"""The installer's socket: who may ask for what, and the bytes of a bundle on their way in.

Charter: one thread for each connection, few of them. A peer is known by its user (SO_PEERCRED, cannot be forged): the
gateway may bring bundles on behalf of OCPP and look; the station and root may do everything. A peer that is silent for
too long is dropped. Whatever goes wrong with a bundle is an answer; an error of ours ends the process, which is
restarted and finds out where it was.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import structlog

from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.mcu import Staged
from agent.firmware.ports import Progress
from agent.firmware.view import InstallOrder, Origin
from agent.firmware.wire import COMING_S, WORK_MAX_S, PeerGone, receive, receive_data, send
from agent.ipc.codec import CodecError, from_plain, to_plain
from agent.ipc.peer import peer_uid

CONNECTIONS_MAX: Final = 8  # for each role: a gateway out of its mind must not keep the station away
SILENCE_MAX_S: Final = 300.0  # a peer that has to bring bytes brings some, or says that they come or cannot
_LISTENS_S: Final = 1.0  # whoever takes up nothing for so long is not told why its download ends
_PROGRESS_PARTS: Final = 200

log = structlog.get_logger("installer")


class Role(enum.Enum):
    GATEWAY = "gateway"
    STATION = "station"  # and root


_MAY: Final = {
    Role.GATEWAY: frozenset({"status", "install"}),
    Role.STATION: frozenset({"status", "install", "mcu", "activate", "confirm", "revert", "reboot"}),
}


class InstallerServer:
    """Serves ``installer`` on a listening socket until nobody has been there for ``idle_s``. ``installer`` raises
    ``SlotFailed`` where this device has none that works."""

    def __init__(
        self,
        listener: socket.socket,
        installer: Callable[[], Installer],
        roles: Mapping[int, Role],
        reboot_command: tuple[str, ...],
        *,
        idle_s: float | None,
    ) -> None:
        self._listener = listener
        self._installer = installer
        self._roles = roles
        self._reboot_command = reboot_command
        self._idle_s = idle_s
        self._connections = dict.fromkeys(Role, 0)
        self._lock = threading.Lock()

    def run(self) -> None:
        """Until idle for too long, or the listener is closed."""
        self._listener.settimeout(self._idle_s)
        while True:
            try:
                peer, _ = self._listener.accept()
            except TimeoutError:
                if not any(self._connections.values()):
                    return
                continue
            except OSError:
                return  # closed: we are to end
            role = self._roles.get(peer_uid(peer))
            if role is None or not self._has_room(role):
                log.warning("peer refused", uid=peer_uid(peer), role=role and role.value)
                peer.close()
                continue
            threading.Thread(target=self._serve, args=(peer, role), daemon=True).start()

    def _has_room(self, role: Role) -> bool:
        with self._lock:
            room = self._connections[role] < CONNECTIONS_MAX
            self._connections[role] += room
            return room

    def _serve(self, peer: socket.socket, role: Role) -> None:
        try:
            peer.settimeout(SILENCE_MAX_S)
            with peer:
                while True:
                    self._answer(peer, role, receive(peer))
        except PeerGone as gone:
            log.debug("peer gone", reason=str(gone))
        except BaseException:
            log.critical("error of our own", exc_info=True)
            os._exit(70)  # a thread cannot end the process otherwise; the next start finds out where we were
        finally:
            with self._lock:
                self._connections[role] -= 1

    def _answer(self, peer: socket.socket, role: Role, message: dict[str, Any]) -> None:
        call, args = message.get("call"), message.get("args", {})
        method = call if isinstance(call, str) else type(call).__name__
        try:
            if method is not call or method not in _MAY[role]:
                raise CodecError(f"{role.value} may not call {method[:40]!r}")
            value = self._call(peer, role, method, args)
        except CodecError as error:
            send(peer, {"error": {"kind": "protocol", "where": method[:40], "why": str(error)}})
        except UpdateRefused as refused:
            log.warning("refused", method=method, refusal=refused.refusal.value, why=str(refused))
            send(peer, {"error": _plain_refusal(refused)})
        except SourceLost as lost:
            log.warning("source lost", why=lost.why)
            send(peer, {"error": {"kind": "lost", "why": lost.why, "retryable": lost.retryable}})
        except SlotFailed as failed:
            log.error("failed", method=method, why=str(failed))
            send(peer, {"error": {"kind": "slot", "where": failed.what, "why": failed.why, "remedy": failed.remedy}})
        else:
            if isinstance(value, Staged):  # bytes do not go into JSON
                head = {"version": value.version, "sha256": value.sha256.hex(), "data": len(value.image)}
                send(peer, {"value": head}, value.image)
            else:
                send(peer, {"value": to_plain(value)})

    def _call(self, peer: socket.socket, role: Role, method: str, args: Any) -> Any:
        if method == "install":
            return self._install(peer, role, args)
        if method == "activate":
            if not isinstance(args, dict) or not isinstance(digest := args.get("digest"), str):
                raise CodecError("activate needs a digest")
            with _Line(peer).kept():
                return self._installer().activate(digest, lambda: _demand_there(peer))
        if method == "mcu":
            if not isinstance(args, dict) or not isinstance(target := args.get("target"), str):
                raise CodecError("mcu needs a target")
            return self._installer().mcu(target)
        if method == "reboot":
            return self._reboot()
        log.debug("called", method=method)
        return getattr(self._installer(), method)()

    def _install(self, peer: socket.socket, role: Role, args: Any) -> Any:
        if not isinstance(args, dict) or not isinstance(size := args.get("size"), int) or size < 0:
            raise CodecError("install needs the size of the bundle")
        order = from_plain(args.get("order"), InstallOrder)
        if role is Role.GATEWAY and order.origin is not Origin.OCPP:
            raise CodecError("the gateway brings bundles on behalf of OCPP only")
        log.info("install begins", origin=order.origin.value, size=size, signed=bool(order.signature))
        line = _Line(peer)
        with line.kept():
            staged = self._installer().install(_PeerSource(line, size), order, _Teller(line), line.end)
        log.info("installed", slot=staged.slot, version=staged.version)
        return staged

    def _reboot(self) -> None:
        command = list(self._reboot_command)
        if (argument := self._installer().reboot_argument) is not None:
            command.append(f"--reboot-argument={argument}")
        log.warning("machine restarts", command=command)
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60, text=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise SlotFailed(command[0], str(error), "restart by hand") from error


class _Line:
    """A peer whose call takes long: who may speak to it, and that it hears something at least every ``COMING_S``."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._turn = threading.Lock()
        self._silent_s = 0.0
        self._ended = False

    @contextlib.contextmanager
    def speaking(self) -> Iterator[socket.socket]:
        """The peer, which hears nobody else meanwhile. Raises ``SourceLost`` where it is gone, ``UpdateRefused``
        (REPLACED) after ``end``."""
        try:
            with self._turn:
                self._demand_not_ended()
                self._silent_s = 0.0
                yield self._peer
        except PeerGone as gone:
            self._demand_not_ended()
            raise SourceLost(f"the peer went away: {gone}", retryable=True) from gone

    def _demand_not_ended(self) -> None:
        if self._ended:
            why = "it made way for somebody on site"
            raise UpdateRefused(Refusal.REPLACED, "installer", why, "order it again, if it is still wanted")

    def end(self) -> None:
        """Somebody on site comes first: from now on nobody waits for this peer, whatever it does. Called from another
        thread. Half of the line stays, to tell the peer why."""
        log.warning("a download ends: somebody on site comes first")
        self._ended = True
        self._shut(socket.SHUT_RD)
        if self._turn.acquire(timeout=_LISTENS_S):
            self._turn.release()
        else:
            self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._peer.shutdown(how)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """The peer is told meanwhile that its answer is coming."""
        done = threading.Event()
        teller = threading.Thread(target=self._keep, args=(done,), daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def _keep(self, done: threading.Event) -> None:
        with contextlib.suppress(PeerGone):  # whoever works for it finds that out
            while not done.wait(COMING_S) and self._silent_s < WORK_MAX_S:
                with self._turn:
                    self._silent_s += COMING_S
                    send(self._peer, {"coming": True})


class _PeerSource:
    """The bundle, as the peer brings it. Data of a length that nobody asked for is a lost source."""

    def __init__(self, line: _Line, size: int) -> None:
        self.size = size
        self._line = line

    def read(self, offset: int, length: int) -> bytes:
        with self._line.speaking() as peer:
            send(peer, {"read": [offset, length]})
            while (answer := receive(peer)).get("coming") is True:
                pass  # it is there, and its link is slow; it is the peer that gives up what does not come
            if isinstance(lost := answer.get("lost"), dict):
                raise SourceLost(str(lost.get("why", ""))[:500], retryable=lost.get("retryable") is True)
            if answer.get("data") != length:
                raise SourceLost("the peer brought other bytes than were asked for", retryable=False)
            return receive_data(peer, length)


class _Teller:
    """Progress to the peer, in not too many steps."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._told_bytes = -1

    def __call__(self, progress: Progress) -> None:
        step = progress.total_bytes // _PROGRESS_PARTS
        if self._told_bytes < 0 or progress.done_bytes - self._told_bytes >= step or self._is_last(progress):
            self._told_bytes = progress.done_bytes
            with self._line.speaking() as peer:
                send(peer, {"progress": to_plain(progress)})

    def _is_last(self, progress: Progress) -> bool:
        return progress.done_bytes == progress.total_bytes != self._told_bytes


def _demand_there(peer: socket.socket) -> None:
    """Raises ``PeerGone`` where the peer does not wait for its answer any more."""
    try:
        readable, _, _ = select.select([peer], [], [], 0)
        if readable and not peer.recv(1, socket.MSG_PEEK):
            raise PeerGone("it did not wait for the answer")
    except OSError as error:
        raise PeerGone(str(error)) from error


def _plain_refusal(refused: UpdateRefused) -> dict[str, str]:
    return {
        "kind": "refused",
        "refusal": refused.refusal.value,
        "where": refused.where[:300],
        "why": refused.why[:500],
        "remedy": refused.remedy[:300],
    }
