"""The gateway with and without a page: what is loaded, what it costs, what it serves without a CSMS, by TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.main import main as evsed
from agent.config.load import load
from agent.gateway import _work
from agent.sim.stage import Stage, free_port
from agent.web import secret
from tests.integration.test_processes import until
from tests.integration.test_web_hostile import answers
from tests.support.fake_station import FakeStation
from tests.support.station_socket import on_its_socket

pytestmark = pytest.mark.wire

# What a gateway has loaded when it works, as it ends.
_LOADED = """
import asyncio, signal, sys, threading
from agent.cli.main import main
threading.Timer(2.0, signal.raise_signal, [signal.SIGTERM]).start()
code = main(["gateway", "--config", sys.argv[1]])
print(sorted({name.partition(".")[0] for name in sys.modules} & {"starlette", "uvicorn", "h11", "anyio", "segno"}))
sys.exit(code)
"""


@pytest.mark.parametrize(("page", "loaded"), [(False, "[]"), (True, "['anyio', 'h11', 'starlette', 'uvicorn']")])
def test_page_that_is_off_is_not_loaded(tmp_path: Path, page: bool, loaded: str) -> None:
    stage = Stage(tmp_path, "ws://127.0.0.1:1/ocpp", boards=("mcu_ac",))
    stage.extra = f"\n[web]\nport = {free_port()}\n" if page else ""
    stage.lay_out()
    command = [sys.executable, "-c", _LOADED, str(stage.config_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == loaded


def test_page_without_a_csms(tmp_path: Path) -> None:
    """A station that works alone has a page all the same, and `evsed run` starts what serves it."""

    async def scene() -> None:
        port = free_port()
        stage = Stage(tmp_path, None, boards=("mcu_ac",), extra=f"\n[auth]\nfree = true\n[web]\nport = {port}\n")
        stage.lay_out()
        try:
            await stage.start()
            await until(lambda: answers(port))
        finally:
            await stage.stop()

    asyncio.run(asyncio.wait_for(scene(), 90))


def test_a_gateway_without_a_csms_tells_the_station_that_it_is_there(tmp_path: Path) -> None:
    """A new image without one is not marked good."""
    stage = Stage(tmp_path, None, boards=("mcu_ac",), extra=f"\n[auth]\nfree = true\n[web]\nport = {free_port()}\n")
    stage.lay_out()
    station = FakeStation()

    async def reported() -> bool:
        return "gateway" in station.reported

    async def scene() -> None:
        working = asyncio.create_task(_work(load(stage.config_file)))
        await until(reported)
        working.cancel()
        await asyncio.wait([working])

    with on_its_socket(station, stage.run_dir):
        asyncio.run(asyncio.wait_for(scene(), 60))


def test_page_by_tls(tmp_path: Path) -> None:
    pair = ["-keyout", str(tmp_path / "web.key"), "-out", str(tmp_path / "web.pem")]
    subject = ["-days", "2", "-subj", "/CN=charger", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *kind, *pair, *subject], check=True, capture_output=True)

    async def scene() -> None:
        port = free_port()
        stage = Stage(tmp_path, None, boards=("mcu_ac",))
        stage.extra = (
            f'\n[auth]\nfree = true\n[web]\nport = {port}\naddress = "0.0.0.0"\n'
            'certificate_file = "web.pem"\nkey_file = "web.key"\ntechnician_secret_file = "web.secret"\n'
        )
        stage.lay_out()
        (tmp_path / "web.secret").write_text(secret.made("correct horse"))
        context = ssl.create_default_context(cafile=str(tmp_path / "web.pem"))
        try:
            await stage.start()
            head = await _login(port, context)
            assert "set-cookie: __Host-evsed=" in head
            assert "Secure" in head and "strict-transport-security" in head
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")  # not by TLS
            assert not (await asyncio.wait_for(reader.read(), 15)).startswith(b"HTTP")
            writer.close()
        finally:
            await stage.stop()

    asyncio.run(asyncio.wait_for(scene(), 90))


async def _login(port: int, context: ssl.SSLContext) -> str:
    body = b"secret=correct+horse"
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                break
            except OSError:
                await asyncio.sleep(0.05)
        host = f"host: 127.0.0.1:{port}\r\norigin: https://127.0.0.1:{port}\r\nconnection: close\r\n"
        form = f"content-type: application/x-www-form-urlencoded\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(f"POST /login HTTP/1.1\r\n{host}{form}".encode() + body)
        answer = (await reader.read()).decode()
        writer.close()
    return answer


def test_secret_is_set_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, "ws://127.0.0.1:1/ocpp", boards=("mcu_ac",))
    stage.extra = '\n[web]\ntechnician_secret_file = "web.secret"\n'
    stage.lay_out()
    file, command = tmp_path / "web.secret", ["web-secret", "--config", str(stage.config_file)]
    typed = iter(("correct horse", "another horse", "correct horse", "correct horse", "short", "short"))
    monkeypatch.setattr("agent.cli.secret.getpass", lambda _prompt: next(typed))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert evsed(command) == 1
    assert "not the same" in capsys.readouterr().err
    assert not file.exists()
    assert evsed(command) == 0
    assert secret.matches(secret.read(file), "correct horse")
    assert file.stat().st_mode & 0o777 == 0o640
    assert evsed(command) == 1
    assert "10 to 200 characters" in capsys.readouterr().err
    assert secret.matches(secret.read(file), "correct horse"), "the old one stands"


def test_secret_has_no_place_without_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path, "ws://127.0.0.1:1/ocpp", boards=("mcu_ac",))
    stage.lay_out()
    assert evsed(["web-secret", "--config", str(stage.config_file)]) == 78
    assert "technician_secret_file" in capsys.readouterr().err
