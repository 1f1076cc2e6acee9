"""The scheduler over table models: every text is that of the request alone, and nothing leaks."""

from __future__ import annotations

import random

import numpy as np
import pytest
from ersd._core import Engine, GenerationOptions, Scheduler, TableModel

import oracles

N_ROWS, N_VOCAB, N_CTX = 64, 70, 160
FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
WAYS = [
    {"method": "ar"},
    *({"strategy": s, "draft_nodes": 6} for s in ("simple", "sequence", "batch", "tree")),
    {"strategy": "adaptive", "draft_nodes": 6},
    {"method": "match", "draft_nodes": 3},
    {},
]
rng = np.random.default_rng(0)
TABLE = oracles.random_table(rng, N_ROWS, N_VOCAB)
DRAFT_TABLE = TABLE + oracles.random_table(rng, N_ROWS, N_VOCAB, spread=0.8)


class Pool:
    """A scheduler over a pair of table models."""

    def __init__(
        self,
        n_parallel: int = 4,
        n_places: int = 8,
        n_cells: int = N_CTX,
        draft: bool = True,
        n_ctx: int = N_CTX,
        keeps: tuple[bool, bool] = (True, True),
        prompt_share: float = 0.6,
    ) -> None:
        """n_cells: tokens that all places cache together. keeps: those of idle places."""
        self.target = TableModel(TABLE, n_ctx, n_places, n_cells)
        self.draft = TableModel(DRAFT_TABLE, n_ctx, n_places, n_cells) if draft else None
        self.engine = Engine(self.target, self.draft, prompt_share)
        self.scheduler = Scheduler(
            self.engine, self.target, self.draft, n_parallel, n_cells, *keeps
        )
        self.n_cells = n_cells

    def submit(self, prompt, end_tokens=(), **options):
        """Queues a request."""
        given = GenerationOptions(**{**FULL, **options})
        return self.scheduler.submit(prompt, given, self.target, self.draft, list(end_tokens))

    def run(self, requests):
        """Makes steps until all requests are done, and returns their tokens."""
        tokens = [[] for _ in requests]
        while not all(request.done for request in requests):
            made = self.scheduler.step()
            taken = False
            for request, so_far in zip(requests, tokens, strict=True):
                while (step := request.take()) is not None:
                    so_far += step.tokens
                    taken = True
            assert made or taken, "nobody can go on"
        return tokens

    def check_empty(self):
        """No request is left, and all cells can be free."""
        assert self.scheduler.n_running == self.scheduler.n_waiting == 0
        self.scheduler.clear_idle()
        for model in (self.target, self.draft):
            assert model is None or model.n_free >= self.n_cells


def random_request(draw, earlier):
    """Returns a prompt that may begin as an earlier one, and its options."""
    prompt = draw.choice(earlier)[: draw.randint(1, 80)] if earlier and draw.random() < 0.6 else []
    prompt = [*prompt, *(draw.randrange(N_VOCAB) for _ in range(draw.randint(1, 50)))]
    n = min(draw.choice([5, 30, 100]), N_CTX - len(prompt))
    return prompt, {"max_tokens": n, "seed": draw.randrange(9), **draw.choice(WAYS)}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("prompt_share", [0.6, 0.0], ids=["by the clock", "token by token"])
def test_every_text_is_that_of_the_request_alone(seed: int, prompt_share: float) -> None:
    """Random requests arrive, are cancelled and are taken late, through few places and cells.

    Prompts are read as fast as the clock allows, or one token a step while others generate.
    """
    draw = random.Random(seed)
    n_parallel = draw.choice([1, 2, 3, 8])
    n_places = n_parallel if n_parallel == 1 else draw.choice([n_parallel, 2 * n_parallel])
    pool = Pool(
        n_parallel,
        n_places,
        draw.choice([N_CTX, 300, 1200]),
        draw.random() < 0.7,
        keeps=(draw.random() < 0.7, draw.random() < 0.5),
        prompt_share=prompt_share,
    )
    prompts, open_, n_finished, n_rounds = [], [], 0, 0
    while n_rounds < 1500 or n_finished <= 20:
        n_rounds += 1
        assert n_rounds < 30000, "requests do not come to their ends"
        if draw.random() < 0.3 and len(open_) < 12:
            prompt, options = random_request(draw, prompts)
            prompts.append(prompt)
            end = [draw.randrange(N_VOCAB)] if draw.random() < 0.3 else []
            truth = oracles.decode(TABLE, prompt, options["max_tokens"], options["seed"], **FULL)
            if end and end[0] in truth:
                truth = truth[: truth.index(end[0])]
            open_.append((pool.submit(prompt, end, **options), prompt, truth, []))
        if draw.random() < 0.8:
            pool.scheduler.step()
        for entry in list(open_):
            request, prompt, truth, tokens = entry
            if draw.random() < 0.005:
                pool.scheduler.cancel(request)
            if draw.random() < (0.02 if len(prompt) % 3 == 0 else 0.5):
                while (step := request.take()) is not None:
                    tokens += step.tokens
            assert tokens == truth[: len(tokens)]
            if request.done:
                n_finished += tokens == truth
                open_.remove(entry)
    pool.run([entry[0] for entry in open_])
    pool.scheduler.step()
    pool.check_empty()


