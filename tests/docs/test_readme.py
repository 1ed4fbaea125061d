"""The Python snippets of the README and of the page of the kernels run as they are, and all commands of the
pages are usage.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from latentdiff.data import synthetic_scene_images, things
from latentdiff.pipeline.checkpoint import pretrained

CONFIGS = ROOT / "configs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README + PAGES["kernels.md"], flags=re.MULTILINE | re.DOTALL)


def test_the_first_snippet_draws_a_picture(
    tiny_denoiser_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        SNIPPETS[0]
        .replace("runs/NAME", str(tiny_denoiser_run))
        .replace("label=7", "label=2")
        .replace("steps=50", "steps=5")
    )
    exec(compile(code, "README", "exec"), {})
    assert (tmp_path / "sevens.png").read_bytes().startswith(b"\x89PNG")


def test_the_second_snippet_samples_its_gaussian() -> None:
    names: dict[str, object] = {}
    exec(compile(SNIPPETS[1], "README", "exec"), names)
    x = names["x"]
    assert abs(float(x.mean()) - 2.0) < 0.02 and abs(float(x.var()) - 0.24) < 0.01  # type: ignore[attr-defined]


def test_the_third_snippet_makes_a_step_a_noising_and_noise() -> None:
    g = torch.Generator().manual_seed(0)
    names: dict[str, torch.Tensor] = {
        name: torch.randn(2, 4, 64, 64, generator=g) for name in ("x", "cond", "uncond", "x0")
    }
    names |= {
        "coef": torch.tensor([[0.9, 0.1, 0.2, 1.0, 0.3, -0.2]]),
        "seeds": torch.arange(2),
        "stream": torch.tensor(1),
    }
    names["noising"] = names["coef"][:, :4]
    exec(compile(SNIPPETS[2], "README", "exec"), names)
    x_s, z = names["x_s"], names["z"]
    expected = 0.9 * names["x"] + 0.2 * z
    x0 = (names["x"] + 0.3 * names["cond"] - 0.2 * names["uncond"]).clamp(-1, 1)
    torch.testing.assert_close(x_s, expected + 0.1 * x0)


HOW_TO = ("install", "training", "sampling", "recipes", "index", "evaluation", "editing", "text", "studies")
COMMANDS = sorted(
    {
        line.strip()
        for text in (README, *(PAGES[f"{name}.md"] for name in HOW_TO))
        for line in re.findall(r"^latentdiff (?!COMMAND)([^#\n]*)", text, flags=re.MULTILINE)
        if "RUN" not in line
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_the_pages_are_usage_that_the_command_line_accepts(
    cli: Callable, tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder they find no run and no photos (exit code 1), but nothing is wrong with how they are
    written (2).
    """
    nowhere = (
        " --data photos"
        if "--config" in line or (line.startswith("reproduce") and "--list" not in line)
        else ""
    )
    dry = " --dry-run" if line.startswith("train") else ""
    line = line.strip().replace("configs/", f"{CONFIGS}/")
    monkeypatch.setattr(synthetic_scene_images, "COUNTS", (64, 16, 16))
    monkeypatch.setattr(things, "COUNTS", (64, 16, 16))
    monkeypatch.setattr(
        pretrained, "FOLDER", tmp_path / "none"
    )  # whose models would do all of it, for minutes
    (tmp_path / "prompts.txt").write_text("a red seven\n")
    code, _, err = cli(line + dry + nowhere, cwd=tmp_path)
    assert code in (0, 1), err
    assert code == 0 or re.search(
        r"no CUDA device|no (trained model|VAE run|runs|cold diffusion model) in runs|photo|samples\.npz|picture\.png|ours|a"
        r" vector latent has no places|(sd-vae-ft-mse|taesd|ddpm-celebahq-256|FOLDER|clothes(-text)?|colour|things): no such run",
        err,
    ), err


def test_the_pages_show_enough_commands_to_be_worth_testing() -> None:
    assert len(COMMANDS) >= 40
