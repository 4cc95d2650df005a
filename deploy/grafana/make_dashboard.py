"""Writes the Grafana dashboard from one table of its panels: python deploy/grafana/make_dashboard.py"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DASHBOARD: Final = Path(__file__).with_name("ilmari.json")

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SERVER: Final = 'instance=~"$instance"'
_MODEL: Final = f'{_SERVER}, model_name=~"$model"'
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 7
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Panel:
    """A panel: its queries by their legends; unit as Grafana names it."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    most: float | None = None


def _rate(metric: str, labels: str = _MODEL, by: str = "") -> str:
    """How fast a counter grows, a second; of all series, or of those that have the same `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def _seconds(title: str, description: str, metric: str) -> Panel:
    """Percentiles and mean of a histogram of seconds."""
    buckets = _rate(f"{metric}_bucket", by="le")
    queries = {name: f"histogram_quantile({share}, {buckets})" for name, share in _QUANTILES.items()}
    queries["mean"] = f"{_rate(f'{metric}_sum')} / {_rate(f'{metric}_count')}"
    return Panel(title, description, "s", queries)


PANELS: Final = (
    Panel(
        "Requests running and waiting",
        "Replies in the engine's batch, replies that wait for a place in it, and HTTP requests being answered.",
        "short",
        {
            "running": f"sum(ilmari:num_requests_running{{{_MODEL}}})",
            "waiting": f"sum(ilmari:num_requests_waiting{{{_MODEL}}})",
            "HTTP": f"sum(ilmari:http_requests_in_flight{{{_SERVER}}})",
        },
    ),
    Panel(
        "Tokens a second",
        "Tokens of prompts, cached ones included, and tokens written.",
        "short",
        {"prompt": _rate("ilmari:prompt_tokens_total"), "generation": _rate("ilmari:generation_tokens_total")},
    ),
    Panel(
        "Replies that ended, a second",
        "By why: stop, or length.",
        "short",
        {"{{finished_reason}}": _rate("ilmari:request_success_total", by="finished_reason")},
    ),
    _seconds(
        "Time to first token (TTFT)",
        "From a request's arrival to a reply's first token; waiting included.",
        "ilmari:time_to_first_token_seconds",
    ),
    _seconds(
        "Inter-token latency (ITL)",
        "From one step that added to a reply to the next.",
        "ilmari:inter_token_latency_seconds",
    ),
    _seconds(
        "Time per output token (TPOT)",
        "Mean over a reply's tokens after the first.",
        "ilmari:request_time_per_output_token_seconds",
    ),
    _seconds(
        "End-to-end latency (E2E)",
        "From a request's arrival to a reply's end.",
        "ilmari:e2e_request_latency_seconds",
    ),
    Panel(
        "KV cache in use",
        "Share of the KV cache's blocks.",
        "percentunit",
        {"{{instance}} {{model_name}}": f"ilmari:kv_cache_usage_perc{{{_MODEL}}}"},
        most=1,
    ),
    Panel(
        "Prefix cache hits",
        "Share of prompt tokens that were found in the prefix cache.",
        "percentunit",
        {"hits": f"{_rate('ilmari:prefix_cache_hits_total')} / {_rate('ilmari:prefix_cache_queries_total')}"},
        most=1,
    ),
    Panel(
        "Preemptions a second",
        "Replies put back for want of KV blocks.",
        "short",
        {"{{instance}} {{model_name}}": _rate("ilmari:num_preemptions_total", by="instance, model_name")},
    ),
    Panel(
        "Drafted tokens",
        "Tokens guessed ahead, a second, and those that were right.",
        "short",
        {
            "guessed": _rate("ilmari:spec_decode_num_draft_tokens_total"),
            "right": _rate("ilmari:spec_decode_num_accepted_tokens_total"),
        },
    ),
    Panel(
        "Length of replies",
        "Replies by their tokens.",
        "short",
        {"{{le}}": f"sum by (le) (increase(ilmari:request_generation_tokens_bucket{{{_MODEL}}}[$__rate_interval]))"},
        kind="heatmap",
    ),
    Panel(
        "Responses a second",
        "By HTTP status; 499: the client left before. Health checks and scrapes are among them.",
        "short",
        {"{{status}}": _rate("ilmari:http_responses_total", _SERVER, by="status")},
    ),
    Panel(
        "Refused for a full queue (429), a second",
        "Requests that found as many replies waiting as the server takes.",
        "short",
        {"{{instance}}": _rate("ilmari:http_responses_total", f'{_SERVER}, status="429"', by="instance")},
    ),
    Panel(
        "Engine restarts",
        "Times in the range shown that an engine was started again.",
        "short",
        {
            "{{instance}} {{model_name}}": (
                f"sum by (instance, model_name) (increase(ilmari:engine_restarts_total{{{_MODEL}}}[$__range]))"
            )
        },
        kind="stat",
    ),
)


def _target(place: int, legend: str, expression: str, kind: str) -> dict[str, Any]:
    shape = {"heatmap": {"format": "heatmap"}, "stat": {"instant": True}}.get(kind, {})
    return {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expression, "legendFormat": legend, **shape}


def _panel(place: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(place, _COLUMNS)
    limits = {} if panel.most is None else {"max": panel.most}
    return {
        "id": place + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, **limits}, "overrides": []},
        "targets": [
            _target(place, legend, expression, panel.kind)
            for place, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def _label_variable(name: str, label: str, matching: str = "") -> dict[str, Any]:
    query = f"label_values(ilmari:num_requests_running{matching}, {label})"
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "ilmari",
        "title": "ilmari",
        "tags": ["ilmari", "llm"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
                _label_variable("instance", "instance"),
                _label_variable("model", "model_name", f"{{{_SERVER}}}"),
            ]
        },
        "panels": [_panel(place, panel) for place, panel in enumerate(PANELS)],
    }


if __name__ == "__main__":
    DASHBOARD.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
