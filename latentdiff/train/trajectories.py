"""A teacher's own trajectories: what a student of few calls learns from, instead of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.data import ReadReport
from latentdiff.data.order import integers
from latentdiff.data.types import TrainData
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import sample, start
from latentdiff.diffusion.trajectory import ProgressCallback, Recorder, SampleResult
from latentdiff.errors import InputError, counted
from latentdiff.pipeline.batching import batch_that_fits, map_images
from latentdiff.pipeline.pipeline import Pipeline

DROPPED = 10  # one trajectory of so many has no condition, where the teacher is conditional
STEPS = 48  # of a teacher that is not a student
VALIDATION = 20  # one trajectory of so many is for validation
LEAST = 16  # trajectories for validation
SEEDS = 10_000_000  # between those of samples and of the trajectories for training and for validation
GUIDANCES = 16  # scales that trajectories have, evenly from the lowest to the highest


@dataclass(frozen=True, eq=False)
class Trajectories:
    """``states`` float32 [n, calls + 1, *latent_shape] at the ``levels``, from noise to data.

    ``conditioning``: labels int64 [n] with the null class, or encoded prompts [n, L, D], or None; ``scales``
    float32 [n]: the guidance of each.
    """

    levels: tuple[int, ...]
    states: Tensor
    conditioning: Tensor | None
    scales: Tensor

    def __len__(self) -> int:
        return len(self.states)

    @property
    def labels(self) -> Tensor | None:
        """Class labels int64 [n]; None for texts and without classes."""
        known = self.conditioning
        return None if known is None or known.is_floating_point() else known

    @property
    def captions(self) -> None:
        """None: texts are encoded already."""
        return None

    def of_calls(self, calls: int) -> Trajectories:
        """The same at the levels of a divisor of their calls."""
        every = (len(self.levels) - 1) // calls
        states = self.states[:, ::every].contiguous()
        return Trajectories(self.levels[::every], states, self.conditioning, self.scales)

    def rows(self, rows: slice) -> Trajectories:
        """Some of them."""
        known = self.conditioning
        return Trajectories(
            self.levels, self.states[rows], None if known is None else known[rows], self.scales[rows]
        )


@dataclass(frozen=True, eq=False)
class TrajectoryData(TrainData):
    """Trajectories for training and for validation, of a ``teacher``, with guidance from ``scales[0]`` to
    ``scales[1]``.
    """

    teacher: Pipeline
    scales: tuple[float, float]
    name: str
    train: Trajectories
    val: Trajectories
    prompts: tuple[str, ...] = ()
    classes: None = None  # the labels have the null class, too
    report: ReadReport = field(default_factory=ReadReport)

    @property
    def shape(self) -> tuple[int, ...]:
        """[channels, height, width] of the teacher's images."""
        return self.teacher.codec.image_shape

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that the training trajectories follow from: the teacher, their noise, levels,
        conditions and guidance. Their own last digits depend on the threads and the batch.
        """
        made, found = self.train, hashlib.sha256(repr((self.train.levels, self.prompts)).encode())
        labels = () if made.labels is None else (made.labels,)
        for tensor in (made.states[:, 0], made.scales, *labels, *self.teacher.network.state_dict().values()):
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()


def splits_of(n: int, seed: int) -> dict[str, tuple[int, int]]:
    """The number of trajectories and the seed of the first: ``n`` for training, and those for validation."""
    return {"train": (n, seed + SEEDS), "val": (max(LEAST, n // VALIDATION), seed + 2 * SEEDS)}


def student_levels(teacher: Pipeline, calls: int, steps: int) -> tuple[list[int], list[int]]:
    """The levels of a student of so many calls, and those of its teacher's ``steps``, which contain them.

    Both descend from the level where the teacher's sampling starts to 0. InputError where steps are no
    multiple of the calls, and for more steps than levels.
    """
    if teacher.student is not None and steps != (own := teacher.student.calls):
        raise InputError(
            f"`teacher_steps`: the teacher is a student that draws in {counted(own, 'call')}, got {steps}"
        )
    if steps % calls and teacher.student is not None:
        raise InputError(f"`calls`: expected a divisor of the teacher's, {steps}, got {calls}")
    if steps % calls:
        raise InputError(f"`teacher_steps`: expected a multiple of {calls} calls, got {steps}")
    fine = teacher.plan(Sampling(steps=min(steps, teacher.schedule.T)))[1]
    if len(fine) != steps + 1:
        raise InputError(f"`teacher_steps`: expected at most {len(fine) - 1} for this model, got {steps}")
    return fine[:: steps // calls], fine


def teacher_steps(teacher: Pipeline, steps: int | None) -> int:
    """``steps``, or where None the default of the teacher: 48, of a student the number of its calls."""
    if steps is not None:
        return steps
    return STEPS if teacher.student is None else teacher.student.calls


def draw_trajectories(
    teacher: Pipeline,
    n: int,
    *,
    calls: int,
    steps: int,
    scales: tuple[float, float],
    seed: int,
    prompts: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> Trajectories:
    """``n`` trajectories of deterministic DDIM with ``steps``, kept at the levels of ``calls``.

    Trajectory k has the noise of seed + k and the next class (or one of ``prompts``). A tenth of them, drawn
    at random, has none; guidances are drawn from ``scales``. A teacher that is a student itself takes them as
    an input, in one call. InputError as of :func:`student_levels`.
    """
    levels, fine = student_levels(teacher, calls, steps)
    key, shape = teacher.key(seed, n), teacher.codec.latent_shape
    step = teacher.plan(Sampling(steps=steps))[0]
    conditioning, null, guidance = conditions_of(teacher, n, scales=scales, seed=seed, prompts=prompts)

    def make(rows: slice, recorder: Recorder) -> SampleResult:
        x = start(key[rows], shape)
        known = None if conditioning is None else conditioning[rows].to(teacher.device)
        unknown = None if null is None else null[rows].to(teacher.device)
        denoise = _guided(teacher, known, unknown, guidance[rows].to(teacher.device))
        kept = [x]
        for k, state in enumerate(sample(denoise, x, fine, step, key[rows])):
            if state.t in levels:
                kept.append(state.x)
            if recorder.progress is not None:
                recorder.progress(k + 1, len(fine) - 1)
        return SampleResult(torch.stack(kept, 1).cpu())

    most = batch_that_fits(teacher.network, teacher.device)
    with torch.no_grad():
        made = map_images(n, most, make, device=teacher.device, recorder=Recorder(progress=progress))
    return Trajectories(tuple(levels), made.images, conditioning, guidance)


def _guided(teacher: Pipeline, known: Tensor | None, unknown: Tensor | None, w: Tensor) -> Denoiser:
    """The teacher with a guidance of its own for each sample, ``w`` [n]."""
    if teacher.student is not None:

        def network(x: Tensor, t: Tensor, labels: Tensor | None, **_: Tensor) -> Tensor:
            out: Tensor = teacher.network(x, t, labels, guidance=w)
            return out

        return teacher.denoiser(known, network=network)
    conditional, plain = teacher.denoiser(known), teacher.denoiser(unknown)
    if known is None or bool((w == 1).all()):
        return conditional

    def denoise(x: Tensor, t: int) -> Estimate:
        without, known_x0 = (replace(each(x, t), clip=None).x0() for each in (plain, conditional))
        x0 = torch.lerp(without, known_x0, w.view(-1, *[1] * (x.ndim - 1)))
        return replace(Estimate.from_x0(x, t, x0=x0), clip=teacher.diffusion.clip)

    return denoise


def conditions_of(
    teacher: Pipeline, n: int, *, scales: tuple[float, float], seed: int, prompts: Sequence[str] = ()
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """What n trajectories are drawn for: their conditioning and that which is all null (None of both without
    any), and their guidance float32 [n]; on the CPU.
    """
    conditioning, null = _conditioning(teacher, n, prompts, seed)
    low, high = scales
    drawn = integers("student_guidance", torch.arange(n), seed=seed, choices=GUIDANCES)
    guidance = torch.ones(n) if conditioning is None else low + (high - low) * drawn / (GUIDANCES - 1)
    return conditioning, null, guidance


def _conditioning(
    teacher: Pipeline, n: int, prompts: Sequence[str], seed: int
) -> tuple[Tensor | None, Tensor | None]:
    """The conditioning of n trajectories, a tenth of it null, and that which is all null; on the CPU."""
    dropped = integers("drop_label", torch.arange(n), seed=seed, choices=DROPPED) == 0
    null = teacher.conditioner.null()
    if isinstance(null, Tensor):
        many = ["" if off else prompts[k % len(prompts)] for k, off in enumerate(dropped.tolist())]
        known = teacher.conditioner.encode(many, n)
        assert known is not None
        return known.cpu(), null.cpu().expand_as(known)
    labels = teacher.class_labels(n, "data" if teacher.class_counts else "equal")
    if labels is None:
        return None, None
    labels = torch.where(dropped, null, labels)
    return labels, torch.full_like(labels, null)


def step_targets(trajectories: Trajectories, coefficients: Sequence[tuple[float, float]]) -> Tensor:
    """The x_0 float32 [n, calls, *shape] by which one DDIM step leads from each state to the next.

    ``coefficients``: alpha and sigma at each of the levels. From x_u = alpha_u x_0 + sigma_u / sigma_t
    (x_t - alpha_t x_0), Song et al. 2021, equation 12 without noise.
    """
    found = []
    for k, ((alpha, sigma), (alpha_next, sigma_next)) in enumerate(pairwise(coefficients)):
        x, following = trajectories.states[:, k].double(), trajectories.states[:, k + 1].double()
        ratio = sigma_next / sigma
        found.append(((following - ratio * x) / (alpha_next - ratio * alpha)).float())
    return torch.stack(found, 1)
