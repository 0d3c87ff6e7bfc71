"""The local page in a real Chromium, with real processes and simulated devices behind it.

Screenshots of the run are left in the test's folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.facts import Token
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage, free_port
from agent.web.secret import made
from tests.support.browser import Browser, browser
from tests.support.web_rig import SECRET

pytestmark = pytest.mark.wire

TOKEN = "04A2B3C4D5E6F7"
PAGES = ("", "/health", "/transactions", "/usage", "/messages", "/logs", "/firmware", "/device")


class Scene:
    """A browser before a page; the stage's own orders run in its event loop meanwhile."""

    def __init__(self, stage: Stage, looked_at: Browser, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.page = looked_at
        self.url = f"http://127.0.0.1:{port}"
        self._stage = stage
        self._loop = loop

    def order(self, evse: int, action: str, *arguments: str) -> None:
        asyncio.run_coroutine_threadsafe(self._stage.order(evse, action, *arguments), self._loop).result(20)

    def swipe(self, evse: int) -> None:
        async def present() -> None:
            station = await self._stage.station()
            try:
                await station.present_token(Token(TOKEN), evse)
            finally:
                await station.close()

        asyncio.run_coroutine_threadsafe(present(), self._loop).result(20)

    def open(self, path: str) -> None:
        self.page.open(f"{self.url}{path}")

    def offer(self, secret: str) -> None:
        """Type it and send it; the answer may still be on its way, so wait for what it shows."""
        self.open("/login")
        self.page.type("#secret", secret)
        self.page.click("button[type=submit]")

    def login(self) -> None:
        self.offer(SECRET)
        self.page.until(lambda: self.page.url.endswith("/tech"), "the technician's page")


def on_screen(folder: Path, play: Callable[[Scene], None]) -> None:
    """Play in a thread before a running station; at the end the browser has nothing to complain of."""

    async def main() -> None:
        csms, port = SimCsms("2.0.1"), free_port()
        stage = Stage(folder, await csms.start(), sample_s=1, boards=("mcu_ac", "openevse"))
        stage.extra = f'\n[web]\nport = {port}\ntechnician_secret_file = "{folder}/web.secret"\n'
        stage.lay_out()
        (folder / "web.secret").write_text(f"{made(SECRET)}\n")
        loop = asyncio.get_running_loop()

        def look() -> None:
            with browser(folder) as window:
                play(Scene(stage, window, port, loop))
                assert window.complaints() == []

        try:
            await stage.start()
            await _answers(port)
            await asyncio.to_thread(look)
        finally:
            await stage.stop()
            await csms.stop()

    asyncio.run(asyncio.wait_for(main(), 240))


async def _answers(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                return writer.close()
            except OSError:
                await asyncio.sleep(0.05)


def test_session_from_plug_to_receipt(tmp_path: Path) -> None:
    def play(scene: Scene) -> None:
        page = scene.page
        page.size(390, 844, phone=True)
        scene.open("/")
        page.until_text(".points", "Ready")
        scene.order(1, "plug")
        page.until_text(".point", "Connected")
        scene.swipe(1)
        page.until_text("[data-field='e1.title']", "Charging")
        page.until_text("[data-field='e1.power']", "11.0")
        page.until_text("[data-field='e1.cost']", "EUR")
        page.screenshot(tmp_path / "driver-phone.png")
        scene.order(1, "unplug")
        page.until_text("[data-field='e1.title']", "Ready")
        page.size(1280, 900)
        scene.login()
        scene.open("/tech/transactions")
        page.until_text("table", "***E6F7")
        page.screenshot(tmp_path / "transactions.png")
        page.click("table a")
        page.until_text("body", "How to check this receipt")
        ink = "return getComputedStyle(document.querySelector('.headline div')).borderLeftWidth"
        assert page.run(ink) == "4px", "the receipt's own style holds under the page's policy"
        page.screenshot(tmp_path / "receipt.png")

    on_screen(tmp_path, play)


def test_fault_and_recovery_are_seen_by_driver_and_technician(tmp_path: Path) -> None:
    def play(scene: Scene) -> None:
        page = scene.page
        scene.login()
        scene.open("/tech/health")
        page.until_text("main", "All well")
        scene.order(2, "fault", "meter", "silent")
        page.until_text("main", "Energy meter does not answer")
        page.until_text("main", "What to do")
        page.screenshot(tmp_path / "health-fault.png")
        scene.open("/")
        page.until_text("[data-field='e2.title']", "Out of order")
        page.until_text("[data-field='e2.hint']", "Energy meter does not answer.")
        scene.order(2, "clear")
        page.until_text("[data-field='e2.title']", "Ready", within_s=60)
        scene.open("/tech/health")
        page.until_text("main", "All well", within_s=90)

    on_screen(tmp_path, play)


def test_login_by_keyboard_wrong_secrets_and_logout(tmp_path: Path) -> None:
    def play(scene: Scene) -> None:
        page = scene.page
        scene.open("/tech")
        assert page.url.endswith("/login")
        for typed in ("wrong secret 1", "wrong secret 2"):
            scene.offer(typed)
            page.until_text("main", "That is not the secret")
        assert all("403" in each for each in page.complaints()), "the browser notes refusals, and nothing else"
        scene.open("/login")
        page.press(f"{SECRET}\ue007")  # the field has the focus by itself; Enter
        page.until(lambda: page.url.endswith("/tech"), "the technician's page")
        page.until_text("#content", "EVSE 2")
        page.until(lambda: bool(page.run("return document.querySelector('#power svg')")), "the chart")
        page.click(".banner button")
        page.until(lambda: page.url == f"{scene.url}/", "the driver's page")
        scene.open("/tech")
        assert page.url.endswith("/login")

    on_screen(tmp_path, play)


def test_every_page_on_phone_and_desk_in_light_and_dark(tmp_path: Path) -> None:
    def play(scene: Scene) -> None:
        page = scene.page
        scene.order(1, "plug")
        scene.login()
        for name in PAGES:
            for scheme, width, height in (("light", 1280, 900), ("dark", 390, 844)):
                page.scheme(scheme)
                page.size(width, height, phone=width < 500)
                scene.open(f"/tech{name}")
                page.until(lambda: page.text("h1") != "", "a heading")
                wide = page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide <= 0, f"/tech{name} is {wide} pixels wider than {width}"
                unnamed = page.run(_UNNAMED)
                assert unnamed == [], f"/tech{name}: {unnamed} have no name for a screen reader"
                page.screenshot(tmp_path / f"tech{name.replace('/', '-')}-{width}-{scheme}.png")

    on_screen(tmp_path, play)


_UNNAMED = """
return [...document.querySelectorAll('a, button, input:not([type=hidden]):not([hidden]), select, img, svg, [role=img]')]
  .filter((each) => !(each.textContent.trim() || each.getAttribute('aria-label') || each.getAttribute('alt') !== null
    || each.getAttribute('aria-hidden') || each.labels?.length || each.closest('[aria-label], [aria-hidden]')))
  .map((each) => each.outerHTML.slice(0, 80));
"""


def test_policy_violation_would_be_noticed(tmp_path: Path) -> None:
    """The other tests rest on this: the browser complains of what the policy forbids."""

    def play(scene: Scene) -> None:
        scene.open("/")
        scene.page.run(
            "const s = document.createElement('script'); s.textContent = 'window.x = 1'; document.body.append(s)"
        )
        assert scene.page.run("return window.x ?? null") is None
        assert any("Content Security Policy" in each for each in scene.page.complaints())

    on_screen(tmp_path, play)
