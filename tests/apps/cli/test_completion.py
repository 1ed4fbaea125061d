"""What the shell proposes at TAB: runs, models, data sets, studies, then files; at once, without torch."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def proposed(words: str, folder: Path) -> list[tuple[str, str]]:
    """The (kind, value) that bash is given for the last of the words."""
    typed = f"latentdiff {words}"
    known = {"_LATENTDIFF_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    known["COMP_CWORD"] = str(len(typed.split(" ")) - 1)
    code = (
        "import sys; sys.argv = ['latentdiff']\n"
        "from latentdiff.apps.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return [(kind, value) for kind, value in (line.split(",", 1) for line in done.stdout.splitlines())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, time in (("runs/old", 1), ("runs/new", 2), ("elsewhere/other", 3)):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").touch()
        os.utime(tmp_path / place, (time, time))
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "sample --run ",
            [
                "new",
                "old",
                "clothes",
                "clothes-student",
                "clothes-text",
                "colour",
                "digits",
                "digits-pixels",
                "digits-student",
                "scenes",
                "scenes-student",
                "things",
                "",
            ],
        ),
        ("sample --run o", ["old", "o"]),
        ("sample --runs elsewhere --run o", ["other", "o"]),
        ("sample --runs nowhere --run n", ["n"]),
        ("edit --run dig", ["digits", "digits-pixels", "digits-student", "dig"]),
        ("train --vae col", ["colour", "col"]),
        ("train-denoiser --vae ne", ["new", "ne"]),
        ("train-vae --data mnist", ["mnist5k", "mnist", "mnist"]),
        ("edit --input openm", ["openmoji", "openm"]),
        ("datasets openm", ["openmoji", "openm"]),
        ("inspect ne", ["new", "ne"]),
        ("reproduce ddim", ["ddim-steps"]),
        ("reproduce al", ["all"]),
    ],
)
def test_names_come_before_files(words: str, expected: list[str], folder: Path) -> None:
    found = proposed(words, folder)
    if not words.startswith("reproduce"):
        assert found[0] == ("file", expected.pop())  # bash forgets what comes before it
    assert [value for kind, value in found if kind == "plain"] == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"), [(["sample", "--run", "o"], ["old"]), (["reproduce", "ddim"], ["ddim-steps"])]
)
def test_bash_is_offered_the_names(words: list[str], expected: list[str], folder: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m latentdiff"
    wrapper = folder / "latentdiff"
    wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    wrapper.chmod(0o755)
    typed = " ".join(map(shlex.quote, ["latentdiff", *words]))
    script = (
        "source <(env _LATENTDIFF_COMPLETE=bash_source latentdiff);"
        f" COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "
        '_latentdiff_completion latentdiff; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == expected, done.stderr
