"""The example scripts run, and each of them checks what it shows."""

import runpy
from pathlib import Path

import pytest
import torch
from helpers import ROOT

FOLDER = ROOT / "docs" / "examples"
TUTORIAL = {"own_images.py", "transcript.py"}  # tests/docs/test_site.py runs these
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.name not in TUTORIAL)
LONG = 45  # lines of a file that is to be read in one go


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_runs_and_its_check_holds(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # the weights of an example's own network
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_is_short_has_a_check_and_stands_on_the_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONG
    assert "\nassert " in text or "\ntorch.testing." in text
    assert f"<!-- code: examples/{path.name} -->" in (FOLDER.parent / "examples.md").read_text(
        encoding="utf-8"
    )
