"""The page on a real socket: who sees what, and what every answer carries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.core.commands import ClearFaults
from agent.core.facts import Token
from agent.core.status import ConnectorState, Outcome
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import CommandAnswer
from agent.ipc.receipts import ReceiptLine
from agent.telemetry.ring_file import RingFile
from tests.support.fake_station import T0_MS
from tests.support.web_rig import FakeLine, Web, on_page, status, view

pytestmark = pytest.mark.wire

PRIVATE = (
    "/tech",
    "/tech/events",
    "/tech/health",
    "/tech/transactions",
    "/tech/receipts/tx/html",
    "/tech/usage",
    "/tech/usage.csv",
    "/tech/messages",
    "/tech/messages/events",
    "/tech/logs",
    "/tech/logs/events",
    "/tech/firmware",
    "/tech/device",
    "/tech/keys/1.svg",
    "/tech/diagnostics",
)
NO_HTML = ("/tech/events", "/tech/usage.csv", "/tech/diagnostics")
HTML = tuple(path for path in PRIVATE if path.count("/") <= 2 and path not in NO_HTML)
LATCHED = PartHealth(
    Part.CONTACTOR, 1, Condition.FAULT, "contactor_welded", "contactor <does> not open", "Call.", T0_MS, latched=True
)


def test_driver_sees_the_state_without_login_and_no_token(tmp_path: Path) -> None:
    charging = view(state=ConnectorState.CHARGING, tx_id="tx-1", token=Token("04A2B3C4D5E6F7"), power_mw=7_400_000)

    async def scene(web: Web) -> None:
        page = await web.get("/")
        assert page.status == 200
        assert "Charging" in page.text
        assert "7.4" in page.text
        assert "E6F7" not in page.text

    on_page(tmp_path, scene, FakeLine(shown=status(charging)))


def test_every_private_page_leads_strangers_to_the_login(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        for path in PRIVATE:
            answer = await web.get(path, cookie="evsed=" + "x" * 43)
            assert (answer.status, answer.headers["location"]) == (303, "/login"), path
        for path in ("/tech/health/clear", "/logout"):
            assert (await web.post(path, {"form_token": "x"})).status == 303, path
        assert web.line.commands == []

    on_page(tmp_path, scene)


def test_every_private_page_opens_after_the_login(tmp_path: Path) -> None:
    line = FakeLine(receipt_texts={("tx", "html"): "<!DOCTYPE html>"}, report_rows={"FullInventory": _report()})
    line.receipt_lines = [ReceiptLine(5, "tx", 1, "***E6F7", T0_MS, T0_MS + 60_000, 1_500_000, "0.80 EUR", True)]

    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        for path in PRIVATE:
            if not path.endswith("/events"):  # those do not end
                assert (await web.get(path, cookie)).status == 200, path
        assert "0.80 EUR" in (await web.get("/tech/transactions", cookie)).text
        device = (await web.get("/tech/device", cookie)).text
        assert "secret, not shown" in device
        assert "hunter2" not in device

    on_page(tmp_path, scene, line)


def _report() -> list[dict[str, object]]:
    key = "b2NhOmJhc2UxNjphc24xOjMwNTk="  # oca:base16:asn1:3059
    return [
        _setting("FiscalMetering", "PublicKey", "ReadOnly", key, evse={"id": 1}),
        _setting("SecurityCtrlr", "BasicAuthPassword", "WriteOnly", "hunter2"),
    ]


def _setting(component: str, variable: str, access: str, value: str, **more: object) -> dict[str, object]:
    attribute = {"mutability": access, "value": value}
    return {
        "component": {"name": component, **more},
        "variable": {"name": variable},
        "variableAttribute": [attribute],
        "variableCharacteristics": {},
    }


def test_every_answer_is_strict_with_the_browser(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        for answer in (
            await web.get("/"),
            await web.get("/nowhere"),
            await web.get("/assets/page.css"),
            await web.get("/tech", cookie),
            await web.post("/login", {"secret": "wrong"}),
            await web.get("/", host="evil.example"),
        ):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert "server" not in answer.headers
        assert (await web.get("/tech", cookie)).headers["cache-control"] == "no-store"

    on_page(tmp_path, scene)


def test_no_page_needs_what_its_policy_forbids(tmp_path: Path) -> None:
    """No inline script, style or handler, and nothing from elsewhere."""
    line = FakeLine(parts=[LATCHED])

    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        for path in ("/", "/login", *HTML):
            text = (await web.get(path, cookie)).text
            assert "<style" not in text and " style=" not in text and " on" + "click" not in text, path
            assert "<script>" not in text and "http://" not in text and "https://" not in text, path

    on_page(tmp_path, scene, line)


def test_texts_of_others_cannot_become_tags(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        text = (await web.get("/tech/health", cookie)).text
        assert "not open" in text and "<does>" not in text

    on_page(tmp_path, scene, FakeLine(parts=[LATCHED]))


def test_receipt_page_has_a_policy_for_its_own_style_and_no_more(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        policy = (await web.get("/tech/receipts/tx/html", cookie)).headers["content-security-policy"]
        assert "style-src 'sha256-" in policy and "script" not in policy
        assert (await web.get("/tech/receipts/tx/xml", cookie)).status == 404
        assert (await web.get("/tech/receipts/other/html", cookie)).status == 404

    on_page(tmp_path, scene, FakeLine(receipt_texts={("tx", "html"): "<!DOCTYPE html>"}))


@pytest.mark.parametrize(("outcome", "said"), [(Outcome.ACCEPTED, "yes"), (Outcome.REJECTED, "no")])
def test_latched_faults_are_cleared_with_token_and_confirmation(tmp_path: Path, outcome: Outcome, said: str) -> None:
    line = FakeLine(parts=[LATCHED], outcomes={ClearFaults: CommandAnswer(outcome)})

    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        token = form_token((await web.get("/tech/health", cookie)).text)
        good = {"form_token": token, "evse": "1", "sure": "yes"}
        for bad in ({**good, "form_token": "x"}, {**good, "evse": "2"}, {**good, "evse": "-1"}, {**good, "sure": ""}):
            assert (await web.post("/tech/health/clear", bad, cookie)).status in (400, 403)
        assert (await web.post("/tech/health/clear", good, cookie, origin="http://evil.example")).status == 403
        assert (await web.post("/tech/health/clear", good, cookie, origin="-")).status == 403
        assert (await web.get("/tech/health/clear", cookie)).status == 405
        assert web.line.commands == []
        answer = await web.post("/tech/health/clear", good, cookie)
        assert answer.headers["location"] == f"/tech/health?cleared={said}"
        assert web.line.commands == [ClearFaults(1, who="technician at the local page")]

    on_page(tmp_path, scene, line)


def form_token(page: str) -> str:
    return page.partition('name="form_token" value="')[2].partition('"')[0]


def test_messages_and_logs_are_read_from_their_rings(tmp_path: Path) -> None:
    trace = RingFile(tmp_path / "run-gateway" / "log" / "trace.jsonl")
    trace.append(json.dumps({"timestamp": "2026-11-24T08:00:00.000Z", "direction": "out", "kind": "call", "id": "1",
                             "action": "Heartbeat", "chars": 3, "frame": '[2,"1","Heartbeat",{}]'}))  # fmt: skip
    log = RingFile(tmp_path / "run" / "log" / "station.jsonl")
    for level, event in (("info", "humdrum"), ("error", "loud <b>")):
        log.append(json.dumps({"timestamp": "2026-11-24T08:00:00Z", "level": level, "event": event}))

    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        assert "Heartbeat" in (await web.get("/tech/messages", cookie)).text
        assert "[2," not in (await web.get("/tech/messages?action=Authorize", cookie)).text
        errors = (await web.get("/tech/logs?process=station&level=error", cookie)).text
        assert "loud &lt;b&gt;" in errors and "humdrum" not in errors
        assert (await web.get("/tech/logs?process=../../etc&level=x", cookie)).status == 200

    on_page(tmp_path, scene)


def test_page_tells_that_the_station_is_away(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        web.line.away = True
        await web.line.news.put(None)
        assert "No answer" in (await web.get("/", cookie)).text
        assert (await web.get("/tech/usage", cookie)).status == 503
        metrics = await web.get("/metrics")
        assert "evsed_station_up 0" in metrics.text

    on_page(tmp_path, scene)


@pytest.mark.parametrize(("web", "code"), [("", 200), ("metrics = false", 404)])
def test_metrics_are_there_unless_they_are_turned_off(tmp_path: Path, web: str, code: int) -> None:
    async def scene(page: Web) -> None:
        assert (await page.get("/metrics")).status == code

    on_page(tmp_path, scene, web=web)


def test_asset_is_sent_once_and_known_again(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        first = await web.get("/assets/live.js")
        assert first.headers["content-type"].startswith("text/javascript")
        again = await web.get("/assets/live.js", if_none_match=first.headers["etag"])
        assert (again.status, again.body) == (304, b"")

    on_page(tmp_path, scene)
