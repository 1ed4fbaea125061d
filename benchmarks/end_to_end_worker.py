"""Draw images once in a process of its own and print the seconds; benchmarks.end_to_end starts it.

python benchmarks/end_to_end_worker.py '{"model": "digits", "n": 1000, ...}'

It imports the latentdiff of PYTHONPATH, which may be that of another commit, so it uses only what version 0.1
has, too. The model is loaded and has drawn a few images before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch import Tensor

import latentdiff as ld

WARM = 64  # images drawn before the clock starts
CHUNK = 500  # images that the loop of diffusers draws at once
SHOWN = 16  # images whose mean is printed, to compare loops


def conditions(pipeline: Any, n: int, text: str | None) -> list[Any] | None:
    """The text for all images, else all classes in turn, else None."""
    if text is not None:
        return [text] * n
    classes = len(pipeline.classes)
    return [k % classes for k in range(n)] if classes else None


def own(pipeline: Any, n: int, job: dict[str, Any]) -> Tensor:
    """Images by `Pipeline.sample`."""
    label = conditions(pipeline, n, job["text"])
    images: Tensor = pipeline.sample(n, steps=job["steps"], label=label, guidance=job["guidance"], eta=0.0)
    return images.cpu()


@torch.no_grad()
def diffusers_loop(pipeline: Any, n: int, job: dict[str, Any]) -> Tensor:
    """Images by the loop that users of diffusers write, with its DDIMScheduler and our network."""
    from diffusers import DDIMScheduler

    schedule = pipeline.schedule
    bar = schedule.alpha.double() ** 2
    scheduler = DDIMScheduler(
        trained_betas=(1 - bar[1:] / bar[:-1]).float().numpy(),
        prediction_type={"v": "v_prediction", "x0": "sample", "eps": "epsilon"}[
            pipeline.diffusion.prediction
        ],
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    given, w = conditions(pipeline, n, job["text"]), job["guidance"]
    null = pipeline.conditioner.null("")
    found = []
    for first in range(0, n, CHUNK):
        count = min(CHUNK, n - first)
        x = ld.start(ld.Key.of(first, count), pipeline.codec.latent_shape).to(pipeline.device)
        part = None if given is None else given[first : first + count]
        labels = None if part is None else pipeline.conditioner.encode(part, count).to(pipeline.device)
        if labels is not None and w != 1:
            nulls = null.expand_as(labels) if isinstance(null, Tensor) else torch.full_like(labels, null)
            labels = torch.cat([nulls, labels])
        scheduler.set_timesteps(job["steps"])
        for t in scheduler.timesteps:
            inputs = x if w == 1 else torch.cat([x, x])
            out = pipeline.network(inputs, t.expand(len(inputs)).float().to(x.device), labels)
            if w != 1:
                without, with_ = out.chunk(2)
                out = without + w * (with_ - without)
            x = scheduler.step(out, t, x, return_dict=False)[0]
        found.append(pipeline.decode(x).cpu())
    return torch.cat(found)


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    pipeline = ld.load(job["model"]).to(device)
    if job["dtype"] != "float32":
        pipeline = pipeline.to(device, dtype=getattr(torch, job["dtype"]))
    draw = diffusers_loop if job["loop"] == "diffusers" else own
    draw(pipeline, min(WARM, job["n"]), job)
    begun = time.perf_counter()
    images = draw(pipeline, job["n"], job)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "means": images[:SHOWN].flatten(1).mean(1).tolist()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
