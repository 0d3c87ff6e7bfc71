"""``evsed demo``: a whole charger on this machine, with cars, a CSMS and a story.

Charter: the terminal side. What happens is in ``agent.sim`` (stage, story, csms).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.cli.looking import EVSE_COLUMNS, evse_cells
from agent.ipc.port import StationStatus
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage, free_port
from agent.sim.story import Books, Story, StoryFailed, read_books, read_proofs
from agent.web.secret import made

_SECRET = "demo technician"
_PAGE = """\
[web]
port = {port}
technician_secret_file = "{folder}/web.secret"

"""
_FRAMES_SHOWN = 10
_STORY_SHOWN = 6


def demo(parsed: argparse.Namespace) -> int:
    folder = parsed.dir or Path(tempfile.mkdtemp(prefix="evsed-demo-"))
    if parsed.story == "update":
        from agent.cli.demo_update import demo_update

        return demo_update(parsed, folder.resolve())
    return asyncio.run(_Demo(parsed, folder.resolve()).run())


class _Demo:
    """One run of the demo."""

    def __init__(self, parsed: argparse.Namespace, folder: Path) -> None:
        self._once: bool = parsed.once
        self._fast: bool = parsed.fast
        self._console = Console(highlight=False)
        self._started_s = time.monotonic()
        self._story: deque[str] = deque(maxlen=_STORY_SHOWN)
        self._frames: deque[str] = deque(maxlen=_FRAMES_SHOWN)
        self._status: StationStatus | None = None
        self._chosen = 1
        version = parsed.ocpp or "2.0.1"
        self._csms = None if parsed.csms else SimCsms(version, self._frame)
        versions = (parsed.ocpp,) if parsed.csms and parsed.ocpp else ("2.0.1", "1.6")
        self._page_port = free_port()
        page = _PAGE.format(port=self._page_port, folder=folder)
        self._stage = Stage(folder, parsed.csms, versions, sample_s=2 if parsed.fast else 10, extra=page)
        self._live: Live | None = None

    async def run(self) -> int:
        if self._csms is not None:
            self._stage.url = await self._csms.start()
        self._stage.lay_out()
        (self._stage.folder / "web.secret").write_text(made(_SECRET))
        self._say(f"evsed demo in {self._stage.folder}")
        self._say(f"page http://127.0.0.1:{self._page_port}/, technician's secret: {_SECRET}")
        try:
            with self._view():
                watching = asyncio.create_task(self._watch())
                try:
                    return await self._play()
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
        finally:
            await self._stage.stop()
            if self._csms is not None:
                await self._csms.stop()

    async def _play(self) -> int:
        await self._stage.start()
        story = Story(self._stage, self._csms, self._say, pace_s=3.0 if self._fast else 15.0)
        try:
            await story.play()
        except StoryFailed as error:
            self._say(f"FAILED: {error}; logs are in {self._stage.folder}")
            return 1
        books = await read_books(self._stage, self._csms)
        code = self._compare(books)
        if not self._once and sys.stdin.isatty():
            self._say("yours now: 1-3 choose EVSE, p plug, u unplug, s swipe, l CSMS away/back, q quit")
            self._say(f"or elsewhere: evsed sim --config {self._stage.config_file} fault meter silent")
            await self._keys(story)
        return code

    def _compare(self, books: list[Books]) -> int:
        step_mwh = 1_000 if self._csms is not None and self._csms.version == "1.6" else 1
        violations = [] if self._csms is None else self._csms.book.violations
        table = Table(title="Energy by four witnesses (Wh)", header_style="bold")
        for name in ("EVSE", "car", "meter", "ledger", "CSMS", "transactions", "agree"):
            table.add_column(name, justify="right")
        for each in books:
            csms = "elsewhere" if each.csms_mwh is None else f"{each.csms_mwh / 1_000:.3f}"
            table.add_row(
                str(each.evse),
                f"{each.car_mwh / 1_000:.3f}",
                f"{each.meter_mwh / 1_000:.3f}",
                f"{each.ledger_mwh / 1_000:.3f}",
                csms,
                str(each.transactions),
                "yes" if each.agree(step_mwh) else "NO",
            )
        self._console.print(table)
        self._console.print(
            "Meter registers are 32-bit floats of kWh as in the real device: a reading is good to 0.25 Wh."
            + (" OCPP 1.6 tells whole Wh." if step_mwh == 1_000 else "")
        )
        proved = self._prove()
        for violation in violations:
            self._console.print(f"CSMS refused: {violation[:200]}")
        agree = all(each.agree(step_mwh) and each.transactions > 0 for each in books)
        open_left = bool(self._csms and self._csms.book.open)
        return 0 if agree and proved and not violations and not open_left else 1

    def _prove(self) -> bool:
        """Show every receipt and whether it can be proved."""
        proofs = read_proofs(self._stage, self._csms)
        table = Table(title="Receipts", header_style="bold")
        for name in ("EVSE", "energy (kWh)", "with tax", "transaction", "at the CSMS", "proof"):
            table.add_column(name, justify="right" if name in ("EVSE", "energy (kWh)", "with tax") else "left")
        for each in proofs:
            judged = "; ".join(each.wrong) or "verified"
            has = {None: "elsewhere", True: "yes", False: "NO"}[each.csms_has_record]
            table.add_row(str(each.evse), f"{each.energy_mwh / 1e6:.6f}", each.cost, each.tx_id[:8], has, judged)
        self._console.print(table)
        if proofs:
            command = f"evsed ledger receipt {proofs[0].tx_id[:8]} --config {self._stage.config_file}"
            self._console.print(f"The first one in full, while {self._stage.folder} is there:")
            self._console.print(f"  {command}", soft_wrap=True)
        return bool(proofs) and not any(each.wrong or each.csms_has_record is False for each in proofs)

    # ---------------------------------------------------------------------------------------- view

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self._started_s:6.1f} s  {text}"
        self._story.append(line)
        if self._live is None:
            self._console.print(line)

    def _frame(self, way: str, text: str) -> None:
        frame = json.loads(text)
        name = {2: frame[2], 3: "answer", 4: f"ERROR {frame[2]}"}.get(frame[0], "?")
        body = json.dumps(frame[-1], separators=(",", ":"))
        self._frames.append(f"{'from station' if way == '<' else '  to station'}  {name:24.24}  {body}")

    @contextlib.contextmanager
    def _view(self):  # type: ignore[no-untyped-def]
        """The live view on a terminal; elsewhere the story's lines are enough."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            self._live = live
            yield
            self._live = None

    async def _watch(self) -> None:
        while True:
            self._status = await self._stage.status()
            if self._live is not None:
                self._live.update(self._picture(), refresh=True)
            await asyncio.sleep(0.4)

    def _picture(self) -> Group:
        table = Table(box=None, header_style="bold", expand=True)
        for name in EVSE_COLUMNS:
            table.add_column(name, no_wrap=True)
        prices = {price.evse: price for price in self._status.prices} if self._status else {}
        for view in self._status.evses if self._status else ():
            table.add_row(*evse_cells(view, prices.get(view.evse)))
        link = "away" if self._status is None or not self._status.online else f"OCPP {self._status.dialect}"
        width = max(40, self._console.width - 6)
        frames = Text("\n".join(line[:width] for line in self._frames), no_wrap=True)
        return Group(
            Panel(table, title=f"station   CSMS {link}"),
            Panel(frames, title="CSMS messages"),
            Panel(Text("\n".join(self._story)), title="story"),
        )

    # ---------------------------------------------------------------------------------------- keys

    async def _keys(self, story: Story) -> None:
        import termios
        import tty

        loop, pressed = asyncio.get_running_loop(), asyncio.Queue[str]()
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        loop.add_reader(sys.stdin, lambda: pressed.put_nowait(sys.stdin.read(1)))
        try:
            while (key := await pressed.get()) not in ("q", ""):
                await self._press(key, story)
        finally:
            loop.remove_reader(sys.stdin)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    async def _press(self, key: str, story: Story) -> None:
        if key.isdigit() and 1 <= int(key) <= len(self._stage.boards):
            self._chosen = int(key)
            self._say(f"EVSE {key} chosen")
        elif key in ("p", "u"):
            action = "plug" if key == "p" else "unplug"
            await self._stage.order(self._chosen, action)
            self._say(f"EVSE {self._chosen}: {action}")
        elif key == "s":
            self._say(f"EVSE {self._chosen}: swipe: {await story.swipe(self._chosen)}")
        elif key == "l" and self._csms is not None:
            away = self._csms.connected.is_set()
            await self._csms.set_away(away)
            self._say("CSMS away" if away else "CSMS back")
