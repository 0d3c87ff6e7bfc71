"""The tree is tidy, and what the documents say of it is true.

Charter: quick checks of files and of the command line's shape; nothing is started. Only files that git
tracks count, so that a build or a cache cannot fail a test.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from agent.cli.main import main
from agent.config.fields import Unfit
from agent.config.load import check_file, load
from agent.config.update import UpdateConfig

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "packaging" / "evsed.example.toml"
MAX_LINES = 500
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
# Written in pieces, since this file is searched too.
INDEX_HOSTS = re.compile("|".join(("py" + r"pi\.", "python" + r"hosted\.", "index" + "-url")))
MACHINE_PATHS = re.compile(r"(?<![\w.$}/-])/(?:" + "|".join(("wo" + "rk", "ho" + "me", "ro" + "ot")) + r")/")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the product; without git (a source archive) the files that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return tuple(file for file in files if file.is_file())


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def matches(pattern: re.Pattern[str], but: frozenset[str] = frozenset()) -> list[str]:
    """``file:line: text`` of every hit."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in tracked()
        if str(file.relative_to(ROOT)) not in but
        for number, line in enumerate(text(file).splitlines(), 1)
        if pattern.search(line)
    ]


def python_files(*folders: str) -> list[Path]:
    return [file for file in tracked() if file.suffix == ".py" and file.relative_to(ROOT).parts[0] in folders]


def document(name: str) -> str:
    return text(ROOT / name)


# ------------------------------------------------------------------------------------------ the tree


def test_no_file_names_a_package_index() -> None:
    # The Makefile names the options by which the lock files are kept free of hosts.
    assert matches(INDEX_HOSTS, frozenset({"Makefile"})) == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert matches(MACHINE_PATHS) == []


@pytest.mark.parametrize("line", ["see /wo" + "rk/main/x", '"/ho' + 'me/a"', "cd /ro" + "ot/"])
def test_machine_paths_are_recognised(line: str) -> None:
    assert MACHINE_PATHS.search(line)


def test_every_module_opens_with_its_charter() -> None:
    files = python_files("agent", "hal")
    assert len(files) > 100
    assert [str(file) for file in files if not ast.get_docstring(ast.parse(text(file)))] == []


def test_no_python_file_is_too_long_to_read() -> None:
    long = {
        str(file.relative_to(ROOT))
        for file in tracked()
        if file.suffix == ".py" and len(text(file).splitlines()) > MAX_LINES
    }
    assert not long


def test_what_a_test_defines_inside_itself_is_used() -> None:
    """A story that is told to nobody proves nothing, and passes."""
    idle = []
    for file in python_files("tests"):
        functions = [each for each in ast.walk(ast.parse(text(file))) if isinstance(each, FUNCTION)]
        for outer in functions:
            used = {each.id for each in ast.walk(outer) if isinstance(each, ast.Name)}
            inner = [each for each in outer.body if isinstance(each, FUNCTION) and not each.decorator_list]
            idle += [f"{file.relative_to(ROOT)}:{each.lineno}: {each.name}" for each in inner if each.name not in used]
    assert idle == []


# ------------------------------------------------------------------------------------- the documents


def commands_in_readme() -> list[str]:
    """The commands of README's table, in its order."""
    return re.findall(r"^\| `evsed ([a-z -]+)` \|", document("README.md"), re.MULTILINE)


@pytest.mark.parametrize("command", commands_in_readme())
def test_command_of_the_readme_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"evsed {command}" in capsys.readouterr().out


def test_readme_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert set(offered) == {each.split()[0] for each in commands_in_readme()}


def documents() -> list[str]:
    names = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "hil/README.md",
        "packaging/monitoring/README.md",
        "packaging/update/README.md",
    ]
    return names + [str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", documents())
def test_links_and_paths_of_documents_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document(name))
    paths = re.findall(r"`((?:agent|hal|tests|docs|systemd|packaging)/[\w./-]*)`", document(name))
    lost = [link for link in links if not ((ROOT / name).parent / link).exists()]
    lost += [path for path in paths if not (ROOT / path).exists()]
    assert lost == []


def test_tests_that_documents_name_exist() -> None:
    named = {pair for name in documents() for pair in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document(name))}
    assert len(named) > 20
    lost = {
        f"{file}::{test}" for file, test in named if not re.search(rf"^(?:async )?def {test}\(", document(file), re.M)
    }
    assert lost == set()


def test_state_machine_document_is_current() -> None:
    generate = load_script(ROOT / "docs" / "generate.py")
    assert document("docs/state-machines.md") == generate.document(), "run `make docs`"


