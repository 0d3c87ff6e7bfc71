"""A download makes way for whoever is on site, however the gateway behaves that brings it; and only for one who may and
can do what he wants.
"""

from __future__ import annotations

import contextlib
import dataclasses
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from agent.config.update import SourcePolicy
from agent.firmware import server as server_module
from agent.firmware import turn as turn_module
from agent.firmware.client import InstallerClient
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.ports import Progress
from agent.firmware.server import _Line, _Teller
from agent.firmware.turn import Turn
from agent.firmware.view import InstallOrder, Origin, StagedPhase
from agent.firmware.wire import PeerGone, receive, send
from agent.ipc.codec import to_plain
from tests.support.update_world import NEW, OLD, release
from tests.unit.firmware.bundle.making import BytesSource
from tests.unit.firmware.bundle.pki import SIGNER
from tests.unit.firmware.installer_site import BUNDLE, DEADLINE_S, ON_SITE, SIGNED, Site, nobody, wait_for

pytestmark = pytest.mark.wire
FROM_AFAR: Final = release(*NEW)
FROM_AFAR_ORDER: Final = InstallOrder(Origin.OCPP, SIGNER.certificate_pem, FROM_AFAR.signature)


class Stalls(BytesSource):
    """A link that stands still after so many reads, until the test lets it go on."""

    def __init__(self, after: int) -> None:
        super().__init__(FROM_AFAR.bundle)
        self.after = after
        self.stands, self.goes_on = threading.Event(), threading.Event()

    def read(self, offset: int, length: int) -> bytes:
        if len(self.reads) >= self.after:
            self.stands.set()
            assert self.goes_on.wait(DEADLINE_S)
        return super().read(offset, length)


