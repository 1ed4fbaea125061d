"""Which model a study takes: never one of the package that was trained on the study's test images."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latentdiff.apps.studies.kit import model, presets
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder


def context(name: str, run: Path | None = None) -> Any:
    """A study on the data of that name."""
    data = SimpleNamespace(name=name, shape=(1, 28, 28), classes=tuple("0123456789"))
    return SimpleNamespace(
        run=run, data=data, device=torch.device("cpu"), part=lambda name: nullcontext(), runs={}
    )


def test_mnist_tests_no_pixel_model_that_was_trained_on_its_test_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """mnist5k, on which digits-pixels was trained, is a part of MNIST's test set; digits never saw it."""

    def trained(*values: object, **more: object) -> None:
        raise ChildProcessError

    monkeypatch.setattr(presets, "train_pixels", trained)
    assert model.pixel_model(context("mnist5k"), None).network is not None
    for name in ("mnist", "tiny.npz"):
        with pytest.raises(ChildProcessError):
            model.pixel_model(context(name), None)
    for name in ("mnist5k", "mnist"):
        found = model.latent_model(context(name))
        assert found is not None and [each.student.calls for each in found[2]] == [1]
    assert model.latent_model(context("tiny.npz")) is None


def test_steps_are_not_varied_of_a_student() -> None:
    with pytest.raises(InputError, match="is a student that draws in 1 call "):
        model.latent_model(context("mnist5k", shipped_folder("digits-student")))
    given = model.latent_model(context("mnist5k", shipped_folder("digits")))
    assert given is not None and len(given[2]) == 1
