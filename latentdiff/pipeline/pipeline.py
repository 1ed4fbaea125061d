"""A trained model ready for use: network, process and codec behind a few methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentdiff.config.base import parse
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import SAMPLERS, Sampling
from latentdiff.data.classes import ClassBalance, balanced_labels
from latentdiff.diffusion.compile import CUDAGraphLoop, compiled_network
from latentdiff.diffusion.denoiser import Denoiser, Network, computing_in, denoiser, in_dtype
from latentdiff.diffusion.guidance import Condition
from latentdiff.diffusion.loop import sample, slerp, start
from latentdiff.diffusion.samplers import SamplerStep, make_sampler, with_defaults
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.diffusion.trajectory import SILENT, ProgressCallback, Recorder, SampleResult, record
from latentdiff.errors import InputError, counted
from latentdiff.nn import text_of
from latentdiff.nn.external import images_at_once
from latentdiff.ops.random import Key
from latentdiff.parallel.device import resolve_device
from latentdiff.pipeline.batching import batch_that_fits, even_size, map_images
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint, Writer, writing
from latentdiff.pipeline.checkpoint.index import class_counts, class_names, eta, guidance
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import Codec, IdentityCodec, VAECodec
from latentdiff.pipeline.components import (
    denoiser_config,
    index_of,
    load_codec,
    load_denoiser,
    load_diffusion,
    save_diffusion,
    save_network,
    save_vae,
)
from latentdiff.pipeline.conditioner import Conditioner, Labels
from latentdiff.pipeline.student import Student, student_of
from latentdiff.pipeline.text.encoder import load_text_tokenizer, save_text_tokenizer
from latentdiff.pipeline.text.tokenizer import TextTokenizer

CPU = torch.device("cpu")
LOOPS = 4  # captured ones that a pipeline keeps
BACKWARD = 4  # memory of a pass with gradients over that of one without
AUTOENCODED = 250  # images that the codec sees at once


class MicroBatch(NamedTuple):
    """Images drawn at once: their ``rows`` in the whole, condition or None, noise key and recorder."""

    rows: slice
    labels: Tensor | None
    key: Key
    recorder: Recorder


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A denoiser, its process and codec; ``classes``: its labels' names, ``tokenizer``: of a text model."""

    network: nn.Module
    diffusion: DiffusionConfig
    codec: Codec
    classes: tuple[str, ...] = ()
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    data: str = ""  # name of the data it was trained on
    class_counts: tuple[int, ...] = ()  # images of each class there, () if unknown
    tokenizer: TextTokenizer | None = None
    guidance: float = 1.0  # of samples with a condition, where none is given
    eta: float = 0.0  # of samples by ddim, where none is given; edits have none
    student: Student | None = None  # of few calls

    @cached_property
    def conditioner(self) -> Conditioner:
        """From class names or prompts to the tensor that conditions the network."""
        return Conditioner(self.network, self.classes, self.tokenizer, self.device)

    @cached_property
    def schedule(self) -> Schedule:
        return make_schedule(self.diffusion.schedule)

    def key(self, seed: int, n: int) -> Key:
        """The noise key of n images on the device, image k from seed + k. InputError for n below 1."""
        if n < 1:
            raise InputError(f"expected a number of images of 1 or more, got {n}")
        return Key.of(seed, n, device=self.device)

    def sample(
        self,
        n: int = 16,
        settings: Sampling | None = None,
        *,
        label: Labels = None,
        seed: int = 0,
        batch: int | None = None,
        progress: ProgressCallback | None = None,
        **overrides: Any,
    ) -> Tensor:
        """``n`` images, float32 [n, C, H, W] in [-1, 1] on the CPU.

        ``overrides`` are fields of :class:`~latentdiff.config.sampling.Sampling`, alone or on top of
        ``settings``: sampler, steps, spacing, eta and guidance (default: the model's own), variance,
        guidance_low, guidance_high, guidance_rescale, negative_prompt, compile. Image k comes from seed + k
        alone, whatever the batch it is in. ``label``: a class by index or name, or a prompt of a
        text-conditional model, or one for each image; None draws without a condition. InputError for settings
        that the model cannot follow. ``compile`` takes seconds to minutes once for a batch size, then draws
        faster: the same images to 1e-4.
        """
        chosen, recorder = _with_overrides(settings, overrides), Recorder(progress=progress)
        return self.run(chosen, self.key(seed, n), label=label, batch=batch, recorder=recorder).images

    def run(
        self,
        settings: Sampling,
        key: Key,
        x: Tensor | None = None,
        *,
        label: Labels = None,
        batch: int | None = None,
        recorder: Recorder = SILENT,
    ) -> SampleResult:
        """Images of the seeds in ``key``, with the frames and images that the ``recorder`` keeps.

        They start from noise ``x`` [n, *latent_shape] (default: that of their seeds), in micro-batches of
        ``batch``, or as many as memory holds. A captured CUDA graph records nothing: a micro-batch
        whose frames are recorded is drawn without it.
        """
        n, settings = len(key), self.with_defaults(settings, guidance=None if label is not None else 1.0)
        x = start(key, self.codec.latent_shape) if x is None else x
        if settings.compile:  # one graph serves all micro-batches: the last is filled up to their size
            batch = even_size(n, self._fits if batch is None else batch)
            each, extra = self.conditioner.resolve(label, n), -n % batch
            label = None if each is None else [*each, *each[-1:] * extra]
            filled = torch.arange(n + extra, device=self.device).clamp(max=n - 1)
            x, key = x[filled], key[filled]
            recorder = replace(recorder, images=n if recorder.images is None else min(n, recorder.images))
        starts, (step, levels) = x, self.plan(settings)
        network = self._compiled if settings.compile and not self._captures else self.network

        def draw(part: MicroBatch) -> SampleResult:
            x, labels, recorder = starts[part.rows], part.labels, part.recorder
            if settings.compile and self._captures and not recorder.frames:
                loop = self._loops(settings, len(x), x.dtype, labels is not None)
                latents = loop(x, Key(part.key.seeds), labels=labels)
                if recorder.progress is not None:
                    recorder.progress(len(levels) - 1, len(levels) - 1)
                return SampleResult(self.decode(latents))
            denoise = self.denoiser(labels, settings, network=network)
            with computing_in(self.dtype, self.device):  # around all calls: weights are cast once
                return self.draw(denoise, x, levels, step, part.key, recorder)

        made = self.map_images(
            key, draw, label=label, batch=batch, recorder=recorder, parallel=not settings.compile
        )
        return SampleResult(made.images[:n], made.frames)

    def map_images(
        self,
        key: Key,
        make: Callable[[MicroBatch], SampleResult],
        *,
        label: Labels = None,
        batch: int | None = None,
        recorder: Recorder = SILENT,
        gradients: bool = False,
        each: int = 1,
        parallel: bool = True,
    ) -> SampleResult:
        """Draw an image for each seed of ``key`` by ``make``, in micro-batches of ``batch``, or as many as
        memory holds (fewer with ``gradients``).

        An image is ``each`` samples of the network. Several workers share a batch unless ``parallel`` is
        False.
        """
        labels = self.conditioner.encode(label, len(key))
        if batch is None:
            fits = batch_that_fits(self.network, self.device)
            batch = max(1, fits // (each * (BACKWARD if gradients else 1)))

        def part(rows: slice, recorder: Recorder) -> SampleResult:
            return make(MicroBatch(rows, None if labels is None else labels[rows], key[rows], recorder))

        return map_images(
            len(key), batch, part, device=self.device, recorder=recorder, each=each, parallel=parallel
        )

    def draw(
        self,
        denoise: Denoiser,
        x: Tensor,
        levels: Sequence[int],
        step: SamplerStep,
        key: Key,
        recorder: Recorder = SILENT,
        *,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> SampleResult:
        """Run the loop from ``x`` [n, *latent_shape] at levels[0]; ``decode`` its end (or the codec)."""
        states = sample(denoise, x, levels, step, key)
        return record(states, x, levels, decode=decode or self.decode, recorder=recorder)

    @cached_property
    def _captures(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def _compiled(self) -> Network:
        if self.device.type != "cpu":
            raise InputError(f"compiling is for cpu and cuda devices, got {self.device}")
        return compiled_network(self.network)

    @cached_property
    def _loops(self) -> Callable[[Sampling, int, torch.dtype, bool], CUDAGraphLoop]:
        return lru_cache(LOOPS)(self._captured)

    def _captured(self, settings: Sampling, n: int, dtype: torch.dtype, labeled: bool) -> CUDAGraphLoop:
        key = self.key(0, n)
        labels = self.conditioner.encode("" if self.tokenizer else 0, n) if labeled else None
        step, levels = self.plan(settings)
        x = start(key, self.codec.latent_shape, dtype=dtype)
        return CUDAGraphLoop(self.denoiser(labels, settings), levels, step, x, key, labels=labels)

    @cached_property
    def _fits(self) -> int:
        # once: later its own graphs hold memory, and other batches would be captured anew
        return batch_that_fits(self.network, self.device)

    def interpolate(
        self,
        settings: Sampling,
        seeds: tuple[int, int],
        *,
        count: int = 9,
        label: Labels = None,
        batch: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """``count`` images on the way from the first seed's sample to the second's: slerp between their
        starting noises.

        The model's own eta is not taken; a sampler that draws noise on the way draws the first seed's for all
        of them.
        """
        settings = settings if settings.eta is not None else settings.model_copy(update={"eta": 0.0})
        ends = [start(self.key(seed, 1), self.codec.latent_shape) for seed in seeds]
        x = torch.cat([slerp(ends[0], ends[1], i / max(1, count - 1)) for i in range(count)])
        key, recorder = self.key(seeds[0], 1).repeat(count), Recorder(progress=progress)
        return self.run(settings, key, x, label=label, batch=batch, recorder=recorder).images

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] in [-1, 1] through the codec and back."""
        return self.decode(self.encode(images))

    @property
    def _autoencoded(self) -> int:
        codec = self.codec
        return images_at_once(codec.vae, AUTOENCODED) if isinstance(codec, VAECodec) else AUTOENCODED

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents [n, *latent_shape] of images [n, C, H, W] in [-1, 1]; InputError for other images."""
        wanted = self.codec.image_shape
        if images.ndim != 4 or tuple(images.shape[1:]) != tuple(wanted):
            raise InputError(f"expected images {['n', *wanted]}, got {list(images.shape)}")
        if not bool(torch.isfinite(images).all()) or float(images.abs().max()) > 1 + 1e-6:
            found = f"{float(images.min()):g} to {float(images.max()):g}"
            raise InputError(f"expected images with values in [-1, 1], got {found}")
        parts = images.float().split(self._autoencoded)
        return torch.cat([self.codec.encode(part.to(self.device)) for part in parts])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents as images, float32 on the CPU, in [-1, 1]; by a decoder in bfloat16 where the network is.

        float16 would overflow in some decoders, which stay float32.
        """
        parts = latents.split(self._autoencoded)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return torch.cat([self.codec.decode(part).float().clamp(-1, 1).cpu() for part in parts])

    def denoiser(
        self,
        labels: Tensor | None = None,
        settings: Sampling | None = None,
        *,
        network: Network | None = None,
        **overrides: Any,
    ) -> Denoiser:
        """The Denoiser of this model with the guidance of ``settings``, to use in a loop of one's own.

        ``labels`` come from ``conditioner.encode`` (None: unconditional); ``overrides`` as for
        :meth:`sample`, guidance 1 where none is given. ``network`` stands in for the model's own, e.g.
        compiled. InputError for a guidance other than 0 or 1 without labels.
        """
        chosen = _with_overrides(settings, overrides)
        guidance = 1.0 if chosen.guidance is None else chosen.guidance
        self.conditioner.validate(labels, guidance)
        null, condition = self.conditioner.null(chosen.negative_prompt), None
        called = in_dtype(network or self.network, self.device, self.dtype)
        if self.student is not None:
            called, guidance = self.student.guided(called, guidance), float(guidance != 0)
        if labels is not None:
            interval = chosen.guidance_low, chosen.guidance_high
            condition = Condition(labels, null, guidance, *interval, chosen.guidance_rescale)
        elif isinstance(null, Tensor):  # a text-conditional network always takes an encoded text
            condition = Condition(null, null)
        return denoiser(
            called,
            self.schedule,
            prediction=self.diffusion.prediction,
            sigma_data=self.diffusion.sigma_data,
            condition=condition,
            clip=self.diffusion.clip,
            learned_variance=self.diffusion.variance == "learned",
        )

    def with_defaults(
        self, settings: Sampling, *, guidance: float | None = None, eta: float | None = None
    ) -> Sampling:
        """The settings with the defaults of this model filled in; ``guidance``, ``eta``: in place of the
        model's.
        """
        if self.student is not None:
            settings = self.student.settled(settings)
        found = with_defaults(settings, self.diffusion, self.schedule)
        update: dict[str, float] = {}
        if found.guidance is None:
            own = self.guidance if self.classes or self.tokenizer else 1.0
            update["guidance"] = own if guidance is None else guidance
        if found.eta is None and "eta" in SAMPLERS[found.sampler].settings:
            update["eta"] = self.eta if eta is None else eta
        return found.model_copy(update=update)

    def plan(self, settings: Sampling) -> tuple[SamplerStep, list[int]]:
        """The step and the levels of a sampler; InputError where the model cannot follow."""
        if self.student is None:
            return make_sampler(settings, self.diffusion, self.schedule)
        settings = self.student.settled(settings)
        step, levels = make_sampler(settings, self.diffusion, self.schedule)
        if self.student.start is not None:
            levels = self.schedule.levels(self.student.calls, settings.spacing, top=self.student.start)
        return step, levels

    def check_levels(self) -> None:
        """InputError for a student, which has learned too few noise levels to edit images."""
        if self.student is not None:
            raise InputError(
                f"this model is a student that draws in {counted(self.student.calls, 'call')} and knows no"
                " other noise levels, expected its teacher"
            )

    def class_labels(self, n: int, balance: ClassBalance = "equal") -> Tensor | None:
        """Labels int64 [n] on the CPU: all classes in turn, or as often as in the training data; None if
        unconditional.

        Label i does not depend on n. InputError for the balance of data whose class counts this model does
        not record.
        """
        return balanced_labels(n, len(self.classes), self.class_counts, balance) if self.classes else None

    def to(self, device: torch.device, *, dtype: torch.dtype | None = None) -> Pipeline:
        """This model on another device (its weights move, as in Module.to) or computing in another dtype.

        On a CPU the weights of convolutions become channels-last for bfloat16, in which they are faster.
        """
        network, dtype = self.network.to(device), dtype or self.dtype
        if device.type == "cpu" and dtype == torch.bfloat16:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return replace(self, network=network, codec=self.codec.to(device), device=device, dtype=dtype)

    def with_vae(self, path: str | Path) -> Pipeline:
        """This model with the VAE of another run, of the same latents: its decoder was trained further.

        InputError unless the encoder and the normalisation of its latents are the same, to the bit.
        """
        checkpoint = locate(Path(path))
        codec = load_codec(checkpoint, checkpoint.json(INDEX), image=self.codec.image_shape)
        mine = self.codec
        if not (isinstance(mine, VAECodec) and isinstance(codec, VAECodec) and codec.same_latents(mine)):
            raise InputError(
                f"{checkpoint.folder}: expected a VAE with the encoder of this model's, to which `latentdiff"
                " train-vae --train decoder` keeps, found other latents"
            )
        return replace(self, codec=codec.to(self.device))

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the model as a checkpoint folder that :func:`load` reads; saving what was loaded gives the
        same bytes.

        ``half``: weights as float16. An existing checkpoint is replaced; InputError for a folder that holds
        anything else.
        """
        with writing(Path(folder), half=half) as writer:
            self.write(writer)

    def write(self, writer: Writer) -> None:
        """Write the components and the model index of this model."""
        codec, about = self.codec, {"classes": list(self.classes), "data": self.data}
        if isinstance(codec, VAECodec):
            save_vae(writer, codec.vae, codec.statistics)
        save_network(writer, "denoiser", self.network)
        if self.tokenizer is not None:
            save_text_tokenizer(writer, self.tokenizer)
        save_diffusion(writer, self.diffusion)
        index = index_of(codec.vae if isinstance(codec, VAECodec) else None, self.network)
        index |= {**about, "image": list(codec.image_shape)}
        if self.class_counts:
            index["class_counts"] = list(self.class_counts)
        if self.guidance != 1:
            index["guidance"] = self.guidance
        if self.eta:
            index["eta"] = self.eta
        if self.student is not None:
            index["student"] = self.student.model_dump()
        if isinstance(codec, IdentityCodec) and codec.scale != 1:
            index["pixel_scale"] = codec.scale
        if isinstance(codec, IdentityCodec) and codec.shift:
            index["pixel_shift"] = codec.shift
        writer.json(INDEX, index)


def _with_overrides(settings: Sampling | None, overrides: dict[str, Any]) -> Sampling:
    """The settings with some fields replaced; InputError for values that do not fit."""
    chosen = settings or Sampling()
    return parse(Sampling, {**dict(chosen), **overrides}) if overrides else chosen


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Pipeline:
    """The trained model in a run or checkpoint folder; InputError says what is missing or damaged."""
    return from_checkpoint(locate(Path(path))).to(resolve_device(str(device)))


def from_checkpoint(checkpoint: Checkpoint) -> Pipeline:
    """The model of an opened checkpoint, on the CPU; InputError says what is missing or does not fit."""
    index, folder = checkpoint.json(INDEX), checkpoint.folder
    if "restorer" in index:
        raise InputError(f"{folder}: is a cold diffusion model; `latentdiff sample-cold` works with it")
    if "denoiser" not in index:
        raise InputError(
            f"{folder}: holds a VAE but no denoiser; `latentdiff train-denoiser` trains one on it"
        )
    network = load_denoiser(checkpoint, index)
    diffusion, codec = load_diffusion(checkpoint, index), load_codec(checkpoint, index)
    config = denoiser_config(network)
    if config.shape != codec.latent_shape:
        found = f"the denoiser works on {list(config.shape)}, the codec gives {list(codec.latent_shape)}"
        raise InputError(f"{folder}: {found}; expected one shape")
    classes = class_names(checkpoint, index, config.num_classes)
    student = student_of(checkpoint, index)
    if (student is not None) != bool(getattr(config, "guided", False)):
        raise InputError(
            f"{folder}: expected a network that takes the guidance for a student, and for no other model"
        )
    noise = eta(checkpoint, index)
    if student is not None and noise:
        raise InputError(f"{folder}: expected eta 0 of a student, which draws without noise, found {noise:g}")
    if (
        student is not None
        and not student.calls <= (student.start or diffusion.schedule.T) <= diffusion.schedule.T
    ):
        raise InputError(
            f"{folder}: expected a student that starts at a level from {student.calls} to"
            f" {diffusion.schedule.T}, found {student.start or diffusion.schedule.T}"
        )
    return Pipeline(
        network,
        diffusion,
        codec,
        classes,
        data=str(index.get("data", "")),
        class_counts=class_counts(checkpoint, index, len(classes)),
        tokenizer=load_text_tokenizer(checkpoint, text_of(config)),
        guidance=guidance(checkpoint, index),
        eta=noise,
        student=student,
    )
