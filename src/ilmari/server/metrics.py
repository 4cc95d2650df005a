"""What Prometheus sees; the names are vLLM's after the prefix."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ilmari.server.served_model import Models, ServedModel

_LABEL: Final = ["model_name"]
_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKENS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)

ENGINE_METRICS: Final = {
    "ilmari:num_requests_running": (GaugeMetricFamily, "Replies in the engine's batch.", "stats.running"),
    "ilmari:num_requests_waiting": (GaugeMetricFamily, "Replies that wait for a place in it.", "stats.waiting"),
    "ilmari:kv_cache_usage_perc": (GaugeMetricFamily, "Share of KV cache blocks in use, 0 to 1.", "stats.kv_usage"),
    "ilmari:prefix_cache_queries": (CounterMetricFamily, "Prompt tokens looked up in it.", "stats.prefix_queries"),
    "ilmari:prefix_cache_hits": (CounterMetricFamily, "Prompt tokens found there.", "stats.prefix_hits"),
    "ilmari:num_preemptions": (CounterMetricFamily, "Replies put back for want of blocks.", "stats.preemptions"),
    "ilmari:spec_decode_num_draft_tokens": (CounterMetricFamily, "Tokens guessed ahead.", "stats.draft_tokens"),
    "ilmari:spec_decode_num_accepted_tokens": (CounterMetricFamily, "Right guesses.", "stats.accepted_tokens"),
    "ilmari:engine_restarts": (CounterMetricFamily, "Times that the engine was started again.", "restarts"),
}
"""Read from the engine: kind, help, and field of `EngineClient`. Counts of its `stats` start again with the engine."""


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, models: Models) -> None:
        registry = self._registry = CollectorRegistry()
        registry.register(_EngineMetrics(models))
        self.prompt_tokens = Counter("ilmari:prompt_tokens", "Tokens of prompts.", _LABEL, registry=registry)
        self.generation_tokens = Counter("ilmari:generation_tokens", "Tokens written.", _LABEL, registry=registry)
        self.successes = Counter(
            "ilmari:request_success", "Replies that ended, by why.", [*_LABEL, "finished_reason"], registry=registry
        )
        self.responses = Counter("ilmari:http_responses", "Responses by status.", ["status"], registry=registry)
        self.first_token = Histogram(
            "ilmari:time_to_first_token_seconds",
            "From a request's arrival to a reply's first token.",
            _LABEL,
            buckets=_SECONDS,
            registry=registry,
        )
        self.between_tokens = Histogram(
            "ilmari:inter_token_latency_seconds",
            "From one step that added to a reply to the next.",
            _LABEL,
            buckets=_SECONDS,
            registry=registry,
        )
        self.per_token = Histogram(
            "ilmari:request_time_per_output_token_seconds",
            "Mean over a reply's tokens after the first.",
            _LABEL,
            buckets=_SECONDS,
            registry=registry,
        )
        self.latency = Histogram(
            "ilmari:e2e_request_latency_seconds",
            "From a request's arrival to a reply's end.",
            _LABEL,
            buckets=_SECONDS,
            registry=registry,
        )
        self.reply_tokens = Histogram(
            "ilmari:request_generation_tokens", "Tokens of a reply.", _LABEL, buckets=_TOKENS, registry=registry
        )
        self.in_flight = Gauge("ilmari:http_requests_in_flight", "Requests being answered.", registry=registry)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def finished(self, model: ServedModel, reason: str, tokens: int, first_after: float | None, seconds: float) -> None:
        """Note a reply that ended; seconds since its request arrived, to its first token and to its end."""
        self.successes.labels(model.name, reason).inc()
        self.latency.labels(model.name).observe(seconds)
        self.reply_tokens.labels(model.name).observe(tokens)
        if first_after is not None:
            self.first_token.labels(model.name).observe(first_after)
            if tokens > 1:
                self.per_token.labels(model.name).observe((seconds - first_after) / (tokens - 1))


class _EngineMetrics(Collector):
    def __init__(self, models: Models) -> None:
        self._models = models

    def describe(self) -> Iterator[Metric]:
        for name, (kind, help_, _) in ENGINE_METRICS.items():
            yield kind(name, help_, labels=_LABEL)

    def collect(self) -> Iterator[Metric]:
        for name, (kind, help_, field) in ENGINE_METRICS.items():
            family = kind(name, help_, labels=_LABEL)
            for model in self._models.all:
                family.add_metric([model.name], float(attrgetter(field)(model.engine)))
            yield family
