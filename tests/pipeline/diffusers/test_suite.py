"""diffusers' own tests of its DDIM and DDPM schedulers, with ours in the place of theirs.

They are in no package of diffusers: LATENTDIFF_DIFFUSERS names a checkout of the release that is installed,
as made by ``git clone --depth 1 --branch v0.42.1 https://github.com/huggingface/diffusers``. Every test of
the two test classes runs, first with the stock class and then with ours. Left out is only what the stock
class does not pass here either: an optional library that is missing, a test that is newer than the release.
Nothing of these files needs the network; SchedulerBaseTests and SchedulerPushToHubTester, which stand beside
them, test neither class.
"""

from __future__ import annotations

import importlib
import os
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

pytest.importorskip("diffusers")

from latentdiff import ops
from latentdiff.pipeline.diffusers import FusedDDIMScheduler, FusedDDPMScheduler

WHERE = "LATENTDIFF_DIFFUSERS"
LEAST = 25  # tests of a scheduler
MAY_FAIL = {
    "test_compatibles",
    "test_num_inference_steps_zero_raises",
}  # without torchsde; before diffusers 0.43


class Outcome(unittest.TestResult):
    """Names of tests, by how they ended."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: set[str] = set()

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.passed.add(test._testMethodName)

    @property
    def failed(self) -> dict[str, str]:
        """What did not pass, and the last line of why."""
        ended = [*self.failures, *self.errors, *self.skipped]
        return {test._testMethodName: text.strip().splitlines()[-1] for test, text in ended}  # type: ignore[attr-defined]


def suite(module: Any, stock: str, cls: type) -> Outcome:
    """The test class of a scheduler, for ``cls``."""
    case = getattr(module, f"{stock}Test")
    assert [each.__name__ for each in case.scheduler_classes] == [stock]
    tried: Any = type(case.__name__, (case,), {"scheduler_classes": (cls,)})
    outcome = Outcome()
    unittest.defaultTestLoader.loadTestsFromTestCase(tried).run(outcome)
    return outcome


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the tests of diffusers, importable as ``tests``."""
    named = os.environ.get(WHERE)
    if named is None:
        pytest.skip(f"${WHERE} names no checkout of diffusers; its tests are in no package of it")
    folder = Path(named)
    assert (folder / "tests/schedulers/test_schedulers.py").is_file(), f"{folder}: holds no tests/schedulers"
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "fused"), [("ddim", FusedDDIMScheduler), ("ddpm", FusedDDPMScheduler)])
def test_the_suite_of_diffusers_passes(
    name: str, fused: Any, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = importlib.import_module(f"tests.schedulers.test_scheduler_{name}")
    assert Path(module.__file__).is_relative_to(checkout)
    stock = fused.__mro__[2]
    reference = suite(module, stock.__name__, stock)
    assert len(reference.passed) >= LEAST and set(reference.failed) <= MAY_FAIL, reference.failed
    kernels, left = mock.Mock(side_effect=ops.step_x0), mock.Mock(side_effect=stock.step)
    monkeypatch.setattr(ops, "step_x0", kernels)
    monkeypatch.setattr(stock, "step", lambda *arguments, **named: left(*arguments, **named))
    found = suite(module, stock.__name__, fused)
    print(
        f"{name}: {len(found.passed)} passed, {kernels.call_count} steps by kernels, {left.call_count} left"
        " to the stock class"
    )
    print(f"{name}: left out {reference.failed}")
    assert {test: why for test, why in found.failed.items() if test in reference.passed} == {}
    assert found.passed >= reference.passed
    assert kernels.call_count > 50 and left.call_count < kernels.call_count / 10  # ours ran, not theirs
