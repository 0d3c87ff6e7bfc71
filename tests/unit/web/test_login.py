"""Logging in and out on a real socket: cookie, waits, what the ledger is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.web_rig import SECRET, Web, on_page
from tests.unit.web.test_pages import form_token

pytestmark = pytest.mark.wire


def test_good_login_gives_a_cookie_that_scripts_and_other_sites_cannot_use(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        answer = await web.login()
        assert (answer.status, answer.headers["location"]) == (303, "/tech")
        parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")}
        assert {"httponly", "samesite=strict", "path=/"} <= parts
        assert "secure" not in parts  # loopback without TLS
        assert [kind for kind, _ in web.line.security_events] == ["MaintenanceLoginAccepted"]

    on_page(tmp_path, scene)


def test_wrong_secrets_make_the_next_try_wait_and_one_row_of_the_ledger(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        codes = [(await web.login(f"wrong {number}")).status for number in range(5)]
        assert codes == [403, 403, 429, 429, 429]
        answer = await web.login(SECRET)
        assert answer.status == 429, "the right secret has to wait, too"
        assert int(answer.headers["retry-after"]) > 0
        assert "set-cookie" not in answer.headers
        assert [kind for kind, _ in web.line.security_events] == ["MaintenanceLoginFailed"]
        assert "wrong" not in str(web.line.security_events)

    on_page(tmp_path, scene)


def test_logged_out_session_opens_nothing(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        cookie = (await web.login()).cookie
        token = form_token((await web.get("/tech", cookie)).text)
        assert (await web.post("/logout", {"form_token": "x"}, cookie)).status == 403
        assert (await web.get("/tech", cookie)).status == 200
        assert (await web.post("/logout", {"form_token": token}, cookie)).status == 303
        assert (await web.get("/tech", cookie)).headers["location"] == "/login"

    on_page(tmp_path, scene)


def test_login_from_another_site_is_refused(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        for origin in ("http://evil.example", "null", "-", f"https://{web.host}", "http://127.0.0.1:1"):
            assert (await web.post("/login", {"secret": SECRET}, origin=origin)).status == 403, origin

    on_page(tmp_path, scene)


def test_without_a_secret_nobody_logs_in_and_the_drivers_view_is_there(tmp_path: Path) -> None:
    async def scene(web: Web) -> None:
        (tmp_path / "web.secret").unlink()
        answer = await web.login()
        assert answer.status == 403
        assert "No technician" in answer.text
        assert (await web.get("/")).status == 200

    on_page(tmp_path, scene)


def test_secret_that_is_set_anew_holds_at_once(tmp_path: Path) -> None:
    from agent.web import secret

    async def scene(web: Web) -> None:
        (tmp_path / "web.secret").write_text(secret.made("battery staple") + "\n")
        assert (await web.login()).status == 403
        assert (await web.login("battery staple")).status == 303

    on_page(tmp_path, scene)
