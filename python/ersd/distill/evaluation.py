"""What a draft is worth on prompts: acceptance, tokens per target call, and the cost of a call."""

from __future__ import annotations

from collections.abc import Sequence

from ersd import Generator
from ersd.distill.corpus import Text
from ersd.ranks import Texts

__all__ = ["NODES", "TEMPERATURES", "Figures", "evaluate", "prompts_of"]

NODES = (4, 8, 16)  # each number of nodes of the static trees
TEMPERATURES = (1.0, 0.6)

Figures = dict[str, float]


def prompts_of(texts: Sequence[Text]) -> list[list[int]]:
    """Return the first half of each text's tokens. The target can write the second half again."""
    return [text.tokens[: max(text.first + 1, len(text.tokens) // 2)].tolist() for text in texts]


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
    figures: Figures = {}
    for temperature in TEMPERATURES:
        texts = Texts(
            {
                "category": "",
                "prompt": i,
                "ranks": [
                    position.rank
                    for position in generator.ranks(
                        prompt, max_tokens=max_tokens, temperature=temperature, seed=i
                    )
                ],
            }
            for i, prompt in enumerate(prompts)
        )
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
