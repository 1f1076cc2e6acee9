"""The counts and times of an answer, under the names that OpenAI, llama-server and vLLM use."""

from __future__ import annotations

from typing import Any

from ersd.serve.openai.generations import Generations

__all__ = ["record", "timings", "usage"]


def usage(generations: Generations) -> dict[str, Any]:
    """Returns the tokens of an answer as OpenAI counts them. A prompt counts once for n choices.

    Tokens of a prediction count where they were drafted, accepted or not.
    """
    firsts = generations.streams[:: generations.n]
    n_prompt = sum(stream.n_prompt for stream in firsts)
    n_answer = sum(len(stream.tokens) for stream in generations.streams)
    stats = [stream.stats for stream in generations.streams]
    n_drafted = sum(each.drafted_by.get("prediction", 0) for each in stats)
    n_accepted = sum(each.accepted_by.get("prediction", 0) for each in stats)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_answer,
        "total_tokens": n_prompt + n_answer,
        "prompt_tokens_details": {
            "cached_tokens": sum(stream.stats.cached_tokens for stream in firsts)
        },
        "completion_tokens_details": {
            "accepted_prediction_tokens": n_accepted,
            "rejected_prediction_tokens": n_drafted - n_accepted,
        },
    }


def record(generations: Generations) -> dict[str, Any]:
    """Returns what the end of an answer says of its seed, its times and its drafts."""
    return {
        "seed": generations.seed,
        "timings": timings(generations),
        "speculative": _speculative(generations),
    }


def timings(generations: Generations) -> dict[str, Any]:
    """Returns llama-server's counts and times in milliseconds, summed over begun choices.

    The first token of an answer comes with its prompt, so its rate is that of the later ones.
    """
    begun = [stream for stream in generations.streams if stream.tokens]
    stats = [stream.stats for stream in begun]
    n_cached = sum(each.cached_tokens for each in stats)
    n_prompt = sum(stream.n_prompt for stream in begun) - n_cached
    n_answer = sum(each.generated for each in stats)
    n_later = n_answer - len(begun)
    prompt_ms = sum(each.prefill_ms for each in stats)
    answer_ms = sum(each.total_ms for each in stats) - prompt_ms
    return {
        "cache_n": n_cached,
        "prompt_n": n_prompt,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": _ratio(prompt_ms, n_prompt),
        "prompt_per_second": _ratio(1000 * n_prompt, prompt_ms),
        "predicted_n": n_answer,
        "predicted_ms": answer_ms,
        "predicted_per_token_ms": _ratio(answer_ms, n_later),
        "predicted_per_second": _ratio(1000 * n_later, answer_ms),
        "draft_n": sum(each.drafted for each in stats),
        "draft_n_accepted": sum(each.accepted for each in stats),
    }


def _speculative(generations: Generations) -> dict[str, Any]:
    """Returns vLLM's counts of drafts; a draft is what one call of the target checked."""
    stats = [stream.stats for stream in generations.streams]
    n_drafts = sum(sum(each.nodes_histogram[1:]) for each in stats)
    n_accepted = sum(each.accepted for each in stats)
    return {
        "num_drafts": n_drafts,
        "num_draft_tokens": sum(each.drafted for each in stats),
        "num_accepted_tokens": n_accepted,
        "acceptance_length": 1 + _ratio(n_accepted, n_drafts),
        "tokens_per_call": _ratio(
            sum(each.generated for each in stats), sum(each.target_calls for each in stats)
        ),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
