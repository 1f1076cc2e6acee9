"""Training: batches of a corpus, what is learnt by, and the steps, which go on after any stop as if there had been none."""

from __future__ import annotations

import ctypes
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ersd import _core, models
from ersd.distill.corpus import N_TOP, Text
from ersd.distill.muon import Muon
from ersd.distill.student import Student

__all__ = ["Batch", "Batches", "Measures", "Trainer", "keep_memory", "measure", "multiplies_bf16"]

ROW = 1024  # tokens of a row: texts one after another, as in a conversation that goes on
LEARNT = 16  # tokens of each distribution to learn by; with all kept ones a step takes far longer, as its softmax is over more
OTHERS = 2048  # tokens beside the kept ones that stand for all others in a batch's softmax
WARM = 20  # steps in which the rates rise
LAST = 0.6  # the share of the steps in which they fall to nothing
BLIND = 0.02  # of a race's acceptance: where there is less, as good as none is learnt from
ENDING = 0.25  # the share of the steps, the last ones, in which races are learnt, and with the output matrix rounded as in the file
RATES = {
    "token_embd": 7e-3,
    "output": 1.5e-3,
    "layers": 3e-3,
}  # of parameters, by what their names begin with; the norms' is the layers'


@dataclass(frozen=True)
class Batch:
    """Rows of tokens and what the target says after each of them; `top` is 0 and `logprobs` -inf where it was not asked."""

    tokens: Tensor  # i64[rows, ROW]
    top: Tensor  # i64[rows, ROW, N_TOP]
    logprobs: Tensor  # f32[rows, ROW, N_TOP]


class Batches:
    """The texts in an order that is new in every epoch, cut into rows; a batch is a function of the seed and its number."""

    def __init__(self, texts: Sequence[Text], rows: int, seed: int) -> None:
        """rows: of a batch."""
        self.texts, self.rows, self.seed = texts, rows, seed
        self.lengths = np.array([len(text.tokens) for text in texts])
        self.per_epoch = int(self.lengths.sum()) // (ROW * rows)
        if self.per_epoch < 1:
            raise ValueError(
                f"the texts have {self.lengths.sum()} tokens, a batch needs {ROW * rows}"
            )
        self._epoch = -1

    def __call__(self, number: int) -> Batch:
        """The batch of a step."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.texts))
            self._ends = np.cumsum(self.lengths[self._order])
        begin, n = place * self.rows * ROW, self.rows * ROW
        tokens, top = np.zeros(n, np.int64), np.zeros((n, N_TOP), np.int64)
        logprobs = np.full((n, N_TOP), -np.inf, np.float32)
        i = int(np.searchsorted(self._ends, begin, "right"))
        while (
            i < len(self._order)
            and (start := int(self._ends[i] - self.lengths[self._order[i]]) - begin) < n
        ):
            text = self.texts[self._order[i]]
            for array, part, at in (
                (tokens, text.tokens, start),
                (top, text.top, start + text.first),
                (logprobs, text.logprobs, start + text.first),
            ):
                _paste(array, part, at)
            i += 1
        shape = (self.rows, ROW)
        return Batch(
            *(torch.from_numpy(a.reshape(*shape, *a.shape[1:])) for a in (tokens, top, logprobs))
        )


def _paste(array: np.ndarray[Any, Any], part: np.ndarray[Any, Any], at: int) -> None:
    """Put part into array from place `at` on, as far as it lies inside."""
    first, last = max(at, 0), min(at + len(part), len(array))
    if first < last:
        array[(slice(first, last), *(slice(n) for n in part.shape[1:]))] = part[
            first - at : last - at
        ]  # small vocabularies have fewer


def logprobs_of(tokens: Tensor, logits: Tensor, weights: Tensor | float = 0.0) -> Tensor:
    """Log-probabilities of tokens where logits count e^weights times; i64[n, k] and f32[n, m] to f32[n, k]."""
    return logits.gather(1, tokens) - (logits + weights).logsumexp(1, keepdim=True)


def coarse_logprobs(
    student: Student, states: Tensor, top: Tensor, others: torch.Generator
) -> Tensor:
    """The student's log-probabilities of the kept tokens of each position; f32[n, k].

    The softmax is over all tokens kept anywhere in the batch and a few others in the name of the rest, each counted as often as it stands
    for one. states: [n, width]; top: i64[n, k].
    """
    kept, places = torch.unique(top, return_inverse=True)
    absent = torch.ones(student.shape.n_vocab, dtype=torch.bool, device=top.device)
    absent[kept] = False
    rest = absent.nonzero()[:, 0]
    n = min(OTHERS, len(rest))
    drawn = rest[torch.randperm(len(rest), generator=others, device="cpu")[:n].to(rest.device)]
    logits = student.output(states, torch.cat([kept, drawn])).float()
    weights = torch.zeros(logits.shape[1], device=logits.device)
    if n:
        weights[len(kept) :] = math.log(len(rest) / n)
    return logprobs_of(places, logits, weights)


def rest_of(logprobs: Tensor) -> Tensor:
    """The log-probability of all tokens that are not kept; f32[n]."""
    return torch.log((1 - logprobs.exp().sum(1)).clamp_min(1e-5))


def divergence(target: Tensor, student: Tensor) -> Tensor:
    """D_KL of target and student over the kept tokens and the rest as one, in nats; f32[n]. Log-probabilities: f32[n, N_TOP]."""
    p, p_rest = target.exp(), rest_of(target)
    return (p * (target - student)).nan_to_num(0.0).sum(1) + p_rest.exp() * (
        p_rest - rest_of(student)
    )


def race_acceptance(target: Tensor, student: Tensor) -> Tensor:
    """The probability that both races have one winner, sum_j 1 / sum_i max(p_i / p_j, q_i / q_j), over the kept tokens; f32[n].

    The rest is taken as one token, on which they never agree. Log-probabilities: f32[n, N_TOP].
    """
    order = (target - student).argsort(1)  # by p / q
    p, q = (x.gather(1, order).exp().clamp_min(1e-12) for x in (target, student))
    p_above = p.flip(1).cumsum(1).flip(1)
    q_below = q.cumsum(1) - q
    rest = torch.maximum(rest_of(target).exp()[:, None] / p, rest_of(student).exp()[:, None] / q)
    return (1 / (p_above / p + q_below / q + rest)).sum(1)


def race_surprise(target: Tensor, student: Tensor) -> Tensor:
    """Minus the logarithm of the race's acceptance, in nats, growing no further where that is next to nothing; f32[n]. As above."""
    return -torch.log(race_acceptance(target, student) + BLIND)


