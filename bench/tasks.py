"""What draft sources give on tasks: edit, quote, summarise, JSON by a schema, code, chat and prose.

For each task and set of sources: tokens and drafted tokens per call, accepted tokens by source,
and the speed as a ratio to plain decoding, all in turn in each round. Beside them stand the n-gram
rules of other programs on the same texts, and the calibration of what texts predict. Edits and
quotes are forced token by token, so that a small model stands for one that does what it is asked.

Before each turn the Generator forgets what it has learnt, so a turn's history is its own prompts
and answers, and hit rates and self-correction begin anew.

python bench/tasks.py FOLDER [-m MODEL] [-md DRAFT | --no-draft] [--count 24] [-r 3] [-k 8 auto]

FOLDER keeps the packages whose functions are edited. The table is Markdown.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from edits import edits
from grammar import PROMPT, SCHEMA
from replay import RULES, Hits, calibrate, replay
from schema import PROMPT as ORDER_PROMPT
from schema import SCHEMA as ORDER_SCHEMA

from ersd import Generator, Result, models
from ersd.prompts import read_prompts

HERE = Path(__file__).parent
DOCUMENTS = ("cpp/ersd/README.md", "README.md", ".github/CONTRIBUTING.md", "bench/results/many.md")
PART = 2400  # characters of a document in a prompt
TEXTS = ("lookup", "history", "grammar")
SETS: dict[str, tuple[str, ...]] = {
    "lookup + history + grammar": TEXTS,
    "the same + prediction": (*TEXTS, "prediction"),
    "model": ("model",),
    "all but prediction": (*TEXTS, "model"),
}


class Case(NamedTuple):
    """A prompt of a task, in tokens.

    Attributes:
        prompt: the prompt.
        forced: the answer that the target is made to give; empty for its own one.
        expected: the prediction of the answer; empty for none.
        options: further options of the generation.
    """

    prompt: list[int]
    forced: list[int]
    expected: list[int]
    options: dict[str, Any]


class Forced:
    """A logits processor that leaves one token at each position."""

    def __init__(self, n_prompt: int, answer: Sequence[int]) -> None:
        """Force the answer after a prompt of this length."""
        self._n_prompt, self._answer = n_prompt, answer

    def __call__(
        self, input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
    ) -> npt.NDArray[np.single]:
        """Return the logits of the next token."""
        forced = np.full_like(scores, -np.inf)
        forced[self._answer[len(input_ids) - self._n_prompt]] = 0
        return forced


class Maker:
    """Makes the cases of tasks for one Generator."""

    def __init__(self, generator: Generator, folder: Path, count: int) -> None:
        """folder: keeps packages; count: cases of a task."""
        self._generator, self._folder, self._count = generator, folder, count

    def edit(self) -> Iterator[Case]:
        """Functions with the changes of a later release. The old function may be a prediction."""
        for edit in edits(self._folder, self._count):
            asked = "Rewrite this function for the new version:\n```python\n"
            prompt = self._chat(f"{asked}{edit.before}```") + self._tokens("```python\n")
            yield Case(prompt, self._tokens(f"{edit.after}```"), self._tokens(edit.before), {})

    def quote(self) -> Iterator[Case]:
        """Four sentences of a document, word for word."""
        for i, part in enumerate(self._documents()):
            sentences = re.findall(r"(?<=[.:] )[A-Z][^.|#\n]{30,200}\.", part)
            chosen = random.Random(i).sample(sentences, min(4, len(sentences)))
            prompt = self._chat(f"{part}\n\nQuote four sentences of this text as a list.")
            yield Case(prompt, self._tokens("".join(f'- "{each}"\n' for each in chosen)), [], {})

    def summarise(self) -> Iterator[Case]:
        """What a document says, in the model's words."""
        for part in self._documents():
            yield self._own(f"{part}\n\nSummarise this text in three sentences.")

    def json(self) -> Iterator[Case]:
        """Objects by two schemas in turn."""
        order = ORDER_PROMPT.split("\n")[1].removesuffix("<|im_end|>")
        for i in range(self._count):
            asked, schema = ((PROMPT, SCHEMA), (order, ORDER_SCHEMA))[i % 2]
            form = {"type": "json_object", "schema": schema}
            yield self._own(asked, response_format=form)

    def code(self) -> Iterator[Case]:
        """Functions that are begun."""
        yield from self._begun("code")

    def chat(self) -> Iterator[Case]:
        """Questions."""
        for text in read_prompts(HERE / "prompts" / "chat.txt")[: self._count]:
            yield self._own(text)

    def prose(self) -> Iterator[Case]:
        """Stories and articles that are begun."""
        yield from self._begun("prose")

    def _begun(self, name: str) -> Iterator[Case]:
        for text in read_prompts(HERE / "prompts" / f"{name}.txt")[: self._count]:
            yield Case(self._generator.tokenize(text), [], [], {})

    def _documents(self) -> Iterator[str]:
        """Yield parts of the documents in turn."""
        texts = [(HERE.parent / name).read_text(encoding="utf-8") for name in DOCUMENTS]
        for i in range(self._count):
            text, turn = texts[i % len(texts)], i // len(texts)
            begin = turn * PART // 2 % max(1, len(text) - PART)
            yield text[begin : begin + PART]

    def _own(self, text: str, **options: Any) -> Case:
        return Case(self._chat(text), [], [], options)

    def _chat(self, text: str) -> list[int]:
        return self._generator.apply_chat_template([{"role": "user", "content": text}])

    def _tokens(self, text: str) -> list[int]:
        return self._generator.tokenize(text, add_special=False, parse_special=False)