def load_script(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------- the configurations


def test_example_configuration_is_right() -> None:
    assert check_file(EXAMPLE) == []


def test_example_configuration_is_right_with_everything_switched_on(tmp_path: Path) -> None:
    whole = re.sub(r"^#(?=[a-z\[])", "", text(EXAMPLE), flags=re.MULTILINE).replace("/etc/evsed/", "")
    assert len(tomllib.loads(whole)["evse"]) == 3
    for name in re.findall(r"[\w-]+\.(?:password|pem|txt|key)\b", whole):
        (tmp_path / name).touch()
    for name in ("tariff", "flat"):
        (tmp_path / f"{name}.json").write_text(f'{{"tariffId": "{name}", "currency": "EUR"}}')
    file = tmp_path / "evsed.toml"
    file.write_text(whole)
    assert check_file(file) == []


def test_configuration_of_the_readme_is_right(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", document("README.md"), re.DOTALL)
    file = tmp_path / "evsed.toml"
    file.write_text(block)
    assert check_file(file) == []


# ---------------------------------------------------------------------------------------- the units


UNITS = ("evsed-station.service", "evsed-gateway.service")
INSTALLER, GUARD = "evsed-installer.service", "evsed-boot-guard.service"
SOCKET, TIMER = "evsed-installer.socket", "evsed-boot-guard.timer"


def unit(name: str) -> list[tuple[str, str]]:
    """The settings of a unit file: (name, value), in order; a name may come twice."""
    lines = (line for line in document(f"systemd/{name}").splitlines() if line and line[0] not in "#[")
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def made_by_sysusers(kind: str) -> set[str]:
    rows = [line.split() for line in document("systemd/sysusers.d/evsed.conf").splitlines()]
    return {row[1] for row in rows if row and row[0] == kind}


@pytest.mark.parametrize("name", UNITS)
def test_unit_runs_as_a_user_that_is_made(name: str) -> None:
    settings = dict(unit(name))
    users = made_by_sysusers("u")
    assert settings["User"] in users
    assert settings["Group"] in users | made_by_sysusers("g")


def test_units_run_as_different_users_and_share_the_sockets_group() -> None:
    station, gateway = (dict(unit(name)) for name in UNITS)
    assert station["User"] != gateway["User"]
    assert station["Group"] in gateway["SupplementaryGroups"].split()


def test_station_admits_the_user_that_the_gateway_runs_as() -> None:
    from agent.ipc.peer import GATEWAY_USER

    assert dict(unit(UNITS[1]))["User"] == GATEWAY_USER


@pytest.mark.parametrize("name", UNITS)
def test_unit_restarts_always_but_not_with_a_wrong_configuration(name: str) -> None:
    from agent.cli.processes import EXIT_CONFIG

    settings = dict(unit(name))
    assert settings["Restart"] == "always"
    assert settings["RestartPreventExitStatus"] == str(EXIT_CONFIG)
    assert settings["StartLimitIntervalSec"] == "0"


def test_station_has_no_network_and_leaves_the_contactors_open() -> None:
    settings = dict(unit(UNITS[0]))
    assert settings["IPAddressDeny"] == "any"
    assert settings["RestrictAddressFamilies"].split() == ["AF_UNIX", "AF_CAN"]
    assert settings["ExecStopPost"].endswith("/evsed make-safe")


def test_gateway_has_no_devices() -> None:
    assert dict(unit(UNITS[1]))["PrivateDevices"] == "yes"


@pytest.mark.parametrize("name", [*UNITS, INSTALLER, GUARD])
def test_unit_starts_commands_that_exist(name: str) -> None:
    started = [value.partition(" ") for key, value in unit(name) if key.startswith("Exec")]
    ours = {words for program, _, words in started if program.endswith("/evsed")}
    assert ours
    assert ours <= set(commands_in_readme())


def test_target_starts_everything() -> None:
    assert set(dict(unit("evsed.target"))["Wants"].split()) == {*UNITS, SOCKET, TIMER}


def test_installer_is_root_without_a_network_and_without_capabilities() -> None:
    settings = dict(unit(INSTALLER))
    assert "User" not in settings
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["IPAddressDeny"] == "any"
    assert settings["RestrictAddressFamilies"] == "AF_UNIX"
    assert settings["ProtectSystem"] == "strict"
    assert settings["DevicePolicy"] == "closed"
    assert "PrivateUsers" not in settings, "it could not tell any more which user asks"


def test_installer_is_tried_again_for_ever() -> None:
    settings = dict(unit(INSTALLER))
    assert (settings["Restart"], settings["StartLimitIntervalSec"]) == ("on-failure", "0")


def test_at_the_start_the_installer_is_no_slower_than_the_others() -> None:
    """The station waits for it, to bring microcontrollers in line; a trial fails where that lasts too long."""
    settings, others = dict(unit(INSTALLER)), [dict(unit(name)) for name in UNITS]
    assert int(settings["StartupCPUWeight"]) >= min(int(each["CPUWeight"]) for each in others)


def test_station_and_gateway_reach_the_installers_socket_and_nobody_else_does() -> None:
    settings = dict(unit(SOCKET))
    assert (settings["SocketUser"], settings["SocketMode"]) == ("root", "0660")
    station, gateway = (dict(unit(name)) for name in UNITS)
    assert settings["SocketGroup"] == station["Group"]
    assert settings["SocketGroup"] in gateway["SupplementaryGroups"].split()
    assert Path(settings["ListenStream"]) == load(EXAMPLE).station.installer_socket


def test_installer_admits_the_users_that_the_units_run_as() -> None:
    from agent.ipc.peer import GATEWAY_USER, STATION_USER

    assert [dict(unit(name))["User"] for name in UNITS] == [STATION_USER, GATEWAY_USER]


def test_boot_guard_waits_for_the_longest_self_test_that_can_be_configured() -> None:
    with_a_slow_start_s = 60 * int(dict(unit(TIMER))["OnBootSec"].removesuffix("min")) - 300
    (rule,) = (each.metadata["rule"] for each in fields(UpdateConfig) if each.name == "self_test_s")
    with pytest.raises(Unfit):
        rule.convert(with_a_slow_start_s + 1, ROOT)
