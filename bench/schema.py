"""Answers by a JSON schema: how many validate, and tokens per target call.

Both are measured with the grammar of the schema and without.

python bench/schema.py [--count 200] [-k 8] [--temp 1.0] [-t THREADS]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import jsonschema

from ersd import Generator, Result, models
from ersd.ranks import ratio

PROMPT = (
    "<|im_start|>user\nWrite an order of a shop as JSON: customer, items, payment.<|im_end|>\n"
    "<|im_start|>assistant\n"
)
# Tokens of an answer at most, with the grammar and without.
MAX_TOKENS, MAX_TOKENS_WITHOUT = 500, 150
SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 30},
                "address": {
                    "type": "object",
                    "properties": {
                        "street": {"type": "string", "maxLength": 30},
                        "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                        "country": {"enum": ["DE", "FR", "US"]},
                    },
                    "required": ["street", "zip", "country"],
                    "additionalProperties": False,
                },
            },
            "required": ["name", "address"],
            "additionalProperties": False,
        },
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "maxLength": 30},
                    "count": {"type": "integer"},
                    "options": {
                        "anyOf": [
                            {"type": "null"},
                            {"type": "array", "items": {"type": "boolean"}, "maxItems": 4},
                        ]
                    },
                },
                "required": ["title", "count", "options"],
                "additionalProperties": False,
            },
        },
        "payment": {"oneOf": [{"const": "cash"}, {"const": "card"}]},
    },
    "required": ["customer", "items", "payment"],
    "additionalProperties": False,
}


def validates(text: str) -> bool:
    """Return whether a text is JSON that follows the schema."""
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def answers(args: argparse.Namespace, with_grammar: bool) -> list[Result]:
    """Generate one answer for each seed with a fresh Generator."""
    generator = Generator(
        models.default_target(), models.twin(), n_ctx=1024, n_threads=args.threads, profile=False
    )
    return [
        generator.generate(
            PROMPT,
            max_tokens=MAX_TOKENS if with_grammar else MAX_TOKENS_WITHOUT,
            temperature=args.temp,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            seed=seed,
            draft_nodes=args.draft_nodes,
            response_format={"type": "json_object", "schema": SCHEMA} if with_grammar else None,
        )
        for seed in range(args.count)
    ]


def main() -> None:
    """Print how many answers validate, why they ended, and tokens per call."""
    parser = argparse.ArgumentParser(
        description="answers by a JSON schema, and tokens per target call with its grammar"
    )
    add = parser.add_argument
    add("--count", type=int, default=200, help="answers of each kind, with seeds from 0 on")
    add("-k", "--draft-nodes", type=int, default=8, help="drafted tokens per target call")
    add("--temp", type=float, default=1.0, help="temperature")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    args = parser.parse_args()
    for with_grammar in (True, False):
        found = answers(args, with_grammar)
        stats = [answer.stats for answer in found]
        n_valid = sum(validates(answer.text) for answer in found)
        mean, error = ratio([s.generated for s in stats], [s.target_calls for s in stats])
        reasons = Counter(answer.finish_reason for answer in found)
        ends = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
        name = "with the grammar" if with_grammar else "without"
        print(f"{name}: {n_valid} of {args.count} validate ({ends})", end=", ")
        print(f"{mean:.2f} ± {error:.2f} tokens per target call")


if __name__ == "__main__":
    main()
