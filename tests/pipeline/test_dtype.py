"""Pipelines that compute in bfloat16 on a CPU: weights are cast once a drawing, and channels-last."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.trajectory import SILENT
from latentdiff.pipeline.pipeline import Pipeline, load

CPU = torch.device("cpu")


class CastsOf(TorchDispatchMode):
    """Counts the conversions of one tensor to bfloat16."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.place, self.count = weight.data_ptr(), 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default and args[0].data_ptr() == self.place:
            self.count += kwargs["dtype"] == torch.bfloat16
        return function(*args, **(kwargs or {}))


def in_bfloat16(run: Path) -> Pipeline:
    return load(run).to(CPU, dtype=torch.bfloat16)


def test_weights_are_cast_once_a_drawing_whatever_its_steps(tiny_denoiser_run: Path) -> None:
    pipeline = in_bfloat16(tiny_denoiser_run)
    for steps in (2, 6):
        with CastsOf(pipeline.network.stem.weight) as casts:
            pipeline.sample(4, label="ant", steps=steps)
        assert casts.count == 1


@pytest.mark.parametrize("name", ["tiny_denoiser_run", "tiny_class_run"])
def test_a_drawing_is_the_loop_that_casts_them_at_every_step(
    name: str, request: pytest.FixtureRequest
) -> None:
    pipeline, settings = in_bfloat16(request.getfixturevalue(name)), Sampling(steps=5, guidance=2)
    key, (step, levels) = pipeline.key(3, 4), pipeline.plan(settings)
    labels = pipeline.conditioner.encode("bee", 4)
    x = key.normal(pipeline.codec.latent_shape)
    with torch.no_grad():
        made = pipeline.draw(pipeline.denoiser(labels, settings), x, levels, step, key, SILENT)
    assert torch.equal(made.images, pipeline.run(settings, key, x, label="bee").images)


def test_convolutions_are_channels_last_and_saved_as_they_were(tiny_class_run: Path, tmp_path: Path) -> None:
    plain, other = load(tiny_class_run), in_bfloat16(tiny_class_run)
    assert other.network.middle.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain.network.middle.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    for pipeline, folder in ((plain, "a"), (other, "b")):
        pipeline.save(tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert files and all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