class Tally:
    """The counts of a set of sources on a task."""

    def __init__(self) -> None:
        """Begin with none."""
        self.n_tokens = self.n_calls = self.n_drafted = 0
        self.accepted: Counter[str] = Counter()
        self.rounds: list[float] = []  # milliseconds per token of each round
        self.is_same = True  # whether all texts were those of plain decoding

    def add(self, results: Sequence[Result], plain: Sequence[Result]) -> None:
        """Add a round."""
        stats = [result.stats for result in results]
        self.n_tokens += sum(each.generated for each in stats)
        self.n_calls += sum(each.target_calls for each in stats)
        self.n_drafted += sum(each.drafted for each in stats)
        for each in stats:
            self.accepted.update(each.accepted_by)
        ms = sum(each.total_ms - each.prefill_ms for each in stats)
        self.rounds.append(ms / sum(each.generated for each in stats))
        self.is_same &= all(a.tokens == b.tokens for a, b in zip(results, plain, strict=True))

    def row(self, plain: Tally) -> str:
        """Return the figures of a line of the table."""
        ratios = [b / a for a, b in zip(self.rounds, plain.rounds, strict=True)]
        spread = f" ± {statistics.stdev(ratios):.2f}" if len(ratios) > 1 else ""
        accepted = ", ".join(f"{name} {n}" for name, n in self.accepted.most_common())
        return (
            f"{self.n_tokens / self.n_calls:.2f} | {self.n_drafted / self.n_calls:.2f} | "
            f"{accepted or '-'} | {statistics.mean(ratios):.2f}{spread} | "
            f"{'yes' if self.is_same else 'no'}"
        )


def answers(
    generator: Generator,
    cases: Sequence[Case],
    sources: tuple[str, ...],
    nodes: int | str,
    args: argparse.Namespace,
) -> list[Result]:
    """Return the answers to all cases in turn. Without sources, they are decoded plainly."""
    generator.forget()
    results = []
    for i, case in enumerate(cases):
        options: dict[str, Any] = {"temperature": args.temp, "max_tokens": args.max_tokens}
        options |= {"draft_nodes": nodes, "draft_sources": sources} if sources else {"method": "ar"}
        if case.forced:
            processor = Forced(len(case.prompt), case.forced)
            options |= {"logits_processor": processor, "temperature": 0.0}
            options["max_tokens"] = len(case.forced)
        if "prediction" in sources:
            options["prediction"] = case.expected
        results.append(generator.generate(case.prompt, seed=i, **options, **case.options))
    return results


