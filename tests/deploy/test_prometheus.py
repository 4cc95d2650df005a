"""The Prometheus configuration and the alerts: Prometheus's own checks, and a test of each alert by its own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from deployment import DEPLOY, ROOT

FOLDER = DEPLOY / "prometheus"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The files as an operator has them: with a key."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "ilmari-api-key").write_text("key")
    return tmp_path


@pytest.mark.parametrize(
    "words", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool(place: Path, words: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool; Debian's package prometheus has it")
    done = subprocess.run(["promtool", *words.split()], cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    assert set(cases) == {(rule["alert"], fires) for rule in group["rules"] for fires in (True, False)}


def test_alerts_are_of_metrics_that_there_are() -> None:
    used = set(re.findall(r"ilmari:\w+", (FOLDER / "alerts.yml").read_text()))
    documented = set(re.findall(r"`(ilmari:\w+)`", (ROOT / "docs" / "serving.md").read_text()))
    assert {name.removesuffix("_bucket") for name in used} <= documented
