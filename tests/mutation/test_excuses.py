"""The list of mutants that may survive is about this code, and its two rules excuse no more than they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.excuses import BadList, load
from tests.mutation.mutants import Change

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")


def test_every_entry_is_about_lines_that_are_there() -> None:
    """An entry whose line was changed explains nothing any more: look at the mutant again, or drop it."""
    gone = []
    for change in load(SURVIVORS).reasons:
        lines = {line.strip() for line in (ROOT / change.file).read_text().splitlines()}
        gone += [(change.file, change.function, line) for line in change.old.splitlines() if line not in lines]
    assert gone == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('db.execute("SELECT a FROM b")', 'db.execute("select a from b")', "case of SQL"),
        ('db.execute("SELECT a FROM b")', 'db.execute("SELECT a FROM c")', None),
        ('db.execute("COMMIT")', 'db.execute("commit")', "case of SQL"),
        ('raise Gone(f"no {name} here")', 'raise Gone(f"XXno {name} hereXX")', "wording"),
        ('raise Gone("no such row")', "raise Gone(None)", None),
        ('", ".join(found)', '"XX, XX".join(found)', None),
        ('found["kind"]', 'found["KIND"]', None),
        ('Line("a b", 1)', 'Line("XXa bXX", 2)', None),
        ("a + b", "a - b", None),
    ],
)
def test_case_of_sql_and_wording_need_no_entry(old: str, new: str, reason: str | None, tmp_path: Path) -> None:
    path = tmp_path / "survivors.toml"
    path.write_text("")
    assert load(path).reason(Change("agent/x.py", "f", old, new)) == reason


def test_an_entry_explains_its_change_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "survivors.toml"
    path.write_text('[[survivor]]\nfile = "a.py"\nfunction = "f"\nreason = "so"\nchanges = [["x = 1", "x = 2"]]\n')
    explained = load(path)
    assert explained.reason(Change("a.py", "f", "x = 1", "x = 2")) == "so"
    for other in (Change("b.py", "f", "x = 1", "x = 2"), Change("a.py", "f", "x = 1", "x = 3")):
        assert explained.reason(other) is None


@pytest.mark.parametrize("entry", ['file = "a.py"', 'file = "a"\nfunction = "f"\nreason = " "\nchanges = [["a", "b"]]'])
def test_an_entry_that_lacks_something_is_refused(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "survivors.toml"
    path.write_text(f"[[survivor]]\n{entry}\n")
    with pytest.raises(BadList, match=r"survivors\.toml: survivor 1"):
        load(path)
