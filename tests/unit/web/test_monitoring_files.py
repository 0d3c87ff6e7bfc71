"""Dashboard, alert rules and their document: they name only what the charger tells, and the rules do what they say."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from shutil import which
from subprocess import run
from typing import Any

import pytest

from agent.health.catalogue import CATALOGUE
from tests.support.metrics_example import TEXT, families

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "packaging" / "monitoring"
RULES = (FOLDER / "alerts.yaml").read_text()
STORIES = (FOLDER / "alerts.test.yaml").read_text()
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
DOCUMENT = (ROOT / "docs" / "monitoring.md").read_text()

OF_PROMETHEUS = {"instance", "job", "le"}
NAME = re.compile(r"\bevsed_\w+")
SELECTOR = re.compile(r"\b(evsed_\w+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
needs_promtool = pytest.mark.skipif(which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def labels_told() -> dict[str, set[str]]:
    """By name of a sample: its labels."""
    samples = [each for family in families(TEXT) for each in family.samples]
    return {each.name: set(each.labels) for each in samples}


TOLD = labels_told()


def values_told(label: str) -> set[str]:
    samples = [each for family in families(TEXT) for each in family.samples]
    return {each.labels[label] for each in samples if label in each.labels}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


# -------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize("text", [*queries(), RULES, STORIES])
def test_only_metrics_that_are_told_are_asked_for(text: str) -> None:
    assert set(NAME.findall(text)) <= TOLD.keys()


@pytest.mark.parametrize("text", [*queries(), RULES, STORIES])
def test_only_labels_that_a_metric_has_are_asked_for(text: str) -> None:
    for name, selector in SELECTOR.findall(text):
        assert {label for label, _, _ in LABEL.findall(selector)} <= TOLD[name] | OF_PROMETHEUS, name
    grouped = {label.strip() for group in re.findall(r"(?:by|on) \(([^)]*)\)", text) for label in group.split(",")}
    asked = {label for name in NAME.findall(text) for label in TOLD[name]}
    assert grouped <= asked | OF_PROMETHEUS


@pytest.mark.parametrize("text", [*queries(), RULES, STORIES])
def test_only_values_that_a_label_can_have_are_asked_for(text: str) -> None:
    known = {label: values_told(label) for label in ("state", "condition", "process")}
    known["code"] = set(CATALOGUE)
    for _, selector in SELECTOR.findall(text):
        for label, _, pattern in LABEL.findall(selector):
            for value in pattern.split("|") if label in known else ():
                assert any(re.fullmatch(value, each) for each in known[label]), (label, value)


def test_every_metric_is_in_the_document_with_its_labels() -> None:
    rows = re.findall(r"^\| ((?:`evsed_\w+`(?:, )?)+) \|(.*?)\| .+ \|$", DOCUMENT, re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for names, labels in rows for name in NAME.findall(names)}
    expected = dict(TOLD)
    for name in ("evsed_loop_lateness_seconds_sum", "evsed_loop_lateness_seconds_count"):
        expected[name] = TOLD["evsed_loop_lateness_seconds_bucket"]
    assert told == expected


def test_the_document_asks_only_for_what_is_told() -> None:
    text = DOCUMENT.replace("`evsed_csms` metrics", "").replace("\\|", "|")
    assert set(NAME.findall(text)) == TOLD.keys()


# ------------------------------------------------------------------------------------ dashboard


def test_panels_are_apart_and_have_an_id_a_title_and_a_query() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"] for panel in DASHBOARD["panels"])


def test_every_query_goes_by_the_chosen_charger_and_data_source() -> None:
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            chosen = re.findall(r'\bevsed_\w+\{instance=~"\$instance"', target["expr"])
            assert len(chosen) == len(NAME.findall(target["expr"])) > 0
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


# ---------------------------------------------------------------------------------------- rules


def test_every_rule_has_a_story_in_which_it_fires() -> None:
    rules = re.findall(r"- alert: (\w+)", RULES)
    assert len(rules) == len(set(rules)) > 10
    fires = re.findall(r"- alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels", STORIES)
    assert set(fires) == set(rules)


def promtool(*words: str) -> None:
    done = run(["promtool", *words], cwd=FOLDER, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@needs_promtool
def test_rules_are_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")


@needs_promtool
def test_rules_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts.test.yaml")
