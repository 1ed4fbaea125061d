"""docs/licences.md: every dependency, data set and network is on it, and what it says of packages is what
they say.
"""

import re
from importlib import metadata
from types import ModuleType

import pytest
from helpers import ROOT, load_script

from latentdiff.data.catalog import list_datasets
from latentdiff.metrics.names import NAMES, PERCEPTUAL_NAMES
from latentdiff.pipeline.checkpoint import pretrained
from latentdiff.pipeline.text import encoder

TEXT = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """scripts/licences.py, which is in no package."""
    return load_script(ROOT / "scripts" / "licences.py")


def table(heading: str) -> dict[str, list[str]]:
    """The rows under a heading, by their first cell."""
    part = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert part is not None
    rows = [line.strip("| ").split(" | ") for line in part[1].splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in rows[2:]}


def test_every_dependency_is_listed_with_who_wants_it(script: ModuleType) -> None:
    found = {name: who for name, (_, _, who) in table("Dependencies").items()}
    assert found == {name: ", ".join(who) for name, who in script.wanted().items()}
    assert found["torch"] == "core" and found["gradio"] == "ui" and len(found) > 25


@pytest.mark.parametrize("heading", ["Dependencies", "What these bring along"])
def test_the_page_says_what_the_packages_say(heading: str, script: ModuleType) -> None:
    """Of those that are installed here in the version that is listed."""
    compared = 0
    for name, (version, licence, *_) in table(heading).items():
        assert re.match(r"\d", version) and licence, name
        try:
            if metadata.version(name).split("+")[0] == version:
                assert script.licence(name) == licence, name
                compared += 1
        except metadata.PackageNotFoundError:
            continue
    assert compared > 0


def test_nothing_that_a_dependency_brings_is_missing(script: ModuleType) -> None:
    """From the core's metadata, which is always here; torch's libraries for GPUs are told in words."""
    listed = {
        name.lower() for heading in ("Dependencies", "What these bring along") for name in table(heading)
    }
    core = [name for name, who in script.wanted().items() if "core" in who]
    needed = {name for name in script.brought(core) if not re.match("nvidia-|cuda-|triton", name)}
    assert needed - listed == set() and {"markupsafe", "sympy", "pydantic-core"} <= needed


def test_extras_of_extras_are_followed(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {
        "top": ["middle[fast]>=1", "absent; python_version < '3'"],
        "middle": ["plain", "quick; extra == 'fast'", "slow; extra == 'other'"],
    }
    monkeypatch.setattr(script.metadata, "requires", lambda name: needs.get(name))
    assert script.brought(["top"]) == {"top", "middle", "plain", "quick"}


def test_all_data_are_listed_under_the_licences_that_the_command_tells() -> None:
    listed = {name: licence for name, (_, licence, _) in table("Data").items()}
    assert listed == {f"`{entry.name}`": entry.license for entry in list_datasets()}


def test_all_weights_are_listed() -> None:
    models = {f"model `{model.name}`" for model in pretrained.shipped_models()}
    networks = {f"feature network `{name}`" for name in {*NAMES, *PERCEPTUAL_NAMES}}
    assert set(table("Weights")) == models | networks | {f"text encoder `{encoder.MINILM}`"}


class _Facts(dict[str, str]):
    def get_all(self, name: str) -> list[str] | None:
        return self["classes"].split(";") if name == "Classifier" and "classes" in self else None


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"License-Expression": "BSD-2-Clause", "License": "MIT"}, "BSD-2-Clause"),
        ({"License": "Apache 2.0 License"}, "Apache-2.0"),
        (
            {
                "License": "Copyright\nlong text",
                "classes": "License :: OSI Approved :: BSD License;Topic :: X",
            },
            "BSD",
        ),
        (
            {
                "License": "UNKNOWN",
                "classes": "License :: OSI Approved;License :: OSI Approved :: MIT License",
            },
            "MIT",
        ),
    ],
)
def test_metadata_are_read(
    facts: dict[str, str], expected: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.metadata, "metadata", lambda name: _Facts(facts))
    assert script.licence("anything") == expected


def test_what_cannot_be_told_ends_the_script_with_a_line(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "groups", lambda: {"core": [script.Requirement("no-such-package")]})
    with pytest.raises(SystemExit, match="every dependency to be installed, found no no-such-package"):
        script.page()
    monkeypatch.setattr(script.metadata, "metadata", lambda name: _Facts({"License": "UNKNOWN"}))
    with pytest.raises(SystemExit, match="anything: expected a licence in its metadata, found none"):
        script.licence("anything")
