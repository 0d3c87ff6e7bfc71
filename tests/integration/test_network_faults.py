"""Network faults on real sockets, while a car charges: real processes, ptys, a CSMS of each dialect, a faulty network.

Each row says what the gateway finds out, within which time, and how soon it is back when the fault has ended. Nobody
helps it. The car notices nothing, and the CSMS has the whole transaction in the end, once.

What a single link does at each kind of handshake is in ``test_ocpp_link*.py``; here is the whole way from the meter to
the CSMS's book. Source: field faults 7, 8 and 14; checklist WS-04 to WS-11.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from agent.ocpp.certificate_hashes import hash_data
from agent.ocpp.link_failure import FailureKind
from agent.security.roots import HashAlgorithm, read_root
from agent.sim.proxy_faults import NOT_HTTP, TLS_ALERT, Ending, Way, http, says, silence, upgrades_to
from tests.integration.network_rig import (
    ANSWER_S,
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    DAY_MS,
    PASSWORD,
    SILENCE_S,
    SLACK_S,
    GuardedCsms,
    Network,
    Play,
    Row,
    cut_into,
    on_networks,
    renewed,
    served,
    suffer,
    validity,
)
from tests.integration.test_processes import kill, until
from tests.unit.firmware.bundle.pki import make_root

pytestmark = pytest.mark.wire

RETRY_S = BACKOFF_MAX_S  # the next attempt comes within
HUNG_S = RETRY_S + ANSWER_S  # and may hang so long
K = FailureKind

SLOWNESS = (
    Row("latency", lambda p: p.switch_on("latency", delay_ms=100, jitter_ms=100), None, 2.0, 0),
    Row("trickle", lambda p: p.switch_on("trickle"), None, 2.0, 0),
    Row("stall to CSMS", lambda p: p.switch_on("stall", way=Way.TO_CSMS), K.SILENT, SILENCE_S, RETRY_S),
    Row("stall to station", lambda p: p.switch_on("stall", way=Way.TO_STATION), K.SILENT, SILENCE_S, RETRY_S),
    Row("stall both", lambda p: p.switch_on("stall"), K.SILENT, SILENCE_S, RETRY_S),
)
BREAKS = (
    Row("close", lambda p: p.cut(Ending.CLOSE), K.CLOSED, 0, RETRY_S),
    Row("reset", lambda p: p.cut(Ending.RESET), K.CLOSED, 0, RETRY_S),
    Row("close in mid-frame", lambda p: p.switch_on("truncate", after_bytes=9), K.CLOSED, SILENCE_S, RETRY_S),
    Row(
        "reset in mid-frame",
        lambda p: p.switch_on("truncate", after_bytes=99, ending=Ending.RESET, way=Way.TO_CSMS),
        K.CLOSED,
        SILENCE_S,
        RETRY_S,
    ),
    Row("garbage from the CSMS", lambda p: p.switch_on("corrupt"), K.CLOSED, SILENCE_S, RETRY_S),
    Row("garbage to the CSMS", lambda p: p.switch_on("corrupt", way=Way.TO_CSMS), K.CLOSED, SILENCE_S, RETRY_S),
    Row("refuse", lambda p: cut_into(p, "refuse"), K.UNREACHABLE, RETRY_S, RETRY_S),
)
IMPOSTORS = tuple(
    Row(name, partial(cut_into, name="impostor", reply=reply), kind, RETRY_S, RETRY_S)
    for name, reply, kind in (
        ("401", http(401), K.UNAUTHORIZED),
        ("404", http(404), K.UNKNOWN_IDENTITY),
        ("302", http(302, Location="ws://127.0.0.1:9/elsewhere"), K.REDIRECTED),
        ("other subprotocol", upgrades_to("mqtt"), K.NO_SUBPROTOCOL),
        ("no HTTP", says(NOT_HTTP), K.NOT_WEBSOCKET),
        ("503", http(503, Retry_After="2"), K.HTTP_STATUS),
    )
)


async def suffer_all(rows: tuple[Row, ...], network: Network) -> None:
    """A charge, and every fault in turn; its end falls into the last one."""
    await network.online()
    await network.begin_charge()
    async with network.charging_untouched():
        for row in rows[:-1]:
            await suffer(network, row)
    rows[-1].strike(network.proxy)
    await network.unplug()
    await suffer(network, rows[-1])
    await network.books_agree()


def test_a_charge_survives_every_fault_and_is_told_once(tmp_path: Path) -> None:
    tables = {"slowness": SLOWNESS, "breaks": BREAKS, "impostors": IMPOSTORS}
    on_networks(tmp_path, *(Play(name, partial(suffer_all, rows)) for name, rows in tables.items()))


def test_field_fault_07_half_open_socket_is_left_within_two_ping_intervals(tmp_path: Path) -> None:
    """The fault stays: the old connection never ends, only a new one works."""

    async def scene(network: Network) -> None:
        await network.online()
        await network.begin_charge()
        async with network.charging_untouched():
            before = len(network.failures())
            network.proxy.switch_on("half-open")
            await network.failed(FailureKind.SILENT, before, SILENCE_S + SLACK_S)
            await network.online(RETRY_S + SLACK_S)
            assert network.failures()[before:] == [FailureKind.SILENT]
        network.proxy.switch_on("half-open")  # and once more, over the end of the charge
        await network.unplug()
        await network.books_agree()
        assert network.csms.book.boots == 1

    on_networks(tmp_path, Play("half-open", scene))


def test_field_fault_08_flapping_link_makes_no_boot_loop_and_no_bursts(tmp_path: Path) -> None:
    """The CSMS orders before it has answered the boot; then the link breaks again and again."""
    flaps = 5

    async def scene(network: Network) -> None:
        csms, proxy, dice = network.csms, network.proxy, random.Random(8)
        await _order_before_boot(csms)
        proxy.switch_off("latency")
        await network.online()
        assert _calls_before_boot(csms) == 1
        assert csms.book.boots == 1
        at_boot = len(csms.calls("StatusNotification"))
        await network.begin_charge()
        async with network.charging_untouched():
            attempts = len(proxy.attempts)
            for _ in range(flaps):
                proxy.cut(dice.choice([Ending.CLOSE, Ending.RESET]))
                before = len(csms.frames)
                await until(partial(_told_more, csms, before))
                await network.online()
                told = [frame[2] for way, frame in csms.frames[before:] if way == "<" and frame[0] == 2]
                assert len(told) <= 12 and "BootNotification" not in told, told
            tries = list(proxy.attempts)[attempts:]
            assert len(tries) <= flaps + 1
            assert all(later - earlier >= BACKOFF_MIN_S for earlier, later in pairwise(tries)), tries
        await network.unplug()
        await network.books_agree()
        assert csms.book.boots == 1
        statuses = csms.calls("StatusNotification")[at_boot:]
        assert len(statuses) <= 8, "a state is told when it changes, not at every blip"

    slow = {"delay_ms": 300, "way": Way.TO_CSMS}  # so the boot comes after the CSMS's call
    on_networks(tmp_path, Play("flapping", scene, at_first=lambda proxy: proxy.switch_on("latency", **slow)))


async def _told_more(csms: GuardedCsms, before: int) -> bool:
    """The transaction goes on behind the first ``before`` frames."""
    told = {frame[2] for way, frame in csms.frames[before:] if way == "<" and frame[0] == 2}
    return bool(told & {"MeterValues", "TransactionEvent"})


async def _order_before_boot(csms: GuardedCsms) -> None:
    """Order the moment that the station is connected; it must answer, and start nothing."""
    async with asyncio.timeout(30):
        await csms.connected.wait()
    if csms.version == "1.6":
        start = await csms.call("RemoteStartTransaction", id_tag="TOO-EARLY", connector_id=1)
    else:
        token = {"id_token": "TOO-EARLY", "type": "Central"}
        start = await csms.call("RequestStartTransaction", id_token=token, remote_start_id=1, evse_id=1)
    assert start.status == "Rejected"


def _calls_before_boot(csms: GuardedCsms) -> int:
    """How many of our calls went out before the first BootNotification was answered."""
    boot_id = csms.calls("BootNotification")[0][0]
    answer = next(place for place, (way, frame) in enumerate(csms.frames) if way == ">" and frame[:2] == [3, boot_id])
    return sum(way == ">" and frame[0] == 2 for way, frame in csms.frames[:answer])


# --------------------------------------------------------------------------------- who is at the other end


async def certificates(network: Network) -> None:
    """Of the CSMS, in turn. What a clock that is behind makes of them: ``test_ocpp_link_tls``."""
    proxy, folder = network.proxy, network.stage.folder
    good, good_root = proxy.tls, network.ca_file.read_text()
    old = make_root("Root of old", **validity(-2 * DAY_MS, -DAY_MS))
    other = make_root("Another root", **validity(-2 * DAY_MS, DAY_MS))

    async def refused(context: ssl.SSLContext) -> None:
        before = len(network.failures())
        proxy.tls = context
        proxy.cut(Ending.RESET)
        await network.failed(K.TLS_CERTIFICATE, before, RETRY_S + SLACK_S)

    await network.online()
    await network.begin_charge()
    async with network.charging_untouched():
        network.ca_file.write_text(good_root + other.certificate_pem)
        for flaws in (validity(-2 * DAY_MS, -DAY_MS), {"host": "elsewhere.example"}):
            await refused(served(other, folder, **flaws))
            proxy.tls = good
            await network.online(RETRY_S + SLACK_S)
        await refused(served(old, folder))
        network.ca_file.write_text(renewed(old))  # the CSMS stays as it is
        await network.online(RETRY_S + SLACK_S)
        for reply, kind in ((says(TLS_ALERT), K.TLS_CIPHER), (http(400), K.TLS_VERSION)):
            strike = partial(cut_into, name="impostor", reply=reply, before_tls=True)
            await suffer(network, Row("no TLS", strike, kind, RETRY_S, RETRY_S))
    await network.unplug()
    await network.books_agree()
    wrong = "InvalidCentralSystemCertificate" if network.csms.version == "1.6" else "InvalidCsmsCertificate"
    assert network.security_events(wrong) == 3, "one for each time, not one for each attempt"


async def hung_handshakes(network: Network) -> None:
    """Of TLS with the one station, of HTTP inside TLS with the other."""
    strike = partial(cut_into, name="impostor", reply=silence, before_tls=network.csms.version == "1.6")
    await network.online()
    await network.begin_charge()
    async with network.charging_untouched():
        await suffer(network, Row("silence", strike, K.TIMED_OUT, HUNG_S, RETRY_S))
    await network.unplug()
    await network.books_agree()


async def passwords(network: Network) -> None:
    """The CSMS sets a password that it does not take itself; later one that it takes, and forgets the old one."""
    csms = network.csms
    await network.online()
    await network.begin_charge()
    async with network.charging_untouched():
        before = len(network.failures())
        await set_password(csms, "a-password-nobody-knows")
        await network.failed(K.UNAUTHORIZED, before, 2 * RETRY_S + SLACK_S)
        await network.online(RETRY_S + SLACK_S)
        assert network.failures()[before:] == [K.DROPPED, K.UNAUTHORIZED]
        before = len(network.failures())
        csms.passwords = {"a-password-that-is-better"}
        await set_password(csms, *csms.passwords)
        await network.failed(K.DROPPED, before, SLACK_S)
        await network.online(RETRY_S + SLACK_S)
        await csms.call("TriggerMessage", requested_message="Heartbeat")  # a CSMS that closes unheard may have refused
        network.proxy.cut(Ending.RESET)
        await network.failed(K.CLOSED, before, SLACK_S)
        await network.online(RETRY_S + SLACK_S)
        assert network.failures()[before:] == [K.DROPPED, K.CLOSED]
    await network.unplug()
    await network.books_agree()
    told = "FailedToAuthenticateAtC" + ("entralSystem" if csms.version == "1.6" else "sms")
    assert network.security_events(told) == 1
    known = (PASSWORD, "a-password-nobody-knows", "a-password-that-is-better")
    files = [file for file in network.stage.folder.rglob("*") if file.is_file()]
    holders = {file.name for file in files if any(word.encode() in file.read_bytes() for word in known)}
    assert "run.log" in {file.name for file in files}
    assert holders <= {"password", "ledger.sqlite", "ledger.sqlite-wal"}, "nothing that is shown to anybody"


def test_field_fault_14_bad_certificates_and_passwords_are_survived_unaided(tmp_path: Path) -> None:
    """16-SEC-05: after a refusal the old password, one event, and nothing that waits is lost. 16-SEC-06: a bad
    certificate of the CSMS ends the attempt, and is told by its event."""
    scenes = {"certificates": certificates, "hung": hung_handshakes, "passwords": passwords}
    on_networks(tmp_path, *(Play(name, scene, tls=True) for name, scene in scenes.items()))


async def set_password(csms: GuardedCsms, password: str) -> None:
    """As each dialect does it; the station must accept it."""
    if csms.version == "1.6":
        answer = await csms.call("ChangeConfiguration", key="AuthorizationKey", value=password)
        assert answer.status == "Accepted"
        return
    variable = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    answer = await csms.call("SetVariables", set_variable_data=[{**variable, "attribute_value": password}])
    assert answer.set_variable_result[0]["attribute_status"] == "Accepted"


async def another_root(network: Network) -> None:
    """The operator moves to another root, and back. The root that a connection rests on cannot be taken away, and
    what was installed is there after a restart; what was deleted is trusted no longer."""
    proxy, csms, folder = network.proxy, network.csms, network.stage.folder
    delivered, new = proxy.tls, make_root("Root of next year", **validity(-DAY_MS, DAY_MS))
    use = "CentralSystemRootCertificate" if csms.version == "1.6" else "CSMSRootCertificate"

    async def serve(context: ssl.SSLContext | None, *finds: FailureKind) -> None:
        before = len(network.failures())
        proxy.tls = context
        proxy.cut(Ending.RESET)
        await network.failed(finds[-1], before, RETRY_S + SLACK_S)
        if finds == (K.CLOSED,):
            await network.online(RETRY_S + SLACK_S)
        assert tuple(network.failures()[before:])[: len(finds)] == finds

    async def delete() -> str:
        hashes = read_root(new.certificate_pem).hash(HashAlgorithm.SHA384)
        answer = await csms.call("DeleteCertificate", certificate_hash_data=hash_data(hashes))
        return str(answer.status)

    await network.online()
    await network.begin_charge()
    async with network.charging_untouched():
        answer = await csms.call("InstallCertificate", certificate_type=use, certificate=new.certificate_pem)
        assert answer.status == "Accepted"
        under_new = served(new, folder)
        await serve(under_new, K.CLOSED)
        assert await delete() == "Failed"
    await network.unplug()
    await network.books_agree()
    boots = csms.book.boots

    async def booted() -> bool:
        return csms.book.boots > boots

    await kill(network.stage, "station")
    await until(booted)
    await network.online(RETRY_S + SLACK_S)
    await serve(delivered, K.CLOSED)
    assert await delete() == "Accepted"
    await serve(under_new, K.CLOSED, K.TLS_CERTIFICATE)
    proxy.tls = delivered
    await network.online(RETRY_S + SLACK_S)
    assert await delete() == "NotFound"
    assert network.security_events("ReconfigurationOfSecurityParameters") == 2


def test_m05_another_root_of_the_csms_needs_no_visit(tmp_path: Path) -> None:
    on_networks(tmp_path, Play("root", another_root, tls=True))
