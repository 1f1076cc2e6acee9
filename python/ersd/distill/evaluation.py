"""What a draft is worth on prompts: acceptance, tokens per target call, and the cost of a call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ersd import Generator
from ersd.distill.corpus import Text
from ersd.distill.settings import Distillation
from ersd.prompts import read_prompts
from ersd.ranks import Record, Texts
from ersd.tune import chat_prompt

__all__ = ["NODES", "OWN_TEXTS", "TEMPERATURES", "Figures", "evaluate", "evaluate_all"]

NODES = (4, 8, 16)  # each number of nodes of the static trees
TEMPERATURES = (1.0, 0.6)
OWN_TEXTS = "texts of the target"  # the name of the held-out texts among the results
N_PROMPTS = 32  # prompts of each held-out file, at most
MIN_ANSWER, MAX_ANSWER = 8, 64  # tokens of an evaluated answer
# The answers have at most so small a part of the positions that were learnt from, so that the
# evaluation of a small draft takes little of the whole time.
EVALUATED_PART = 32

Figures = dict[str, float]


def evaluate_all(
    pair: Generator, settings: Distillation, held: Sequence[Text]
) -> dict[str, Figures]:
    """Return what a draft is worth on held-out texts, and on the prompts of each held-out file.

    Args:
        pair: the target and the draft.
        settings: the settings of the distillation.
        held: texts of which the target writes the second half of the tokens again.

    Returns:
        What `evaluate` returns, by the name of what the draft was evaluated on.
    """
    halves = [max(text.first + 1, len(text.tokens) // 2) for text in held]
    prompts = {OWN_TEXTS: [text.tokens[:n].tolist() for text, n in zip(held, halves, strict=True)]}
    for path in settings.held_out_chat:
        messages = read_prompts(path)[:N_PROMPTS]
        prompts[f"answers to {path.name}"] = [
            pair.tokenize(chat_prompt(pair, words)) for words in messages
        ]
    for path in settings.held_out_text:
        texts = read_prompts(path)[:N_PROMPTS]
        prompts[f"continuations of {path.name}"] = [*map(pair.tokenize, texts)]
    n_tokens = settings.n_positions // (EVALUATED_PART * len(TEMPERATURES) * len(held))
    max_tokens = min(MAX_ANSWER, max(MIN_ANSWER, n_tokens))
    return {name: evaluate(pair, some, max_tokens) for name, some in prompts.items()}


def evaluate(
    generator: Generator, prompts: Sequence[Sequence[int]], max_tokens: int = 64
) -> Figures:
    """Return what a draft is worth on answers to prompts.

    The ranks of all tokens are recorded with both models in llama.cpp. The draft does not correct
    itself.

    Args:
        generator: the target and the draft.
        prompts: token ids of each prompt.
        max_tokens: tokens of an answer at most.

    Returns:
        For each temperature T of `TEMPERATURES`:

        - ``first_tT``: the share of positions where the target's token is the draft's first;
        - ``tokens_per_call_K_tT``: tokens per target call with the optimal static tree of K nodes,
          made for the ranks of other prompts, for each K of `NODES`;
        - both names with ``_stderr``: the standard errors over prompts.

        ``cost`` is the time of a draft call over that of a target call, for one token each.
    """
    records: dict[float, list[Record]] = {temperature: [] for temperature in TEMPERATURES}
    # What was read of a prompt is kept for its next text.
    for (i, prompt), temperature in product(enumerate(prompts), TEMPERATURES):
        positions = generator.ranks(prompt, max_tokens=max_tokens, temperature=temperature, seed=i)
        ranks = [position.rank for position in positions]
        records[temperature].append({"category": "", "prompt": i, "ranks": ranks})
    figures: Figures = {}
    for temperature, found in records.items():
        texts = Texts(found)
        name = f"t{temperature:g}"
        measured = {f"first_{name}": texts.first_acceptance()}
        for k in NODES:
            trees = texts.trees("tree", k)
            measured[f"tokens_per_call_{k}_{name}"] = texts.tokens_per_call(trees)
        for key, (mean, stderr) in measured.items():
            figures |= {key: mean, f"{key}_stderr": stderr}
    generator.forecast()  # measures the costs
    costs = generator.profile()
    figures["cost"] = costs.draft_ms[0][0] / costs.target_ms[0][0]  # of calls with one token
    return figures
