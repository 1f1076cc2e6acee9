"""Training: the steps by which a student learns, its measures, and the checkpoint."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ersd.distill.batches import Batch, Batches
from ersd.distill.losses import (
    coarse_logprobs,
    divergence,
    logprobs_of,
    race_acceptance,
    race_surprise,
    tempered,
)
from ersd.distill.muon import Muon
from ersd.distill.student import Student
from ersd.engine import features
from ersd.files import replacing

__all__ = ["Measures", "Trainer", "keep_memory", "measure", "multiplies_bf16"]

LEARNT = 16  # tokens of each distribution to learn by; with all kept ones a step takes far longer
WARM = 20  # steps in which the learning rates rise
LAST = 0.6  # share of the steps in which the learning rates fall to 0
# Share of the steps, the last ones, that learn by races, with the output matrix rounded as it will
# be in the file. A draft that learns further has learnt the rest before.
ENDING, ENDING_FURTHER = 0.25, 1.0
RATE_FURTHER = 0.5  # factor of the learning rates of a draft that learns further
# Learning rates of parameters, by the first part of their names. The norms have that of the layers.
RATES = {"token_embd": 7e-3, "output": 1.5e-3, "layers": 3e-3}


@dataclass(frozen=True)
class Measures:
    """What a student is worth: means over positions.

    Attributes:
        divergence: D_KL(target || student), in nats.
        overlap: 1 - TV at temperature 1. It is slightly too small, since the rest counts as no
            overlap.
        first: race acceptance at temperature 1, slightly too small for the same reason.
        first_06: race acceptance at temperature 0.6, among the kept tokens alone.
    """

    divergence: float
    overlap: float
    first: float
    first_06: float


@torch.no_grad()
def measure(student: Student, batches: Sequence[Batch]) -> Measures:
    """Return what a student is worth on batches that it does not learn from."""
    sums = torch.zeros(4, dtype=torch.float64)
    n = 0
    matrix = student.output.matrix()
    device = matrix.device
    for batch in batches:
        states = student(batch.tokens.to(device))
        known = batch.logprobs[..., 0].isfinite()
        target, top = batch.logprobs[known].to(device), batch.top[known].to(device)
        found = logprobs_of(top, states[known.to(device)] @ matrix.T)
        parts = (
            divergence(target, found),
            torch.minimum(target, found).exp().sum(1),
            race_acceptance(target, found),
            race_acceptance(tempered(target, 0.6), tempered(found, 0.6)),
        )
        sums += torch.stack([part.double().sum().cpu() for part in parts])
        n += int(known.sum())
    return Measures(*(sums / n).tolist())


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 faster than f32, as GPUs and some CPUs do."""
    return device.type != "cpu" or "AVX512_BF16 = 1" in features()


def keep_memory() -> None:
    """Let glibc keep the memory that this process frees.

    Otherwise glibc returns each step's large blocks to the system and asks for them again, which
    takes two fifths of the time of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: take large blocks from the heap too
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never give the heap back


class Trainer:
    """A student that learns.

    The student after a step is a function of the student at the beginning, the texts, the seed and
    the number of steps.

    Attributes:
        student: the student, on the device where it is trained.
        batches: what it learns from.
        n_steps: steps of the whole training.
        step: steps done.
    """

    def __init__(
        self, student: Student, batches: Batches, n_steps: int, *, further: bool = False
    ) -> None:
        """Train on the device that holds the student, in bf16 where that is faster.

        Args:
            student: the student.
            batches: what it learns from.
            n_steps: steps of the whole training.
            further: whether the student is a draft that has learnt before.
        """
        self.student, self.batches, self.n_steps, self.step = student, batches, n_steps, 0
        self.ending = ENDING_FURTHER if further else ENDING
        self.rate = RATE_FURTHER if further else 1.0
        self.device = student.output.weight.device
        self.is_bf16 = multiplies_bf16(self.device)
        groups: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for name, parameter in student.named_parameters():
            part = name.split(".")[0]
            is_matrix = part == "layers" and parameter.ndim == 2
            rate = RATES.get(part, RATES["layers"])
            groups[is_matrix].append({"params": [parameter], "rate": rate})
        self.optimizers = (
            torch.optim.AdamW(
                groups[False], lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True
            ),
            Muon(groups[True], torch.bfloat16 if self.is_bf16 else torch.float32),
        )

    def learn(self) -> float:
        """Do one step: by the divergence, and in the last steps by the race's surprise.

        Returns:
            The loss of the batch, in nats.
        """
        self._set_rates()
        is_ending = self.step >= (1 - self.ending) * self.n_steps
        self.student.output.is_rounded = is_ending
        batch = self.batches(self.step)
        generator = torch.Generator().manual_seed(self.batches.seed * 1_000_003 + self.step)
        known = batch.logprobs[..., 0].isfinite()
        top = batch.top[known][:, :LEARNT].to(self.device)
        target = batch.logprobs[known][:, :LEARNT].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16):
            states = self.student(batch.tokens.to(self.device))[known.to(self.device)]
            found = coarse_logprobs(self.student, states, top, generator)
        loss = (race_surprise if is_ending else divergence)(target, found).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def _set_rates(self) -> None:
        """Set the learning rates of this step: they rise, stay, and fall to 0."""
        share = min(1.0, (self.step + 1) / WARM, (self.n_steps - self.step) / (LAST * self.n_steps))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * self.rate * share

    def save(self, path: Path) -> None:
        """Write a checkpoint with all that `load` needs."""
        with replacing(path) as unfinished:
            optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
            torch.save(
                {"step": self.step, "student": self.student.state_dict(), "optimizers": optimizers},
                unfinished,
            )

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same settings."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.student.load_state_dict(state["student"])
        for optimizer, found in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(found)
        self.step = state["step"]
