"""A trained model ready for use: network, process and codec behind a few methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from latentdiff.config.base import parse
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import Sampling
from latentdiff.data.classes import ClassBalance, balanced_labels
from latentdiff.diffusion.compile import CUDAGraphLoop, compiled_network
from latentdiff.diffusion.denoiser import Condition, Denoiser, Network, denoiser, in_dtype
from latentdiff.diffusion.loop import sample, slerp, start
from latentdiff.diffusion.samplers import SamplerStep, make_sampler, with_defaults
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.diffusion.trajectory import Frame, ProgressCallback, record
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.parallel.device import resolve_device
from latentdiff.pipeline.batching import batch_that_fits, map_even_microbatches, map_microbatches
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer, writing
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import Codec
from latentdiff.pipeline.components import Model, load_model, save_model
from latentdiff.pipeline.conditioner import Conditioner, Labels
from latentdiff.pipeline.text.tokenizer import TextTokenizer

CPU = torch.device("cpu")
LOOPS = 4  # captured ones a pipeline keeps


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A denoiser, its process, its codec; ``classes`` are the names of its labels, with a ``tokenizer`` it
    listens to texts.
    """

    network: nn.Module
    diffusion: DiffusionConfig
    codec: Codec
    classes: tuple[str, ...] = ()
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    data: str = ""  # name of the data it was trained on
    class_counts: tuple[int, ...] = ()  # images of each class there, () if unknown
    tokenizer: TextTokenizer | None = None

    @property
    def asking(self) -> Conditioner:
        """From classes or texts to what the network is given."""
        return Conditioner(self.network, self.classes, self.tokenizer, self.device)

    @cached_property
    def schedule(self) -> Schedule:
        return make_schedule(self.diffusion.schedule)

    def sample(
        self,
        n: int = 16,
        *,
        sampler: str = "ddim",
        steps: int | None = None,
        label: Labels = None,
        negative_prompt: str = "",
        guidance: float = 1.0,
        guidance_low: float = 0.0,
        guidance_high: float = 1.0,
        guidance_rescale: float = 0.0,
        seed: int = 0,
        eta: float = 0.0,
        spacing: str = "trailing",
        variance: str | None = None,
        compile: bool = False,
        batch: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """``n`` images, float32 [n, C, H, W] in [-1, 1] on the CPU.

        Image k comes from seed + k alone, whatever the batch it is in. ``label``: a class by index or name,
        or a text for a model that listens to texts, or one for each image; None asks for nothing in
        particular. InputError for settings that the model cannot follow. ``compile`` takes seconds to minutes
        once for a batch size, then draws faster: the same images to 1e-4.
        """
        values = {"sampler": sampler, "steps": steps, "spacing": spacing, "eta": eta}
        values |= {"guidance": guidance, "guidance_low": guidance_low, "guidance_high": guidance_high}
        values |= {"guidance_rescale": guidance_rescale, "negative_prompt": negative_prompt}
        values |= {"variance": variance, "compile": compile}
        settings = parse(Sampling, values)
        if n < 1:
            raise InputError(f"expected a number of images of 1 or more, got {n}")
        key = Key.of(seed, n, device=self.device)
        return self.run(
            settings, key, start(key, self.codec.latent_shape), label=label, batch=batch, progress=progress
        )

    def run(
        self,
        settings: Sampling,
        key: Key,
        x: Tensor,
        *,
        label: Labels = None,
        batch: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Images from given starting noise ``x`` [n, *latent_shape]; in parts of ``batch``, or as many as
        memory holds.
        """
        n, labels = len(x), self.labels(label, len(x))
        moves = len(self.plan(settings)[1]) - 1

        def part(rows: slice | Tensor, tell: ProgressCallback | None) -> Tensor:
            done, mine = 0, (x[rows], key[rows], None if labels is None else labels[rows])
            for latents, made in self._moves(settings, *mine):  # noqa: B007  the last ones are decoded
                done += made
                if tell is not None:
                    tell(done, moves)
            return self.decode(latents)

        if settings.compile:  # one graph for all parts, which are of one size
            made = map_even_microbatches(
                n, self._fits if batch is None else batch, part, device=self.device, progress=progress
            )
        else:
            most = batch_that_fits(self.network, self.device) if batch is None else batch
            made = map_microbatches(n, most, part, device=self.device, progress=progress)
        return torch.cat(made)[:n]

    def _moves(
        self, settings: Sampling, x: Tensor, key: Key, labels: Tensor | None
    ) -> Iterator[tuple[Tensor, int]]:
        """The loop: (x after some moves, how many); a captured loop makes all of them at once."""
        step, levels = self.plan(settings)
        if settings.compile and self._captures:
            loop = self._loops(self.with_defaults(settings), len(x), x.dtype, labels is not None)
            yield loop(x, Key(key.seeds), labels=labels), len(levels) - 1
            return
        network = self._compiled if settings.compile else self.network
        denoise = self.guided(settings, labels, network=network)
        for state in sample(denoise, x, levels, step, key):
            yield state.x, 1

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
        key = Key.of(0, n, device=self.device)
        labels = self.labels("" if self.tokenizer else 0, n) if labeled else None
        denoise = self.guided(settings, labels)
        step, levels = self.plan(settings)
        return CUDAGraphLoop(
            denoise, levels, step, start(key, self.codec.latent_shape, dtype=dtype), key, labels=labels
        )

    @cached_property
    def _fits(self) -> int:
        # once: later its own graphs hold memory, and other batches would be captured anew
        return batch_that_fits(self.network, self.device)

    def trajectory(
        self,
        settings: Sampling,
        key: Key,
        *,
        label: Labels = None,
        frames: int = 10,
        progress: ProgressCallback | None = None,
    ) -> list[Frame]:
        """The reverse process at about ``frames`` evenly spaced moments from noise to image, all samples in
        one batch.
        """
        x = start(key, self.codec.latent_shape)
        step, levels = self.plan(settings)
        denoise = self.guided(settings, self.labels(label, len(x)))
        states = sample(denoise, x, levels, step, key)
        return record(states, x, levels, decode=self.decode, frames=frames, progress=progress)[1]

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

        A sampler that draws noise on the way draws the first seed's for all of them.
        """
        ends = [start(Key.of(seed, 1, device=self.device), self.codec.latent_shape) for seed in seeds]
        x = torch.cat([slerp(ends[0], ends[1], i / max(1, count - 1)) for i in range(count)])
        key = Key.of(seeds[0], 1, device=self.device)
        return self.run(
            settings,
            Key(key.seeds.expand(count).contiguous()),
            x,
            label=label,
            batch=batch,
            progress=progress,
        )

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] in [-1, 1] through the codec and back."""
        return torch.cat([self.decode(self.codec.encode(part.to(self.device))) for part in images.split(250)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents as images, float32 on the CPU, in [-1, 1]."""
        return torch.cat([self.codec.decode(part).float().clamp(-1, 1).cpu() for part in latents.split(250)])

    def denoiser(
        self,
        labels: Tensor | None = None,
        *,
        guidance: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        rescale: float = 0.0,
        negative: str = "",
        network: Network | None = None,
    ) -> Denoiser:
        """The Denoiser of this model for what :meth:`labels` gives (None: nothing), to use in a loop of one's
        own.

        Guidance acts where t / T lies in ``interval``; ``rescale`` in [0, 1] keeps it from overexposing (Lin
        et al. 2024); it leads away from the text ``negative``. ``network`` stands in for the model's own,
        e.g. compiled. InputError for a guidance other than 0 or 1 without labels: it has nothing to
        exaggerate.
        """
        self.asking.check(labels, guidance)
        low, high = interval
        null = self.asking.null(negative)
        condition = None if labels is None else Condition(labels, null, guidance, low, high, rescale)
        if labels is None and isinstance(null, Tensor):  # a network that listens is always told something
            condition = Condition(null, null)
        return denoiser(
            in_dtype(network or self.network, self.device, self.dtype),
            self.schedule,
            prediction=self.diffusion.prediction,
            sigma_data=self.diffusion.sigma_data,
            condition=condition,
            clip=self.diffusion.clip,
            learned_variance=self.diffusion.variance == "learned",
        )

    def guided(
        self, settings: Sampling, labels: Tensor | None, *, network: Network | None = None
    ) -> Denoiser:
        """The Denoiser for what :meth:`labels` gives (None: nothing) with the guidance of ``settings``."""
        return self.denoiser(
            labels,
            guidance=settings.guidance,
            interval=settings.interval,
            rescale=settings.guidance_rescale,
            negative=settings.negative_prompt,
            network=network,
        )

    def with_defaults(self, settings: Sampling) -> Sampling:
        """The settings with the defaults of this model filled in."""
        return with_defaults(settings, self.diffusion, self.schedule)

    def plan(self, settings: Sampling) -> tuple[SamplerStep, list[int]]:
        """The step and the levels of a sampler; InputError where the model cannot follow."""
        return make_sampler(settings, self.diffusion, self.schedule)

    def labels(self, label: Labels, n: int) -> Tensor | None:
        """What the network is given for a label or one for each image: class indices int64 [n], or encoded
        texts [n, L, D].

        InputError names the known classes.
        """
        return self.asking.tensor(label, n)

    def class_labels(self, n: int, balance: ClassBalance = "equal") -> Tensor | None:
        """Labels int64 [n] on the CPU: all classes in turn, or as often as in the training data; None if
        unconditional.

        Label i does not depend on n. InputError for the balance of data whose class counts this model does
        not record.
        """
        return balanced_labels(n, len(self.classes), self.class_counts, balance) if self.classes else None

    def to(self, device: torch.device, *, dtype: torch.dtype | None = None) -> Pipeline:
        """This model on another device (its weights move, as Module.to does), or computing in another dtype
        (autocast).
        """
        return replace(
            self,
            network=self.network.to(device),
            codec=self.codec.to(device),
            device=device,
            dtype=dtype or self.dtype,
        )

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the model as a checkpoint folder that :func:`load` reads; saving what was loaded gives the
        same bytes.

        ``half``: weights as float16. An existing checkpoint is replaced; InputError for a folder that holds
        anything else.
        """
        with writing(Path(folder), half=half) as writer:
            self.write(writer)

    def write(self, writer: Writer) -> None:
        """The components and the model index of this model."""
        model = Model(
            self.network,
            self.diffusion,
            self.codec,
            self.classes,
            self.data,
            self.class_counts,
            self.tokenizer,
        )
        save_model(writer, model)


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Pipeline:
    """The trained model in a run or checkpoint folder; InputError says what is missing or damaged."""
    return from_checkpoint(locate(Path(path))).to(resolve_device(str(device)))


def from_checkpoint(checkpoint: Checkpoint) -> Pipeline:
    """The model of an opened checkpoint, on the CPU."""
    network, diffusion, codec, classes, data, counts, tokenizer = load_model(checkpoint)
    return Pipeline(network, diffusion, codec, classes, data=data, class_counts=counts, tokenizer=tokenizer)
