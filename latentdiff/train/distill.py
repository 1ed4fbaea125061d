"""Training of a student: one call of its network for each segment of its teacher's trajectories.

Progressive distillation in one go (Salimans and Ho 2022): the student regresses onto where many steps of the
teacher lead, with the guidance as an input (Meng et al. 2023).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff.config.diffusion import Prediction
from latentdiff.config.training import TrainStudent
from latentdiff.data import Dataset, Split, to_uint8
from latentdiff.diffusion.denoiser import timestep
from latentdiff.diffusion.prediction import to_x0
from latentdiff.errors import InputError
from latentdiff.metrics.features import default_features, perceptual_loss, perceptual_network
from latentdiff.nn import ExternalModel, TextEncoder, build
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Writer
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.components import config_of, denoiser_config
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.pipeline.student import Student
from latentdiff.train.batch import autocast
from latentdiff.train.perceptual import PerceptualTerm, are_digits
from latentdiff.train.quick_evaluation import GridSamples, QuickEvaluation
from latentdiff.train.trajectories import Trajectories, TrajectoryData, step_targets
from latentdiff.viz.images import pair_grid, save_image

CHUNK = 500  # trajectories that are validated at once
SHOWN = 32  # pairs in the sample grid
HUBER = 0.05  # of a model of pixels, in [-1, 1]
PERCEPTUAL = 20.0  # the weight for the pixels of digits (docs/quality.md)
AT_END = 1 - 1e-4  # of the range: targets are exact to about 1e-6
GUIDED = ("mlp", "unet", "dit")


def student_prediction(teacher: Pipeline) -> Prediction:
    """What the student predicts: as its teacher, but v for eps and the score, of which an error is multiplied
    by sigma / alpha in x_0, without bound at the first call (Salimans and Ho 2022, section 4).
    """
    found = teacher.diffusion.prediction
    return "v" if found in ("eps", "score") else found


def student_network(teacher: Pipeline, seed: int) -> nn.Module:
    """A copy of the network that also takes the guidance, at first without an effect; its last layer
    starts at zero where it predicts something else.

    InputError for a network that cannot.
    """
    if isinstance(teacher.network, ExternalModel):
        raise InputError("a student needs a network of this package, found one of diffusers")
    config = config_of(teacher.network)
    if "guided" not in type(config).model_fields:
        raise InputError(f"a student needs a network of {', '.join(GUIDED)}, found {type(config).__name__}")
    if getattr(config, "out_factor", 1) != 1:
        raise InputError("a student needs a teacher of a fixed variance, found one that has learned it")
    network = build(config.model_copy(update={"guided": True}), seed=seed)
    network.load_state_dict(
        network.state_dict() | {name: value.clone() for name, value in teacher.network.state_dict().items()}
    )
    if student_prediction(teacher) != teacher.diffusion.prediction:
        for weight in network.get_submodule("head").parameters():
            nn.init.zeros_(weight)
    return network


def perceptual_term(teacher: Pipeline, weight: float, device: torch.device) -> PerceptualTerm | None:
    """The perceptual term of a weight; None for 0.

    InputError for a weight where the teacher has a VAE, or without the network's weights.
    """
    if not weight:
        return None
    if not isinstance(teacher.codec, IdentityCodec):
        raise InputError(f"`perceptual`: needs a model of pixels, got {weight:g} for one of latents")
    name = default_features(teacher.codec.image_shape, teacher.classes or None)
    return PerceptualTerm(weight, perceptual_network(name, device=device))


def x0_error(x0: Tensor, wanted: Tensor, *, clip: float | None, huber: float = 0.0) -> Tensor:
    """The mean squared error of each estimate [B, *shape] of x_0, [B]; with ``huber`` above 0 the mean of
    sqrt(error^2 + huber^2) - huber, which is least at the median (Song and Dhariwal 2024, equation 7).

    ``clip``: of the sampler. An estimate beyond it is no error where ``wanted`` is the end of the range, so
    that a black background becomes black. (What is wanted is within: DDIM averages the teacher's own.)
    """
    off = x0 - wanted
    if clip is not None:
        off = torch.where((wanted.abs() > clip * AT_END) & (x0 * wanted.sign() > clip), 0.0, off)
    loss = (off.square() + huber**2).sqrt() - huber if huber else off.square()
    return loss.flatten(1).mean(1)


class StudentTask:
    """Trains ``network`` on trajectories; see :class:`latentdiff.train.task.Task`."""

    kind = "student"
    betas = (0.9, 0.999)
    default_steps = 3000

    def __init__(
        self, options: TrainStudent, data: TrajectoryData, network: nn.Module, device: torch.device
    ) -> None:
        self.options, self.network, self.device, self.data = options, network, device, data
        if isinstance(text := getattr(network, "text", None), TextEncoder):
            text.requires_grad_(False)  # texts are encoded by the teacher
        self.teacher = data.teacher
        self.size, self.batch = len(data.train), options.batch or denoiser_config(network).batch
        self.peak_lr = options.lr or 1e-3
        levels, schedule = data.train.levels, self.teacher.schedule
        self.process = self.teacher.diffusion.model_copy(
            update={"prediction": student_prediction(self.teacher)}
        )
        self.quick = self._quick_evaluation()
        self._times = torch.tensor([timestep(t) for t in levels[:-1]], dtype=torch.float32)
        known = [schedule.at(t) for t in levels]
        usual = HUBER if isinstance(self.teacher.codec, IdentityCodec) else 0.0
        self._huber: float = usual if options.huber is None else options.huber
        self._perceptual = perceptual_term(self.teacher, self._perceptual_weight(), device)
        self._targets = step_targets(data.train, known)
        self._val_targets = step_targets(data.val, known)
        self._to_x0 = torch.tensor(
            [to_x0(self.process.prediction, *at, sigma_data=self.process.sigma_data) for at in known[:-1]]
        ).float()

    def _perceptual_weight(self) -> float:
        """The weight of the options; by default one for a model of the pixels of digits."""
        if self.options.perceptual is not None:
            return self.options.perceptual
        teacher = self.teacher
        if not isinstance(teacher.codec, IdentityCodec):
            return 0.0
        ends = Split(to_uint8(self.data.val.states[:, -1]), self.data.val.labels)
        return PERCEPTUAL if are_digits(ends, teacher.codec.image_shape, teacher.classes or None) else 0.0

    @property
    def perceptual_fingerprint(self) -> str | None:
        """The network of the perceptual term; None without one."""
        return None if self._perceptual is None else self._perceptual.network.name

    def _quick_evaluation(self) -> QuickEvaluation | None:
        """The quick evaluation of the options: against what the teacher draws from the second half of the
        noise for validation. The student's samples are of the first half.
        """
        options, val = self.options, self.data.val
        half = len(val) // 2
        n = min(options.quick_samples, half)
        if n < 2:
            return None
        drawn = Split(to_uint8(self._decoded(val.states[half:, -1])))
        data = Dataset(f"samples of {self.data.name}", drawn, drawn, drawn, self.teacher.classes or None)
        return QuickEvaluation(data, n, self.device, share=options.quick_share, by_class=False)

    def _decoded(self, latents: Tensor) -> Tensor:
        """The images [n, C, H, W] of latents, on the CPU."""
        with torch.no_grad():
            parts = [self.teacher.decode(part.to(self.device)).cpu() for part in latents.split(CHUNK)]
        return torch.cat(parts)

    def prefetch(self, positions: Tensor, indices: Tensor) -> None: ...

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The error of x_0 over one segment of each trajectory; segments follow one another."""
        segments = positions % (len(self.data.train.levels) - 1)
        with autocast(self.options, self.device):
            error = self._errors(self.network, self.data.train, self._targets, indices, segments)
        return error.mean(), {}

    def _errors(
        self, network: nn.Module, source: Trajectories, targets: Tensor, indices: Tensor, segments: Tensor
    ) -> Tensor:
        """The error of x_0 of each, with the perceptual term, [B]."""
        x, wanted = source.states[indices, segments], targets[indices, segments]
        known = None if source.conditioning is None else source.conditioning[indices].to(self.device)
        x, wanted, w = (each.to(self.device) for each in (x, wanted, source.scales[indices]))
        times = self._times[segments].to(self.device)
        p, q = self._to_x0[segments].to(self.device).view(-1, 2, *[1] * (x.ndim - 1)).unbind(1)
        x0 = p * x + q * network(x, times, known, guidance=w).float()
        error = x0_error(x0, wanted, clip=self.process.clip, huber=self._huber)
        if self._perceptual is not None:
            seen = perceptual_loss(self._perceptual.network, x0.clamp(-1, 1), wanted.clamp(-1, 1))
            error = error + self._perceptual.weight * seen
        return error

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """val_loss: the loss on other trajectories; val_end: the root mean square at their ends, of the
        student's samples against the teacher's from the same noise.
        """
        val, calls, total = self.data.val, len(self.data.val.levels) - 1, 0.0
        for first in range(0, len(val), CHUNK):
            indices = torch.arange(first, min(first + CHUNK, len(val)))
            for k in range(calls):
                segments = torch.full_like(indices, k)
                found = self._errors(network, val, self._val_targets, indices, segments)
                total += float(found.double().sum())
        off = self._ends(network, val) - val.states[:, -1]
        return {"val_loss": total / (len(val) * calls), "val_end": float(off.double().square().mean().sqrt())}

    @torch.no_grad()
    def _ends(self, network: nn.Module, source: Trajectories) -> Tensor:
        """Where the student leads from the noise of trajectories, [n, *shape] on the CPU."""
        known, clip = [self.teacher.schedule.at(t) for t in source.levels], self.process.clip
        found = []
        for first in range(0, len(source), CHUNK):
            part = source.rows(slice(first, first + CHUNK))
            x, w = part.states[:, 0].to(self.device), part.scales.to(self.device)
            labels = None if part.conditioning is None else part.conditioning.to(self.device)
            for k, ((alpha, sigma), (alpha_next, sigma_next)) in enumerate(pairwise(known)):
                p, q = self._to_x0[k].tolist()
                times = self._times[k].expand(len(x)).to(self.device).clone()
                x0 = p * x + q * network(x, times, labels, guidance=w).float()
                x0 = x0 if clip is None else x0.clamp(-clip, clip)
                x = alpha_next * x0 + sigma_next / sigma * (x - alpha * x0)
            found.append(x.cpu())
        return torch.cat(found)

    def pipeline(self, network: nn.Module) -> Pipeline:
        """The student of a checkpoint."""
        low, high = self.data.scales
        return replace(
            self.teacher,
            network=network,
            diffusion=self.process,
            student=Student(
                calls=self.options.calls,
                start=self.data.train.levels[0],
                guidance_low=low,
                guidance_high=high,
                teacher=self.data.name,
            ),
            guidance=min(max(self.teacher.guidance, low), high),
            eta=0.0,
        )

    def save_samples(self, network: nn.Module, path: Path) -> GridSamples:
        """Pairs from the same noise: above what the teacher draws, below the student."""
        val = self.data.val

        def draw(first: int, n: int) -> Tensor:
            return self._decoded(self._ends(network, val.rows(slice(first, first + n))))

        begun = time.monotonic()
        students = draw(0, min(SHOWN, len(val)))
        seconds = time.monotonic() - begun
        save_image(pair_grid(self._decoded(val.states[: len(students), -1]), students), path)
        return GridSamples(to_uint8(students), seconds, lambda first, n: to_uint8(draw(first, n)))

    def final_metrics(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        return {}

    def save(self, writer: Writer, network: nn.Module) -> None:
        self.pipeline(network).write(writer)
