"""A hostile network before the local page, with real processes: charging and OCPP do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from pathlib import Path

import pytest

from agent.core.facts import Token
from agent.core.status import ConnectorState
from agent.ipc.statistics import Lateness
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage, free_port
from tests.integration.test_processes import is_state, pid_of, until

pytestmark = pytest.mark.wire

CLIENTS = 500
LASTS_S = 15.0
GATEWAY_MAX_KIB = 128 * 1024  # MemoryMax= of its unit
HOST = b"host: localhost\r\n"
FORM = b"origin: http://localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n"
ATTACKS = (
    b"",  # says nothing
    b"GET / HTTP/1.1\r\nhost: loc",  # never ends its head
    b"POST /login HTTP/1.1\r\n" + HOST + b"origin: http://localhost\r\ncontent-length: 60000\r\n\r\nsecret=",
    b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 100_000 + b"\r\n\r\n",
    b"POST /login HTTP/1.1\r\n" + HOST + b"content-length: 999999999\r\n\r\n" + b"a" * 200_000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    b"GET /assets/..%2f..%2f..%2fetc/passwd%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n",  # and reads nothing of it
    b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n" * 2,
    (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 100,  # all at once
    b"POST /login HTTP/1.1\r\n" + HOST + FORM + b"content-length: 12\r\n\r\nsecret=guess",
)


async def attack(port: int) -> None:
    """Each client does one rude thing after the other, from an address of its own, until the time is up."""

    end_s = time.monotonic() + LASTS_S

    async def client(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                source = f"127.0.{number % 50 + 1}.{number % 7 + 1}"
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), limit=1)
                try:
                    writer.write(dice.choice(ATTACKS))
                    await asyncio.wait_for(reader.read(1), dice.uniform(0.1, 3.0))
                except TimeoutError:
                    pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def test_hundreds_of_hostile_clients_leave_charging_and_ocpp_alone(tmp_path: Path) -> None:
    async def main() -> None:
        frames = 0

        def count(_way: str, _text: str) -> None:
            nonlocal frames
            frames += 1

        csms, port = SimCsms("2.0.1", count), free_port()
        stage = Stage(tmp_path, await csms.start(), sample_s=1, boards=("mcu_ac",), extra=f"\n[web]\nport = {port}\n")
        stage.lay_out()
        try:
            await stage.start()
            await csms.connected.wait()
            await stage.order(1, "plug")
            await until(lambda: is_state(stage, 1, ConnectorState.PREPARING))
            station = await stage.station()
            await station.present_token(Token("04A2B3C4D5E6F7"), 1)
            await until(lambda: is_state(stage, 1, ConnectorState.CHARGING))
            await until(lambda: answers(port))
            gateway = pid_of(stage, "gateway")
            quiet = await station.statistics()
            await asyncio.sleep(LASTS_S)
            before, frames_before = await station.statistics(), frames
            assault = asyncio.create_task(asyncio.to_thread(asyncio.run, attack(port)))
            while not assault.done():
                assert (await stage.order(1, "status"))["relay_closed"], "the charge goes on"
                await asyncio.sleep(0.2)
            await assault
            after, frames_after = await station.statistics(), frames
            report("quiet", quiet.process.lateness, before.process.lateness, frames_before)
            report("hostile", before.process.lateness, after.process.lateness, frames_after - frames_before)
            # A reading each second, and its answer.
            assert frames_after - frames_before >= LASTS_S, "the CSMS hears of the charge all the time"
            status = await station.status()
            assert status.online and status.evses[0].state is ConnectorState.CHARGING
            assert pid_of(stage, "gateway") == gateway, "it has not died"
            assert peak_kib(gateway) < GATEWAY_MAX_KIB
            await until(lambda: answers(port))
            assert csms.book.violations == []
            await station.close()
        finally:
            await stage.stop()
            await csms.stop()

    asyncio.run(asyncio.wait_for(main(), 150))


async def answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
    except (OSError, TimeoutError):
        return False
    return answer.startswith(b"HTTP/1.1 200")


def peak_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def report(name: str, one: Lateness, two: Lateness, frames: int) -> None:
    """For people who want to compare: the station's timers in this stretch, and what the CSMS heard."""
    counts = [after - before for before, after in zip(one.counts, two.counts, strict=True)]
    mean_us = (two.sum_us - one.sum_us) // max(1, sum(counts))
    print(f"{name}: {sum(counts)} timers, mean {mean_us} us late, by bound {counts}, {frames} frames", file=sys.stderr)
