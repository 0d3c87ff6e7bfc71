"""Each fault that the bench can play, and a witness who looks at everything that people and machines can see of it.

Charter: a table of cases, real processes on simulated boards with a page and a CSMS, and one look at page, metrics, log
and what the CSMS was told. For the test that all of them see each fault, and for the bench of how soon.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from agent.core.commands import ClearFaults
from agent.core.facts import Token
from agent.core.faults import SPECS, Clears
from agent.core.status import ConnectorState, FaultCode
from agent.health.catalogue import CATALOGUE
from agent.ipc.client import RemoteStation
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage, free_port
from agent.web.secret import made

BOARDS = ("mcu_ac", "openevse", "mcu_dc")
AC, OPENEVSE, DC = 1, 2, 3
CARD = "04A1B2C3D4E5F6"
SECRET = "a long enough secret"
SEEN_WITHIN_S = 30.0  # bounds a failure; how soon things are seen is for benchmarks
LOOK_S = 0.3
WEB = """\
[timing]
register_behind_ms = 3_000

[[token]]
id = "{card}"

[web]
port = {port}
technician_secret_file = "{secret}"

"""


@dataclass(frozen=True)
class Case:
    """``orders`` to the bench that make the fault; ``plugged``: with a car, ``charging``: while it charges.

    No code comes twice at an EVSE: it would be flapping, and stay shown for a while."""

    evse: int
    orders: tuple[str, ...]
    code: str
    charging: bool = False
    plugged: bool = False

    def __str__(self) -> str:
        return f"EVSE {self.evse}: {', '.join(self.orders)} -> {self.code}"


CASES = (
    Case(AC, ("fault meter silent",), "meter_lost"),
    Case(AC, ("fault pilot unplug",), "bus_gone"),
    Case(AC, ("break residual_current",), "residual_current"),
    Case(AC, ("break residual_self_test",), "residual_self_test"),
    Case(AC, ("break no_ventilation",), "no_ventilation"),
    Case(AC, ("break lock",), "lock"),
    Case(AC, ("break pilot",), "pilot"),
    Case(AC, ("break cable",), "proximity"),
    Case(AC, ("break short",), "pilot_short"),
    Case(AC, ("fault pilot reset",), "board_reset"),
    Case(OPENEVSE, ("fault meter garbage",), "bus_garbled"),
    Case(OPENEVSE, ("fault pilot silent",), "pilot_lost"),
    Case(OPENEVSE, ("break residual_current",), "residual_current", charging=True),
    Case(OPENEVSE, ("break residual_self_test",), "residual_self_test", charging=True),
    Case(OPENEVSE, ("break no_ground",), "no_ground", charging=True),
    Case(OPENEVSE, ("break over_temperature",), "over_temperature", charging=True),
    Case(OPENEVSE, ("break over_current",), "over_current", charging=True),
    Case(OPENEVSE, ("break relay",), "contactor_open", charging=True),
    # A weld there is found with the next car only: a sleeping OpenEVSE does not look at its relay (test_openevse_wire).
    Case(DC, ("fault meter refuse",), "meter_lost"),
    Case(DC, ("fault can unplug",), "power_module_lost"),
    Case(DC, ("break module_input",), "power_module"),
    Case(DC, ("break over_current",), "over_current"),
    Case(DC, ("break diode",), "diode"),
    Case(DC, ("fault pilot silent",), "pilot_lost"),
    Case(AC, ("habit no_diode",), "diode", plugged=True),
    Case(AC, ("fault meter stuck",), "meter_implausible", charging=True),
    Case(AC, ("break weld",), "contactor_welded", charging=True),
    Case(AC, ("habit overdraw",), "over_current", charging=True),
)


@dataclass
class Told:
    """What the CSMS was told, as frames came."""

    version: str
    frames: list[dict[str, Any]]

    def hear(self, way: str, text: str) -> None:
        frame = json.loads(text)
        if way == "<" and frame[0] == 2 and frame[2] in ("StatusNotification", "NotifyEvent"):
            self.frames.append(frame[3])

    def last(self, case: Case) -> bool | None:
        """Whether the last that was said of this code at this EVSE is that it is there; None: nothing was said."""
        said = [self._in_16(each, case) if self.version == "1.6" else self._in_201(each, case) for each in self.frames]
        return next((each for each in reversed(said) if each is not None), None)

    @staticmethod
    def _in_16(payload: dict[str, Any], case: Case) -> bool | None:
        if payload.get("connectorId") != case.evse:
            return None
        if payload.get("vendorErrorCode") == case.code:
            assert payload["errorCode"] in (CATALOGUE[case.code].ocpp16, "OtherError")  # 16-ST-04
            return True
        return case.code in payload.get("info", "").split(",")

    @staticmethod
    def _in_201(payload: dict[str, Any], case: Case) -> bool | None:
        entry = CATALOGUE[case.code]
        for event in payload.get("eventData", ()):
            if event.get("techCode") == case.code and event["component"].get("evse", {}).get("id") == case.evse:
                assert (event["component"]["name"], event["variable"]["name"]) == (entry.component, entry.variable)
                return not event.get("cleared", False)
        return None


class Witness:
    """Looks at everything that people and machines can see of one station."""

    def __init__(self, stage: Stage, told: Told, port: int) -> None:
        self._told = told
        self._log = stage.run_dir / "log" / "station.jsonl"
        self._base = f"http://127.0.0.1:{port}"
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def log_in(self) -> None:
        form = urllib.parse.urlencode({"secret": SECRET}).encode()
        request = urllib.request.Request(f"{self._base}/login", form, {"Origin": self._base})
        self._browser.open(request, timeout=10).close()

    def _get(self, path: str) -> str:
        with self._browser.open(f"{self._base}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def _page(self, case: Case) -> bool:
        sections = self._get("/tech/health").split("<section")
        return any(f"EVSE {case.evse}" in each and f"<code>{case.code}</code>" in each for each in sections)

    def _metrics(self, case: Case) -> bool:
        part = CATALOGUE[case.code].part.value
        line = rf'evsed_health_trouble\{{part="{part}",evse="{case.evse}",code="{case.code}"\}} 1'
        return re.search(line, self._get("/metrics")) is not None

    def _logged(self, case: Case) -> bool:
        events = [json.loads(line) for line in self._log.read_text().splitlines()]
        mine = [each["event"] for each in events if (each.get("code"), each.get("evse")) == (case.code, case.evse)]
        return bool(mine) and mine[-1] == "fault"

    def blind(self, case: Case, there: bool) -> list[str]:
        """Who does not see it as it is."""
        seen = {"page": self._page(case), "metrics": self._metrics(case), "log": self._logged(case)}
        if self._told.version != "1.6" or case.code in set(FaultCode):  # 1.6 knows faults of connectors only
            seen[f"OCPP {self._told.version}"] = bool(self._told.last(case))
        return [who for who, sees in seen.items() if sees is not there]


async def unseen_by(witness: Witness, case: Case, there: bool) -> list[str]:
    deadline_s = asyncio.get_running_loop().time() + SEEN_WITHIN_S
    while blind := await asyncio.to_thread(witness.blind, case, there):
        if asyncio.get_running_loop().time() > deadline_s:
            return [f"{case}: {'not seen' if there else 'still seen'} by {', '.join(blind)}"]
        await asyncio.sleep(LOOK_S)
    return []


async def play(stage: Stage, station: RemoteStation, witness: Witness, case: Case) -> list[str]:
    """What went wrong, in words."""
    if case.plugged or case.charging:
        habits = [order for order in case.orders if order.startswith("habit")]
        for order in habits:
            await stage.order(case.evse, *order.split())
        await stage.order(case.evse, "plug")
        await station.present_token(Token(CARD), case.evse)
    if case.charging and not await until(lambda: charges(station, case.evse)):
        return [f"{case}: no car could charge before"]
    for order in case.orders:
        await stage.order(case.evse, *order.split())
    if case.code == "contactor_welded":
        await stage.order(case.evse, "unplug")  # it should open now
    wrong = await unseen_by(witness, case, there=True)
    await stage.order(case.evse, "clear")
    await stage.order(case.evse, "unplug")
    latched = case.code in set(FaultCode) and SPECS[FaultCode(case.code)].clears is Clears.ACTION
    if latched and not await until(lambda: cleared(station, case.evse)):
        wrong.append(f"{case}: could not be cleared")
    wrong += await unseen_by(witness, case, there=False)
    if not await until(lambda: is_free(station, case.evse)):
        wrong.append(f"{case}: not available afterwards")
    return wrong


async def charges(station: RemoteStation, evse: int) -> bool:
    return any(view.evse == evse and bool(view.power_mw) for view in (await station.status()).evses)


async def is_free(station: RemoteStation, evse: int) -> bool:
    views = {view.evse: view for view in (await station.status()).evses}
    return views[evse].state is ConnectorState.AVAILABLE


async def cleared(station: RemoteStation, evse: int) -> bool:
    return (await station.command(ClearFaults(evse, who="test"))).outcome.value == "Accepted"


async def until(happened: Callable[[], Awaitable[bool]]) -> bool:
    deadline_s = asyncio.get_running_loop().time() + SEEN_WITHIN_S
    while not (has := await happened()) and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(LOOK_S)
    return has


def logged_in(witness: Witness) -> bool:
    try:
        witness.log_in()
    except OSError:
        return False  # the page is not there yet
    return True


@dataclass
class Watched:
    """One station with all that looks at it."""

    stage: Stage
    station: RemoteStation
    witness: Witness
    csms: SimCsms


@asynccontextmanager
async def watched(folder: Path, version: str) -> AsyncIterator[Watched]:
    told, port = Told(version, []), free_port()
    secret = folder / "secret"
    secret.write_text(made(SECRET))
    csms = SimCsms(version, told.hear)
    extra = WEB.format(card=CARD, port=port, secret=secret)
    stage = Stage(folder, await csms.start(), (version,), sample_s=1, boards=BOARDS, extra=extra)
    stage.lay_out()
    try:
        await stage.start()
        station = await stage.station()
        await asyncio.wait_for(csms.connected.wait(), SEEN_WITHIN_S)
        witness = Witness(stage, told, port)
        assert await until(lambda: asyncio.to_thread(logged_in, witness))
        yield Watched(stage, station, witness, csms)
        await station.close()
    finally:
        await stage.stop()
        await csms.stop()
