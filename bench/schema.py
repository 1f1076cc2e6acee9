"""JSON by a schema: whether every answer validates, and tokens per target call with the grammar and without.

python bench/schema.py [--count 200] [-k 8] [--temp 1.0] [-t THREADS]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import jsonschema

from ersd import Generator, models
from ersd.ranks import ratio

PROMPT = "<|im_start|>user\nWrite an order of a shop as JSON: customer, items, payment.<|im_end|>\n<|im_start|>assistant\n"
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


def main() -> None:
    """Print how many answers validate, why they ended, and tokens per call."""
    parser = argparse.ArgumentParser(
        description="JSON by a schema, and tokens per target call with its grammar and without"
    )
    parser.add_argument(
        "--count", type=int, default=200, help="answers of each kind, seeds from 0 on"
    )
    parser.add_argument("-k", "--draft-nodes", type=int, default=8)
    parser.add_argument("--temp", type=float, default=1.0)
    parser.add_argument("-t", "--threads", type=int, default=None)
    args = parser.parse_args()
    for name, shape in {
        "with the grammar": {"type": "json_object", "schema": SCHEMA},
        "without": None,
    }.items():
        generator = Generator(
            models.default_target(),
            models.twin(),
            n_ctx=1024,
            n_threads=args.threads,
            profile=False,
        )
        options = {
            "temperature": args.temp,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "draft_nodes": args.draft_nodes,
            "response_format": shape,
        }
        answers = [
            generator.generate(PROMPT, max_tokens=500 if shape else 150, seed=seed, **options)
            for seed in range(args.count)
        ]
        valid = sum(validates(answer.text) for answer in answers)
        mean, error = ratio(
            [a.stats.generated for a in answers], [a.stats.target_calls for a in answers]
        )
        ends = ", ".join(
            f"{reason} {n}"
            for reason, n in Counter(answer.finish_reason for answer in answers).items()
        )
        print(
            f"{name}: {valid} of {args.count} validate ({ends}), {mean:.2f} ± {error:.2f} tokens per target call"
        )


def validates(text: str) -> bool:
    """Whether the text is JSON of the schema."""
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


if __name__ == "__main__":
    main()
