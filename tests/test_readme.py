"""The Python snippets of the README run as they stand there, and its commands exist."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


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


def test_the_commands_of_the_readme_are_understood(cli: Callable) -> None:
    commands = re.findall(
        r"^latentdiff ((?:train|sample|reconstruct|plot|inspect|datasets|info)[^#\n]*)", README, flags=re.MULTILINE
    )
    assert len(commands) >= 10
    for command in commands:
        code, out, err = cli(command.strip() + " --help", cwd=Path.cwd())
        assert code == 0 and "Usage" in out, (command, err)
