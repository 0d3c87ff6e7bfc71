"""The offline queue and the link in the metrics of real processes: it grows while the CSMS is away, and empties."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.facts import Token
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage, free_port
from tests.integration.test_metrics_prometheus import Http
from tests.support.metrics_example import families

pytestmark = pytest.mark.wire


class Page(Http):
    """The charger's own."""

    async def values(self) -> dict[str, float]:
        """Samples without labels by name, others by name and the values of their labels."""
        found = families((await self.get("/metrics")).decode())
        samples = [sample for family in found for sample in family.samples]
        return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}

    async def until(self, is_so: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        values: dict[str, float] = {}
        try:
            async with asyncio.timeout(60):
                while True:
                    try:
                        values = await self.values()
                        if is_so(values):
                            return values
                    except (OSError, KeyError):
                        pass  # neither page nor station need answer at once
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(
                {name: each for name, each in values.items() if "csms" in name or "ledger" in name}
            ) from None


def test_rows_wait_while_the_csms_is_away_and_no_longer(tmp_path: Path) -> None:
    async def main() -> None:
        page, csms = Page(free_port()), SimCsms("2.0.1")
        extra = f"[web]\nport = {page.port}\n"
        stage = Stage(tmp_path, await csms.start(), sample_s=1, boards=("mcu_ac",), extra=extra)
        stage.lay_out()
        try:
            await stage.start()
            await page.until(
                lambda told: told.get("evsed_csms_link_up") == 1 and told["evsed_ledger_waiting_rows"] == 0
            )
            await stage.order(1, "plug")
            await page.until(lambda told: told["evsed_evse_state 1 Preparing"] == 1)
            station = await stage.station()
            await station.present_token(Token("04A1B2C3D4E5F6"), 1)
            await station.close()
            await page.until(lambda told: told["evsed_evse_state 1 Charging"] == 1)
            await csms.set_away(True)
            away = await page.until(lambda told: told["evsed_ledger_oldest_waiting_age_seconds"] > 2)
            assert away["evsed_csms_link_up"] == 0
            assert away["evsed_ledger_waiting_rows"] > 0
            assert sum(each for name, each in away.items() if name.startswith("evsed_csms_failures_total")) > 0
            await csms.set_away(False)
            await page.until(lambda told: told["evsed_csms_link_up"] == 1)
            await stage.order(1, "unplug")
            back = await page.until(
                lambda told: told["evsed_evse_state 1 Available"] == 1 and told["evsed_ledger_waiting_rows"] == 0
            )
            assert back["evsed_ledger_oldest_waiting_age_seconds"] == 0
            assert back["evsed_csms_reconnects_total"] >= 1
            assert back["evsed_evse_transactions_ended_total 1"] == 1
            assert back["evsed_csms_connected_seconds_total"] > away["evsed_csms_connected_seconds_total"]
        finally:
            await stage.stop()
            await csms.stop()

    asyncio.run(asyncio.wait_for(main(), 240))
