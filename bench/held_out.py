"""What a draft is worth on prompts.

Prints the first acceptance of the race, tokens per target call of static trees, and the cost of a
draft call.

python bench/held_out.py -md draft.gguf --chat bench/prompts/chat.txt
                         --text bench/prompts/prose.txt bench/prompts/code.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ersd import Generator, models
from ersd.distill.evaluation import evaluate
from ersd.prompts import read_prompts


def main() -> None:
    """Print the figures of all prompts of each kind."""
    parser = argparse.ArgumentParser(description="what a draft is worth on prompts")
    parser.add_argument("-m", "--model", type=Path, default=models.default_target())
    parser.add_argument("-md", "--model-draft", type=Path, default=models.default_draft())
    parser.add_argument("--chat", nargs="+", default=[], type=Path, help="files of chat messages")
    parser.add_argument(
        "--text", nargs="+", default=[], type=Path, help="files of texts that the model continues"
    )
    parser.add_argument("--count", type=int, default=32, help="prompts of each file")
    parser.add_argument("-n", "--max-tokens", type=int, default=64)
    args = parser.parse_args()
    generator = Generator(args.model, args.model_draft, n_ctx=1024, profile=False)
    for kind, paths in (("chat", args.chat), ("text", args.text)):
        texts = [text for path in paths for text in read_prompts(path)[: args.count]]
        if not texts:
            continue
        prompts = [
            generator.tokenize(generator.target.chat_prompt(text) if kind == "chat" else text)
            for text in texts
        ]
        print(f"{kind}, {len(texts)} prompts")
        figures = evaluate(generator, prompts, args.max_tokens)
        for name, value in figures.items():
            if not name.endswith("_stderr"):
                error = f" ± {figures[f'{name}_stderr']:.3f}" if f"{name}_stderr" in figures else ""
                print(f"  {name} {value:.3f}{error}")


if __name__ == "__main__":
    main()
