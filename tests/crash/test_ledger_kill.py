"""The station process is killed at any instant: what was acknowledged is there, and the chain is whole.

Shows that a process crash loses nothing (L1). A power cut is another matter: that needs unsynced
writes to be lost too, which a kill does not do.

Run as a program this file is the victim: it appends to the ledger given and prints the seq numbers
it was told are durable.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.ledger.reader import LedgerReader
from agent.ledger.rows import NewRow, Row, Sealed, Slot
from agent.ledger.state import Namespace, Put
from agent.ledger.store import Birth, open_ledger
from agent.ledger.writer import LedgerWriter

KILLS = 12
REPOSITORY = Path(__file__).parents[2]
BIRTH = Birth("0", "SN", "boot", mono_ms=0, wall_ms=0, time_status="U")


def sealed_body(slot: Slot) -> bytes:
    return json.dumps({"number": slot.number, "prev": slot.prev_hash.hex()}).encode()


def number_of(row: Row) -> tuple[str, int] | None:
    return ("T", json.loads(row.body)["number"]) if row.kind == "signed" else None


async def victim(path: Path) -> None:
    """Append for ever, several commits under way at once."""
    assert open_ledger(path, BIRTH).damaged is None
    with LedgerReader(path) as reader:
        number = int(reader.state(Namespace.CURSOR).get("number", "0"))
    writer = LedgerWriter(path, asyncio.get_running_loop(), on_failed=lambda failure: os.abort())
    under_way = asyncio.Semaphore(5)

    def acknowledged(rows: list[Row]) -> None:
        print(rows[-1].seq, flush=True)
        under_way.release()

    while True:
        await under_way.acquire()
        first = number
        number += random.randint(1, 4)
        rows: list[NewRow | Sealed] = [
            NewRow("n", json.dumps({"n": n}).encode() + b" " * random.randint(0, 2000), "boot", n, n, "U")
            for n in range(first, number)
        ]
        rows.insert(
            random.randint(0, len(rows)), Sealed("signed", sealed_body, "boot", number, number, "U", counter="T")
        )
        writer.append(rows, [Put(Namespace.CURSOR, "number", str(number))], acknowledged)


@pytest.mark.wire
def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    chance = random.Random(20261124)
    acknowledged = 0
    for _ in range(KILLS):
        acknowledged = max(acknowledged, _run_and_kill(path, acks=chance.choice([0, 1, 2, 5, 20, 60])))
        if not path.exists():
            assert acknowledged == 0  # killed before the ledger was born
            continue
        with LedgerReader(path) as reader:
            reader.check_file()
            head = reader.verify()
            assert head.seq >= acknowledged
            rows: list[Row] = []
            while page := reader.rows(len(rows), 500):
                rows += page
            # No number twice, none left out, and the state is that of the last whole commit.
            plain = [row for row in rows if row.kind == "n"]
            assert [json.loads(row.body)["n"] for row in plain] == list(range(len(plain)))
            assert reader.state(Namespace.CURSOR).get("number", "0") == str(len(plain))
            # Nor is a number of the sealed rows, and each names the row it stands behind.
            assert reader.audit(number_of=number_of) == []
            assert all(json.loads(row.body)["prev"] == row.prev_hash.hex() for row in rows if row.kind == "signed")
    assert acknowledged > 100


def _run_and_kill(path: Path, acks: int) -> int:
    """Kill the victim when it has acknowledged ``acks`` times; the last seq it acknowledged, or 0.

    What it says while the signal is on its way counts too."""
    victim_process = subprocess.Popen(
        [sys.executable, __file__, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    with victim_process as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acks)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        assert process.wait() == -signal.SIGKILL
    whole = [line for line in lines if line.endswith(b"\n")]
    return int(whole[-1]) if whole else 0


if __name__ == "__main__":
    asyncio.run(victim(Path(sys.argv[1])))