class Download:
    """The gateway's, in a thread; ``ended`` says how."""

    def __init__(self, site: Site, source: BytesSource) -> None:
        self.ended: BaseException | StagedPhase | None = None
        self._client = site.client()
        self._source = source
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.ended = self._client.install(self._source, FROM_AFAR_ORDER, nobody).phase
        except BaseException as error:
            self.ended = error

    def join(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self._client.close()


@contextlib.contextmanager
def stalled(site: Site) -> Iterator[Download]:
    """A download that stands still in mid-slot; it goes on at the end."""
    source = Stalls(after=6)
    download = Download(site, source)
    assert source.stands.wait(DEADLINE_S)
    try:
        yield download
    finally:
        source.goes_on.set()
        download.join()


def install(site: Site, bundle: bytes = BUNDLE) -> StagedPhase:
    with site.client() as technician:
        return technician.install(BytesSource(bundle), ON_SITE, nobody).phase


def test_a_download_that_stands_still_makes_way_and_is_told_so(site: Site) -> None:
    site.start()
    with stalled(site) as download:
        assert install(site) is StagedPhase.READY
        assert download.ended is None, "its link still stands"
    assert isinstance(download.ended, UpdateRefused)
    assert (download.ended.refusal, download.ended.why) == (Refusal.REPLACED, "it made way for somebody on site")
    assert site.slot("b").startswith(release(*OLD).content)


def test_what_it_leaves_is_what_a_lost_source_leaves(site: Site) -> None:
    with site.start().client() as client, stalled(site):
        with pytest.raises(UpdateRefused) as caught:
            install(site, bytes(9_000))
        assert caught.value.refusal is Refusal.MALFORMED
        found = client.status()
    assert found.staged is not None
    assert (found.staged.phase, found.staged.version) == (StagedPhase.WRITING, NEW[0])
    assert (found.primary, [slot.bootable for slot in found.slots]) == ("a", [True, False])
    told: list[Progress] = []
    with site.client() as client:  # and the same order, given again, goes on
        client.install(BytesSource(FROM_AFAR.bundle), FROM_AFAR_ORDER, told.append)
    assert told[-1].written_bytes < len(FROM_AFAR.content)


def test_it_also_ends_where_it_waits_for_no_bytes() -> None:
    """It finds all chunks on the device, and only tells its progress."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = _Line(ours)
        tell = _Teller(line)
        tell(Progress(1, 9, 0, 0))
        line.end()
        with pytest.raises(UpdateRefused) as caught:
            tell(Progress(2, 9, 0, 0))
    assert caught.value.refusal is Refusal.REPLACED


def ask_to_install(sock: socket.socket) -> tuple[int, int]:
    args = {"size": len(FROM_AFAR.bundle), "order": to_plain(FROM_AFAR_ORDER)}
    send(sock, {"call": "install", "args": args})
    offset, length = receive(sock)["read"]
    return offset, length


def forever(sock: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(words)


HOSTILE: Final[dict[str, Callable[[socket.socket, int], None]]] = {
    "silent": lambda sock, length: None,
    "always coming": lambda sock, length: threading.Thread(
        target=forever, args=(sock, b'\0\0\0\x0f{"coming":true}'), daemon=True
    ).start(),
    "half a frame": lambda sock, length: sock.sendall(b"\0\0\0\x0f{"),
    "half of the bytes": lambda sock, length: send(sock, {"data": length}, bytes(length - 1)),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_gateway_out_of_its_mind_cannot_keep_anybody_out(site: Site, how: str) -> None:
    with site.start().raw() as sock:
        HOSTILE[how](sock, ask_to_install(sock)[1])
        assert install(site) is StagedPhase.READY
        while "error" not in (said := receive(sock)):
            pass
        assert said["error"]["refusal"] == "replaced"
        with pytest.raises(PeerGone):
            receive(sock)


def test_nor_can_one_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_LISTENS_S", 0.05)
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    line, begun, ended = _Line(ours), threading.Event(), []

    def talk() -> None:
        try:
            while True:
                with line.speaking() as peer:
                    begun.set()
                    send(peer, {"progress": "x" * 10_000})
        except UpdateRefused as refused:
            ended.append(refused.refusal)

    talking = threading.Thread(target=talk)
    with ours, theirs:
        talking.start()
        assert begun.wait(DEADLINE_S)
        wait_for(lambda: not _can_send(ours))
        line.end()
        talking.join(DEADLINE_S / 2)
        assert not talking.is_alive()
    assert ended == [Refusal.REPLACED]


def _can_send(sock: socket.socket) -> bool:
    return bool(select.select([], [sock], [], 0)[1])


CHANGES: Final[dict[str, Callable[[InstallerClient, str], object]]] = {
    "activate": lambda client, digest: client.activate(digest),
    "confirm": lambda client, digest: client.confirm(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_only_the_station_may_do_does_not_wait_for_a_download(site: Site, change: str) -> None:
    with site.start().client() as client, site.raw() as sock:
        digest = client.install(BytesSource(BUNDLE), SIGNED, nobody).digest
        ask_to_install(sock)
        CHANGES[change](client, digest)


# --------------------------------------------------------------------------- what does not end a download


def goes_on(site: Site, attempt: Callable[[InstallerClient], object]) -> UpdateRefused:
    """``attempt`` is refused, and the download that stands still meanwhile comes to its good end."""
    with stalled(site) as download, site.client() as client, pytest.raises(UpdateRefused) as caught:
        attempt(client)
    assert download.ended is StagedPhase.READY
    return caught.value


def test_whoever_may_not_bring_a_bundle_ends_nothing(site: Site) -> None:
    site.config = dataclasses.replace(site.config, local=SourcePolicy.REFUSE)
    site.start()
    refused = goes_on(site, lambda client: client.install(BytesSource(BUNDLE), ON_SITE, nobody))
    assert refused.refusal is Refusal.POLICY


def test_there_is_no_going_back_to_a_slot_that_is_being_written(site: Site) -> None:
    refused = goes_on(site.start(), lambda client: client.revert())
    assert (refused.refusal, refused.why) == (Refusal.UNSUPPORTED, "slot b holds no good image")


@pytest.mark.parametrize("which", ["none that is staged", "that of the download"])
def test_there_is_no_activating_what_is_not_staged(site: Site, which: str) -> None:
    def attempt(client: InstallerClient) -> None:
        downloaded = client.status().staged
        assert downloaded is not None
        client.activate("0" * 64 if which == "none that is staged" else downloaded.digest)

    refused = goes_on(site.start(), attempt)
    assert (refused.refusal, refused.why) == (Refusal.UNSUPPORTED, "no such bundle is staged")


def test_a_download_does_not_end_another(site: Site) -> None:
    refused = goes_on(site.start(), lambda client: client.install(BytesSource(BUNDLE), SIGNED, nobody))
    assert refused.refusal is Refusal.BUSY


# ------------------------------------------------------------------------------------------- the turn


def busy(turn: Turn, end: Callable[[], None] | None = None) -> bool:
    try:
        with turn.taken(end):
            return False
    except UpdateRefused as refused:
        return refused.refusal is Refusal.BUSY


def test_what_cannot_be_ended_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As RAUC, once it installs."""
    monkeypatch.setattr(turn_module, "MAKES_WAY_S", 0.01)
    turn, asked = Turn(), threading.Event()
    with turn.taken(asked.set):
        assert busy(turn)
        assert asked.is_set()
    assert not busy(turn)
    assert not busy(turn, nothing), "nobody waits any more"


def test_nobody_on_site_is_ended() -> None:
    turn = Turn()
    with turn.taken():
        assert busy(turn)
        assert busy(turn, nothing)


def test_while_somebody_on_site_waits_no_other_download_begins() -> None:
    """A gateway out of its mind asks again at once."""
    turn, begun, asked, over = Turn(), threading.Event(), threading.Event(), threading.Event()
    again: list[bool] = []

    def download() -> None:
        with turn.taken(asked.set):
            begun.set()
            asked.wait(DEADLINE_S)
        again.append(busy(turn, nothing))
        over.set()

    thread = threading.Thread(target=download)
    thread.start()
    assert begun.wait(DEADLINE_S)
    with turn.taken():
        assert over.wait(DEADLINE_S)
    thread.join(DEADLINE_S)
    assert again == [True]


def nothing() -> None:
    pass