def test_common_prefixes_are_read_once() -> None:
    """Requests that begin with the same tokens share them, also if they arrive together."""
    pool = Pool(8, 16, 1200)
    shared = [i % N_VOCAB for i in range(90)]
    requests = [pool.submit([*shared, 60, i], max_tokens=5, method="ar") for i in range(8)]
    pool.run(requests)
    assert pool.target.n_decoded < 90 + 8 * 12
    pool.check_empty()


def test_idle_places_keep_their_tokens_or_drop_them() -> None:
    """Texts of idle places wait for later prompts, unless they would make calls slower."""
    for keeps in (True, False):
        pool = Pool(2, 4, 1200, draft=False, keeps=(keeps, keeps))
        texts = [[i] * 40 for i in range(4)]
        for text in texts:
            pool.run([pool.submit(text, max_tokens=1, method="ar")])
        n_kept = [len(pool.target.cached(place)) for place in range(4)]
        assert sum(n > 0 for n in n_kept) == (4 if keeps else 1)
        before = pool.target.n_decoded
        for text in texts[1:] if keeps else texts[-1:]:
            pool.run([pool.submit([*text, 50], max_tokens=1, method="ar")])
            assert pool.target.n_decoded - before < 9
        pool.check_empty()


@pytest.mark.parametrize("way", [{"method": "ar"}, {"draft_nodes": 6}])
def test_the_newest_waits_when_cells_run_short(way: dict[str, object]) -> None:
    """Texts that need three times the cells together are those of the requests alone."""
    pool, n = Pool(4, 8, 500, n_ctx=500), 400
    requests = [pool.submit([i] * 20, max_tokens=n, seed=i, **way) for i in range(4)]
    tokens, n_running = [[] for _ in requests], set()
    while not all(request.done for request in requests):
        assert pool.scheduler.step()
        n_running.add(pool.scheduler.n_running)
        for request, so_far in zip(requests, tokens, strict=True):
            while (step := request.take()) is not None:
                so_far += step.tokens
        ended = [request.done for request in requests]
        assert ended == sorted(ended, reverse=True)
    assert n_running >= {1, 2, 3, 4}
    assert tokens == [oracles.decode(TABLE, [i] * 20, n, i, **FULL) for i in range(4)]
    pool.check_empty()


def test_paused_requests_make_way() -> None:
    """A request whose steps nobody takes gives its place to one that waits."""
    pool = Pool(1, 1)
    idle = pool.submit([1, 2, 3], max_tokens=100, method="ar", seed=1)
    for _ in range(40):
        pool.scheduler.step()
    other = pool.submit([4, 5, 6], max_tokens=30, method="ar", seed=2)
    assert pool.run([other]) == [oracles.decode(TABLE, [4, 5, 6], 30, 2, **FULL)]
    assert pool.run([idle]) == [oracles.decode(TABLE, [1, 2, 3], 100, 1, **FULL)]
    pool.check_empty()


def test_an_error_ends_one_request() -> None:
    """An exception of a logits processor is that of its request alone."""
    pool = Pool()

    def fails(input_ids, scores):
        if len(input_ids) > 8:
            raise KeyError("mine")
        return scores

    good = pool.submit([1, 2, 3], max_tokens=30, seed=1)
    bad = pool.submit([1, 2, 3], max_tokens=30, seed=1, logits_processor=fails)
    tokens = []

    def take_all() -> None:
        while pool.scheduler.step():
            while (step := bad.take()) is not None:
                tokens.extend(step.tokens)

    with pytest.raises(KeyError, match="mine"):
        take_all()
    truth = oracles.decode(TABLE, [1, 2, 3], 30, 1, **FULL)
    assert bad.done
    assert bad.take() is None
    assert tokens == truth[: len(tokens)]
    assert pool.run([good]) == [truth]
    pool.check_empty()
