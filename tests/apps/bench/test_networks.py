"""The share of the matrix-product peak that the networks of the package reach."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentdiff.apps.bench import networks
from latentdiff.parallel.device import bf16_native
from latentdiff.pipeline.pipeline import load

CPU = torch.device("cpu")


def test_the_share_of_the_peak_is_the_operations_of_a_call_over_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "SLICE_SECONDS", 0.001)
    rows = networks.measure_networks(CPU, rounds=1, batches={"digits": 16}, side=64)
    native = [torch.bfloat16] if bf16_native(CPU) else []
    assert [row.dtype for row in rows] == [torch.float32, *native]
    for row in rows:
        config = load("digits").network.config
        width, size = config.width, math.prod(config.shape)
        trunk = 2 * 16 * (2 * size * width + config.depth * 2 * config.expand * width**2)
        assert trunk < row.operations < 4 * trunk  # beside it the embeddings, once for each class
        assert row.share == pytest.approx(row.operations / row.timing.median / row.peak)
        assert row.as_dict()["images_per_s"] == pytest.approx(16 / row.timing.median)


def test_attention_counts_among_the_operations() -> None:
    """As the two matrix products that it is."""
    q, k, v = (torch.ones(2, 4, 16, 8) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    assert networks.operations(lambda: attend(q, k, v)) == 2 * (2 * 2 * 4 * 16 * 16 * 8)


def test_the_command_shows_networks_alone(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "SLICE_SECONDS", 0.001)
    monkeypatch.setattr(networks, "BATCHES", {"digits": 8, "scenes": 2})
    found = json.loads(cli("bench --network digits --json", cwd=tmp_path).out)
    assert {row["model"] for row in found["rows"]} == {"digits"}
    table = cli("bench --network", cwd=tmp_path).out
    assert "of peak" in table and "digits" in table and "scenes" in table
    for line, message in (
        ("bench --network --seconds 3", "--seconds is for the operations"),
        ("bench --network letters", "expected models of digits, scenes, got 'letters'"),
    ):
        refused = cli(line, cwd=tmp_path)
        assert refused.code == 2 and message in refused.err
