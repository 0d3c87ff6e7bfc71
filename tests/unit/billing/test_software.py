"""The checksum names the legally relevant files, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.billing import software

ROOT = Path(software.__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in software.PARTS:
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return tmp_path


def test_is_the_same_for_the_same_files(tree: Path) -> None:
    assert software.digest_of(tree) == software.digest()
    assert len(software.digest()) == 64
    assert software.digest().startswith(software.short_digest())
    assert len(software.short_digest()) == 8


@pytest.mark.parametrize(
    "file", ["agent/billing/view.py", "agent/core/facts.py", "agent/ocmf/sign.py", "agent/tariff/cost.py"]
)
def test_any_changed_byte_shows(tree: Path, file: str) -> None:
    data = (tree / file).read_bytes()
    (tree / file).write_bytes(data[:-1] + b" ")
    assert software.digest_of(tree) != software.digest()


def test_register_maps_are_relevant(tree: Path) -> None:
    file = next((tree / "hal/meters").glob("*.toml"))
    file.write_text(file.read_text() + "\n")
    assert software.digest_of(tree) != software.digest()


def test_a_renamed_or_added_file_shows(tree: Path) -> None:
    (tree / "agent/tariff/extra.py").write_text("")
    added = software.digest_of(tree)
    (tree / "agent/tariff/extra.py").rename(tree / "agent/tariff/other.py")
    assert len({added, software.digest_of(tree), software.digest()}) == 3


def test_what_running_leaves_behind_does_not_show(tree: Path) -> None:
    (tree / "agent/tariff/__pycache__").mkdir(exist_ok=True)
    (tree / "agent/tariff/__pycache__/x.pyc").write_bytes(b"x")
    assert software.digest_of(tree) == software.digest()


def test_a_missing_part_is_told(tree: Path) -> None:
    shutil.rmtree(tree / "agent/ocmf")
    with pytest.raises(FileNotFoundError, match="agent/ocmf"):
        software.digest_of(tree)
