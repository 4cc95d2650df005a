"""The Grafana dashboard: made from its table, with every metric of docs/serving.md and no others, by its variables."""

from __future__ import annotations

import json
import re
import runpy
from itertools import combinations
from typing import Any

import pytest
from deployment import DEPLOY, ROOT

DASHBOARD = json.loads((DEPLOY / "grafana" / "ilmari.json").read_text(encoding="utf-8"))
METRICS = dict(re.findall(r"^\| `(ilmari:\w+)` \| (\w+) \|", (ROOT / "docs" / "serving.md").read_text(), re.MULTILINE))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def documented(name: str) -> str:
    """The name in the documentation of a series."""
    family = re.sub("_(bucket|sum|count)$", "", name)
    return family if METRICS.get(family) == "histogram" else name


def test_it_is_what_its_table_makes() -> None:
    made = runpy.run_path(str(DEPLOY / "grafana" / "make_dashboard.py"))["dashboard"]()
    assert made == DASHBOARD


def test_every_metric_is_shown() -> None:
    shown = {documented(name) for query in QUERIES for name in re.findall(r"ilmari:\w+", query)}
    assert shown == METRICS.keys()


@pytest.mark.parametrize("query", QUERIES)
def test_queries(query: str) -> None:
    for name, labels in re.findall(r"(ilmari:\w+)\{([^}]*)\}", query):
        assert 'instance=~"$instance"' in labels
        assert ('model_name=~"$model"' in labels) == (not name.startswith("ilmari:http_"))
        grows = METRICS[documented(name)] != "gauge"
        assert (f"{name}{{{labels}}}[" in query) == grows, "counters are shown by their growth, and gauges as they are"


def test_panels_stand_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not any(overlap(one, other) for one, other in combinations(places, 2))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_sources_are_variables() -> None:
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "instance", "model"]

    def sources(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(sources, value))
        if isinstance(value, dict):
            own = {value["datasource"]["uid"]} if "datasource" in value else set()
            return own.union(*map(sources, value.values()))
        return set()

    assert sources(DASHBOARD) == {"${datasource}"}
