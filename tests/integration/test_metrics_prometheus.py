"""A real charger on simulated hardware, watched by a real Prometheus: series, rules and the dashboard's queries.

Skipped where no Prometheus is installed. The metrics come from the real page of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from agent.core.facts import Token
from agent.sim.stage import Stage, free_port
from tests.support.metrics_example import families
from tests.unit.web.test_monitoring_files import FOLDER, queries

pytestmark = [
    pytest.mark.wire,
    pytest.mark.skipif(which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"),
]
TOKEN = Token("04A1B2C3D4E5F6")
_WITHIN_S = 60.0


@dataclass
class Http:
    """Somebody who listens on loopback."""

    port: int

    async def get(self, path: str) -> bytes:
        """The body of an answer. Raises ``OSError`` while nobody listens, ``AssertionError`` for a refusal."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert b" 200 " in head.partition(b"\r\n")[0], (path, head, body)
        return body


class Prometheus(Http):
    """A running one, by its API."""

    async def ask(self, path: str) -> Any:
        return json.loads(await self.get(f"/api/v1/{path}"))["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        found = await self.ask(f"query?{urllib.parse.urlencode({'query': expression})}")
        result: list[dict[str, Any]] = found["result"]
        return result

    async def until(self, expression: str) -> list[dict[str, Any]]:
        """Its result, as soon as there is one."""
        async with asyncio.timeout(_WITHIN_S):
            while not (found := await self.query(expression)):
                await asyncio.sleep(0.2)
        return found

    async def ready(self) -> None:
        async with asyncio.timeout(_WITHIN_S):
            while True:
                try:
                    await self.query("1")
                    return
                except (OSError, AssertionError):
                    await asyncio.sleep(0.1)


@asynccontextmanager
async def prometheus(folder: Path, target_port: int) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the port every second and has our rules."""
    made = Prometheus(free_port())
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "scrape_configs": [{"job_name": "evsed", "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{made.port}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield made
    finally:
        process.kill()
        await process.wait()


def test_a_real_prometheus_sees_a_charger(tmp_path: Path) -> None:
    async def main() -> None:
        page = Http(free_port())
        extra = f'[[token]]\nid = "{TOKEN.id_token}"\n[web]\nport = {page.port}\n'
        stage = Stage(tmp_path, None, sample_s=1, extra=extra)
        stage.lay_out()
        try:
            await stage.start()
            async with prometheus(tmp_path, page.port) as watching:
                await watching.ready()
                await _session_and_fault(stage, watching)
                await _everything_is_taken(watching, (await page.get("/metrics")).decode())
                await _rules_and_queries(watching)
        finally:
            await stage.stop()

    asyncio.run(asyncio.wait_for(main(), 240))


async def _session_and_fault(stage: Stage, watching: Prometheus) -> None:
    await watching.until('evsed_evse_state{evse="1",state="Available"} == 1')
    await stage.order(1, "plug")
    await watching.until('evsed_evse_state{evse="1",state="Preparing"} == 1')
    station = await stage.station()
    await station.present_token(TOKEN, 1)
    await station.close()
    await watching.until('evsed_evse_state{evse="1",state="Charging"} == 1')
    await watching.until('evsed_evse_power_watts{evse="1"} > 1000')
    await watching.until('evsed_evse_current_amperes{evse="1",phase="L3"} > 5')
    await watching.until('evsed_evse_transaction_energy_joules{evse="1"} > 0')
    await watching.until('evsed_evse_transactions_started_total{evse="1"} == 1')
    await watching.until('evsed_evse_state_seconds_total{evse="1",state="Charging"} > 1')
    await watching.until('evsed_evse_temperature_celsius{evse="2",sensor="DS3231"} == 23')
    await watching.until('evsed_evse_temperature_celsius{evse="3",sensor="module 1"} > 0')
    await stage.order(2, "fault", "meter", "silent")
    await watching.until('evsed_evse_fault_active{evse="2",code="meter_lost"} == 1')
    await watching.until('evsed_health_trouble{part="meter",evse="2",code="meter_lost"} == 1')
    await watching.until('evsed_bus_failures_total{bus=~".*/meter2",kind="silent"} > 0')
    await stage.order(2, "clear", "meter", "silent")
    await watching.until('evsed_evse_fault_active{evse="2",code="meter_lost"} == 0')
    assert await watching.query('evsed_evse_faults_total{evse="2",code="meter_lost"} == 1')
    await watching.until('absent(evsed_health_trouble{part="meter",evse="2"})')


async def _everything_is_taken(watching: Prometheus, text: str) -> None:
    """No sample of the text is missing, and the scrape has nothing to complain of."""
    (target,) = (await watching.ask("targets"))["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    told = {each.name for family in families(text) for each in family.samples}
    seen = await watching.query('count by (__name__) ({job="evsed", __name__=~"evsed_.*"})')
    assert {each["metric"]["__name__"] for each in seen} == told
    metadata = await watching.ask("metadata?metric=evsed_evse_power_watts")
    assert metadata["evsed_evse_power_watts"][0]["unit"] == "watts"


async def _rules_and_queries(watching: Prometheus) -> None:
    (group,) = (await watching.ask("rules"))["groups"]
    async with asyncio.timeout(_WITHIN_S):
        while any(rule["health"] == "unknown" for rule in group["rules"]):
            await asyncio.sleep(0.2)
            (group,) = (await watching.ask("rules"))["groups"]
    assert [rule["lastError"] for rule in group["rules"] if rule["health"] != "ok"] == []
    for query in queries():
        await watching.query(query.replace("$__rate_interval", "1m").replace("$instance", ".*"))
