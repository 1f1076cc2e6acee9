"""The figures of a server for Prometheus: llama-server's where it has them, and histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ersd import Stats
from ersd.engine.traffic import Traffic

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_TOKENS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)


class Metrics:
    """Counts what a server does. Every server has a registry of its own.

    Attributes:
        running: generations that run.
        waiting: generations that wait for a place.
        requests: answers by path and status.
        request_seconds: from a request to the end of its answer.
        queue_seconds: how long a generation waits for a place.
        first_token_seconds: from a request to the first token of a generation.
        token_seconds: the mean time of a token after the first step of a generation.
        tokens_per_call: tokens that a call of the target gave a generation.
    """

    def __init__(self) -> None:
        """Begins at 0."""
        self._registry = CollectorRegistry()
        self._longest_seen = 0
        self._define_histograms()
        self._define_counters()
        self.running = self._gauge("llamacpp:requests_processing", "Generations that run.")
        self.waiting = self._gauge("llamacpp:requests_deferred", "Generations that wait.")
        self._longest = self._gauge("llamacpp:n_tokens_max", "The longest prompt with its answer.")
        self._gauge(
            "llamacpp:prompt_tokens_seconds", "Mean prompt tokens per second."
        ).set_function(lambda: self._quotient("prompt_tokens", "prompt_seconds"))
        self._gauge("llamacpp:predicted_tokens_seconds", "Mean tokens per second.").set_function(
            lambda: self._quotient("tokens_predicted", "tokens_predicted_seconds")
        )

    def _define_histograms(self) -> None:
        self.request_seconds = self._histogram(
            "ersd:e2e_request_latency_seconds", "From a request to the end of its answer."
        )
        self.queue_seconds = self._histogram(
            "ersd:request_queue_time_seconds", "How long a generation waits for a place."
        )
        self.first_token_seconds = self._histogram(
            "ersd:time_to_first_token_seconds", "From a request to a generation's first token."
        )
        self.token_seconds = self._histogram(
            "ersd:time_per_output_token_seconds", "Mean time of a token after the first step."
        )
        self.tokens_per_call = self._histogram(
            "ersd:tokens_per_call", "Tokens that a call of the target gave.", _TOKENS
        )

    def _define_counters(self) -> None:
        self.requests = self._counter("ersd:requests", "Answers.", "path", "status")
        self._prompt_tokens = self._counter("llamacpp:prompt_tokens", "Prompt tokens read.")
        self._prompt_seconds = self._counter("llamacpp:prompt_seconds", "Time of reading them.")
        self._cached_tokens = self._counter(
            "llamacpp:prompt_tokens_cached", "Prompt tokens that were not read, but in the cache."
        )
        self._tokens = self._counter("llamacpp:tokens_predicted", "Generated tokens.")
        self._seconds = self._counter(
            "llamacpp:tokens_predicted_seconds", "Time of generating them."
        )
        self._drafts = self._counter(
            "llamacpp:spec_decode_num_drafts", "Calls of the target that checked drafted tokens."
        )
        self._drafted = self._counter("llamacpp:spec_decode_num_draft_tokens", "Drafted tokens.")
        self._accepted = self._counter(
            "llamacpp:spec_decode_num_accepted_tokens", "Drafted tokens that were accepted."
        )
        self._accepted_at = self._counter(
            "llamacpp:spec_decode_num_accepted_tokens_per_pos",
            "Accepted tokens by their depth in the drafted tree.",
            "position",
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(name, meaning, buckets=buckets, registry=self._registry)

    def _quotient(self, total: str, seconds: str) -> float:
        """Returns the quotient of two of llama-server's counters; 0 before they have counted."""
        values = (
            self._registry.get_sample_value(f"llamacpp:{name}_total") for name in (total, seconds)
        )
        dividend, divisor = (value or 0.0 for value in values)
        return dividend / divisor if divisor else 0.0

    def add_generation(self, n_prompt: int, stats: Stats) -> None:
        """Counts a generation that has ended.

        Args:
            n_prompt: tokens of its prompt.
            stats: its counts and times.
        """
        self._prompt_tokens.inc(max(0, n_prompt - stats.cached_tokens))
        self._prompt_seconds.inc(stats.prefill_ms / 1e3)
        self._cached_tokens.inc(stats.cached_tokens)
        self._tokens.inc(stats.generated)
        self._seconds.inc(max(0.0, stats.total_ms - stats.prefill_ms) / 1e3)
        self._longest_seen = max(self._longest_seen, n_prompt + stats.generated)
        self._longest.set(self._longest_seen)
        self._drafts.inc(sum(stats.nodes_histogram[1:]))
        self._drafted.inc(stats.drafted)
        self._accepted.inc(stats.accepted)
        for depth in range(1, len(stats.acceptance_histogram)):
            n_accepted = sum(stats.acceptance_histogram[depth:])
            self._accepted_at.labels(depth - 1).inc(n_accepted)

    def watch(self, traffic: Callable[[], Traffic]) -> None:
        """Shows the traffic of a Generator from now on."""
        self._registry.register(_TrafficCollector(traffic))

    def page(self) -> bytes:
        """Returns all figures in Prometheus's text format."""
        return generate_latest(self._registry)


class _TrafficCollector(Collector):
    """Asks a Generator for its traffic whenever the figures are asked for."""

    def __init__(self, traffic: Callable[[], Traffic]) -> None:
        self._traffic = traffic

    def describe(self) -> Iterator[Metric]:
        """Names no figures before they are asked for."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yields the figures."""
        now = self._traffic()
        for name, meaning, value in (
            ("llamacpp:n_decode", "Calls of the target.", now.target_calls),
            ("ersd:target_rows", "Tokens that these calls computed.", now.rows),
            ("ersd:target_prompt_rows", "Those of them that were prompts'.", now.prompt_rows),
            ("ersd:target_tokens", "Tokens that these calls brought.", now.tokens),
            ("ersd:num_preemptions", "Generations that had to leave places.", now.preemptions),
        ):
            yield CounterMetricFamily(name, meaning, value)
        for name, meaning, share in (
            ("llamacpp:n_busy_slots_per_decode", "Generations in a call.", now.sequences_per_call),
            ("ersd:rows_per_target_call", "Tokens that a call computed.", now.rows_per_call),
            ("ersd:tokens_per_target_call", "Tokens that a call brought.", now.tokens_per_call),
            ("ersd:kv_cache_cells", "Tokens that the cache has room for.", now.cells),
            ("ersd:kv_cache_cells_used", "Tokens that it holds.", now.cells_used),
        ):
            yield GaugeMetricFamily(name, meaning, share)