def tempered(logprobs: Tensor, temperature: float) -> Tensor:
    """Kept log-probabilities at another temperature, nothing else being left; f32[n, N_TOP]."""
    return (logprobs / temperature).log_softmax(1)


@dataclass(frozen=True)
class Measures:
    """Means over positions."""

    divergence: float  # nats
    overlap: float  # 1 - TV at T = 1, a little too small: the rest counts as nothing in common
    first: float  # acceptance of the race at T = 1, likewise
    first_06: float  # at T = 0.6 among the kept tokens


@torch.no_grad()
def measure(student: Student, batches: Sequence[Batch]) -> Measures:
    """What a student is worth on texts that it does not learn from."""
    sums = torch.zeros(4, dtype=torch.float64)
    n = 0
    matrix = student.output.matrix()
    device = matrix.device
    for batch in batches:
        states = student(batch.tokens.to(device))
        known = batch.logprobs[..., 0].isfinite()
        target, top = batch.logprobs[known].to(device), batch.top[known].to(device)
        found = logprobs_of(top, states[known.to(device)] @ matrix.T)
        cool = tempered(target, 0.6), tempered(found, 0.6)
        parts = (
            divergence(target, found),
            torch.minimum(target, found).exp().sum(1),
            race_acceptance(target, found),
            race_acceptance(*cool),
        )
        sums += torch.stack([part.double().sum().cpu() for part in parts])
        n += int(known.sum())
    return Measures(*(sums / n).tolist())


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 faster than f32: any GPU, and processors that have instructions for it."""
    return device.type != "cpu" or "AVX512_BF16 = 1" in _core.features()


def keep_memory() -> None:
    """Let glibc keep what this process frees: else a step's large blocks go back to the system and come anew, two fifths of its time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no blocks of their own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


class Trainer:
    """A student that learns. What it is after a step is a function of where it began, the texts, the seed and the number of steps."""

    def __init__(self, student: Student, batches: Batches, n_steps: int) -> None:
        """The student stays where it is, on the CPU or on a GPU, and computes in bf16 where that is faster."""
        self.student, self.batches, self.n_steps, self.step = student, batches, n_steps, 0
        self.device = student.output.weight.device
        self.is_bf16 = multiplies_bf16(self.device)
        groups: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for name, parameter in student.named_parameters():
            of = name.split(".")[0]
            is_matrix = of == "layers" and parameter.ndim == 2
            groups[is_matrix].append(
                {"params": [parameter], "rate": RATES.get(of, RATES["layers"])}
            )
        self.optimizers = (
            torch.optim.AdamW(
                groups[False], lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True
            ),
            Muon(groups[True], torch.bfloat16 if self.is_bf16 else torch.float32),
        )

    def learn(self) -> float:
        """One step, by the divergence and in the end by the race's surprise; the loss of its batch, in nats."""
        share = min(1.0, (self.step + 1) / WARM, (self.n_steps - self.step) / (LAST * self.n_steps))
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = group["rate"] * share
        ending = self.step >= (1 - ENDING) * self.n_steps
        self.student.output.is_rounded = ending
        batch = self.batches(self.step)
        others = torch.Generator().manual_seed(self.batches.seed * 1_000_003 + self.step)
        known = batch.logprobs[..., 0].isfinite()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16):
            states = self.student(batch.tokens.to(self.device))[known.to(self.device)]
            found = coarse_logprobs(
                self.student, states, batch.top[known][:, :LEARNT].to(self.device), others
            )
        loss = (race_surprise if ending else divergence)(
            batch.logprobs[known][:, :LEARNT].to(self.device), found
        ).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write all that `load` needs to go on."""
        with models.replacing(path) as unfinished:
            optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
            torch.save(
                {"step": self.step, "student": self.student.state_dict(), "optimizers": optimizers},
                unfinished,
            )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same settings."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.student.load_state_dict(state["student"])
        for optimizer, found in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(found)
        self.step = state["step"]
