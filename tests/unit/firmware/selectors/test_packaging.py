"""The examples of packaging/boot are what the selectors write or take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agent.firmware.selectors.sdboot_entries import EntryFolder
from agent.firmware.selectors.tryboot import Autoboot, encode
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.selectors.rigs import ENTRIES, SLOTS

BOOT: Final = Path(__file__).parents[4] / "packaging" / "boot"


def test_autoboot_txt_is_what_the_selector_writes_for_a_device_from_the_factory() -> None:
    assert (BOOT / "autoboot.txt").read_bytes() == encode(Autoboot(2, 2))


def test_the_entry_is_made_from_the_template() -> None:
    folder = EntryFolder(PowerDisk(), ENTRIES, "evsed", SLOTS, (BOOT / "sdboot" / "entry.conf.in").read_text())
    assert (BOOT / "sdboot" / "evsed-a.conf").read_bytes() == folder.text("a", 1)
    assert folder.file_of("a", None) == "evsed-a.conf"


def test_no_default_goes_before_the_order() -> None:
    lines = (BOOT / "sdboot" / "loader.conf").read_text().splitlines()
    assert not [line for line in lines if line.startswith("default")]


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (BOOT / "README.md").read_text())
    assert len(links) >= 5
    assert [link for link in links if not (BOOT / link).exists()] == []
