"""``evsed demo update``: an update in mid-charge, a sick image, three attacks, on a simulated machine with two slots.

Charter: the terminal side. What happens is in ``agent.sim`` (machine, update_story, signer, file_server).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agent.sim.csms import SimCsms
from agent.sim.stage import Stage
from agent.sim.story import StoryFailed
from agent.sim.update_story import UpdateStory, all_good

_IMAGE_BYTES = 16 * 1024 * 1024


def demo_update(parsed: argparse.Namespace, folder: Path) -> int:
    if parsed.csms is not None:
        print("evsed demo update: it plays with its own CSMS, --csms is not for it", file=sys.stderr)
        return 2
    return asyncio.run(_play(parsed, folder))


async def _play(parsed: argparse.Namespace, folder: Path) -> int:
    console, started_s = Console(highlight=False), time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started_s:6.1f} s  {text}")

    csms = SimCsms(parsed.ocpp or "2.0.1")
    stage = Stage(folder, await csms.start(), boards=("mcu_ac", "openevse"))
    rate_kib_s = 8 * 1024 if parsed.fast else 2 * 1024
    story = UpdateStory(stage, csms, say, size_bytes=_IMAGE_BYTES, rate_kib_s=rate_kib_s)
    say(f"evsed demo update in {folder}")
    try:
        await story.play()
    except StoryFailed as error:
        say(f"FAILED: {error}; logs are in {folder}")
        return 1
    finally:
        await stage.stop()
        await csms.stop()
    return _judge(console, story, csms)


def _judge(console: Console, story: UpdateStory, csms: SimCsms) -> int:
    table = Table(title="The orders of the CSMS, and what came of them", header_style="bold", show_lines=True)
    for name in ("order", "statuses told", "runs now", "fetched (MiB)", "right"):
        table.add_column(name, justify="right" if name.startswith("fetched") else "left", overflow="fold")
    for chapter in story.chapters:
        fetched = f"{chapter.fetched_bytes / 2**20:.1f} of {chapter.bundle_bytes / 2**20:.1f}"
        good = "yes" if chapter.good else f"NO: {', '.join(chapter.expected)}; {chapter.runs_expected}"
        table.add_row(chapter.name, "\n".join(chapter.told), chapter.runs, fetched, good)
    console.print(table)
    events = [event for event in csms.book.security_events if event != "StartupOfTheDevice"]
    console.print(f"Security events: {', '.join(events)}")
    for violation in csms.book.violations:
        console.print(f"CSMS refused: {violation[:200]}")
    return 0 if all_good(story.chapters, csms) and len(story.chapters) == 5 else 1