def measure(
    generator: Generator, name: str, cases: Sequence[Case], args: argparse.Namespace, hits: Hits
) -> None:
    """Print the lines of a task, and add what texts predicted there."""
    ways: list[tuple[str, tuple[str, ...], int | str]] = [("none", (), 0)]
    for title, sources in SETS.items():
        if "model" in sources and not generator.draft:
            continue
        if "prediction" not in sources or any(case.expected for case in cases):
            ways += [(title, sources, nodes) for nodes in args.nodes]
    tallies = {(title, nodes): Tally() for title, _, nodes in ways}
    plain: list[Result] = []
    for turn in range(args.repetitions):
        later = ways[1:]
        for title, sources, nodes in [ways[0], *(later if turn % 2 else reversed(later))]:
            found = answers(generator, cases, sources, nodes, args)
            plain = plain or found
            tallies[title, nodes].add(found, plain)
    for (title, nodes), tally in tallies.items():
        print(f"| {name} | {title} | {nodes} | {tally.row(tallies['none', 0])} |", flush=True)
    texts = [(case.prompt, result.tokens) for case, result in zip(cases, plain, strict=True)]
    for title, rule in RULES.items():
        done = replay(rule, texts)
        figures = f"{done.n_tokens / done.n_calls:.2f} | {done.n_drafted / done.n_calls:.2f}"
        print(f"| {name} | {title}, replayed | - | {figures} | - | - | - |", flush=True)
    races = args.temp > 0 and not cases[0].forced
    expected = [case.expected for case in cases] if any(case.expected for case in cases) else None
    calibrate(hits, texts, range(len(texts)) if races else None, expected)


def print_calibration(hits: Hits) -> None:
    """Print predicted and actual hits of each tenth of the predictions of each source."""
    print("\n| source | tenth | predicted | actual | number |\n| --- | ---: | ---: | ---: | ---: |")
    for source in hits.sources:
        for i, (predicted, actual, n) in enumerate(hits.deciles(source), 1):
            print(f"| {source} | {i} | {predicted:.3f} | {actual:.3f} | {n} |")


def _nodes(text: str) -> int | str:
    return text if text == "auto" else int(text)


def parse_arguments(tasks: Sequence[str]) -> argparse.Namespace:
    """Read the command line. tasks: the names of all tasks."""
    parser = argparse.ArgumentParser(description="what draft sources give on tasks")
    add = parser.add_argument
    add("folder", type=Path, help="folder of the packages that are downloaded")
    add("-m", "--model", type=Path, help="a GGUF file; without it, the default target")
    add("-md", "--draft", type=Path, help="its draft; without it, the default draft")
    add("--no-draft", action="store_true", help="use no draft model")
    add("--tasks", nargs="+", choices=tasks, default=tasks, help="which tasks")
    add("--count", type=int, default=24, help="cases of each task")
    add("-n", "--max-tokens", type=int, default=128, help="tokens of answers that are not forced")
    add("-r", "--repetitions", type=int, default=3, help="rounds")
    add("-k", "--nodes", nargs="+", type=_nodes, default=[8, "auto"], help="drafted nodes")
    add("--temp", type=float, default=0.0, help="temperature of answers that are not forced")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    return parser.parse_args()


def main() -> None:
    """Print a line for each task, set of sources and number of nodes, then the calibration."""
    tasks: dict[str, Callable[[Maker], Iterator[Case]]] = {
        name: getattr(Maker, name)
        for name in ("edit", "quote", "summarise", "json", "code", "chat", "prose")
    }
    args = parse_arguments(list(tasks))
    args.folder.mkdir(parents=True, exist_ok=True)
    draft = None if args.no_draft else args.draft or models.default_draft()
    target = args.model or models.default_target()
    generator = Generator(target, draft, n_threads=args.threads, n_parallel=1)
    generator.generate("Once", max_tokens=2)  # which measures the costs of calls
    print(f"{target.name}, draft {draft.name if draft else 'none'}: {generator.exact.reason}\n")
    print(
        "| task | sources | draft_nodes | tokens per call | drafted per call | accepted "
        "| ratio to plain | same text |\n| --- | --- | ---: | ---: | ---: | --- | ---: | --- |"
    )
    hits = Hits()
    for name in args.tasks:
        cases = list(tasks[name](Maker(generator, args.folder, args.count)))
        measure(generator, name, cases, args, hits)
    print_calibration(hits)


if __name__ == "__main__":
    main()
