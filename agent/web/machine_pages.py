"""The technician's pages of the machine: firmware, device, public keys, diagnostics.

Charter: asks the installer and the station and hands the answers to ``agent.web.pages``. Whatever may block does so in
a thread, one at a time. Changes nothing.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator
from typing import Any, BinaryIO, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.view import InstallerView
from agent.ipc.port import StationLost, StationPort, Welcome
from agent.telemetry.diagnostics import collect
from agent.web.answers import Html
from agent.web.pages.device import device_page, public_key_hex
from agent.web.pages.firmware import firmware_page
from agent.web.private import Private
from agent.web.sessions import Session

_INSTALLER_S: Final = 5.0
_PIECE_BYTES: Final = 64 * 1024
_REPORT: Final = "FullInventory"


class MachinePages:
    """Handlers of these pages."""

    def __init__(self, private: Private) -> None:
        self._private = private
        self._asking_installer = asyncio.Lock()
        self._collecting = asyncio.Lock()

    def routes(self) -> list[Route]:
        page = self._private.page
        return [
            page("/tech/firmware", self._firmware),
            page("/tech/device", self._device),
            page("/tech/keys/{evse:int}.svg", self._key),
            page("/tech/diagnostics", self._diagnostics),
        ]

    async def _firmware(self, _: Request, session: Session) -> Response:
        fields = self._private.fields(await self._private.feed.fresh())
        welcome = self._private.line.welcome
        versions = [("Software", welcome.software_version), ("Image", welcome.firmware_version or "not told")]
        frame = self._private.frame("/tech/firmware", session)
        return Html(firmware_page(frame, fields, versions, await self._installer(), self._private.clock))

    async def _installer(self) -> InstallerView | str:
        if self._private.config.update is None:
            return "This charger is configured without updates."
        async with self._asking_installer:
            try:
                client = await asyncio.to_thread(InstallerClient, self._private.config.station.installer_socket)
            except InstallerAway as error:
                return str(error)
            try:
                return await asyncio.wait_for(asyncio.to_thread(client.status), _INSTALLER_S)
            except InstallerAway as error:
                return str(error)
            except TimeoutError:
                return "The installer is busy at present."
            finally:
                client.close()  # which also ends a call that still waits

    async def _device(self, _: Request, session: Session) -> Response:
        report = await self._private.port.report(_REPORT) or []
        frame = self._private.frame("/tech/device", session)
        return Html(device_page(frame, self._facts(self._private.line.welcome, report), _keys(report), report))

    def _facts(self, welcome: Welcome, report: list[dict[str, Any]]) -> list[tuple[str, str]]:
        config = self._private.config
        return [
            ("Identity", welcome.identity),
            ("Vendor", welcome.vendor),
            ("Model", welcome.model),
            ("Serial number", welcome.serial),
            ("Software", welcome.software_version),
            ("Time zone", config.station.time_zone),
            ("CSMS", "none" if config.csms is None else _csms(report)),
            ("EVSEs", ", ".join(f"{evse.id}: {evse.board.name}, {evse.connector_type}" for evse in config.evse)),
        ]

    async def _key(self, request: Request, _: Session) -> Response:
        keys = dict(_keys(await self._private.port.report(_REPORT) or []))
        key = keys.get(request.path_params["evse"])
        if key is None:
            raise HTTPException(404)
        return Response(await asyncio.to_thread(_qr_code, key), media_type="image/svg+xml")

    # ---------------------------------------------------------------------------------- diagnostics

    async def _diagnostics(self, _: Request, __: Session) -> Response:
        if self._collecting.locked():
            raise HTTPException(503, "diagnostics are being collected already", {"retry-after": "10"})
        async with self._collecting:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the stream closes it
            try:
                wall_ms, station = await self._present()
                await collect(file, self._private.config, station, wall_ms)
            except BaseException:
                file.close()
                raise
        name = f"evsed-{self._private.config.station.identity}-diagnostics.tar.gz"
        safe = "".join(char if char.isascii() and (char.isalnum() or char in "-._") else "_" for char in name)
        headers = {"content-disposition": f'attachment; filename="{safe}"'}
        return StreamingResponse(_pieces(file), headers=headers, media_type="application/gzip")

    async def _present(self) -> tuple[int, StationPort | None]:
        """The time, and the station where it answers: the archive says what was missing."""
        status = (await self._private.feed.fresh()).status
        if status is None:
            raise StationLost("the station does not answer")
        return status.wall_ms, self._private.port


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        file.seek(0, io.SEEK_SET)
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _csms(report: list[dict[str, Any]]) -> str:
    """The URL of the CSMS that worked last, and who chose it."""
    found = {
        (entry["component"].get("instance", ""), entry["variable"]["name"]): entry["variableAttribute"][0].get(
            "value", ""
        )
        for entry in report
        if entry["component"]["name"] in ("NetworkConfiguration", "OCPPCommCtrlr")
    }
    slot = found.get(("", "ActiveNetworkProfile"), "")
    url = found.get((slot, "OcppCsmsUrl"), "")
    return url if slot == "1" else f"{url} (network profile {slot}, set by a CSMS)"


def _keys(report: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """(EVSE, hex of its public key) of those that have one."""
    found = []
    for entry in report:
        component, variable = entry["component"], entry["variable"]
        if (component["name"], variable["name"]) != ("FiscalMetering", "PublicKey"):
            continue
        key = public_key_hex(entry["variableAttribute"][0].get("value", ""))
        if key:
            found.append((int(component["evse"]["id"]), key))
    return found


def _qr_code(text: str) -> bytes:
    import segno  # only who looks at a key needs it

    out = io.BytesIO()
    segno.make(text.upper(), micro=False).save(out, kind="svg", border=2, svgclass=None, lineclass=None, omitsize=True)
    return out.getvalue()
