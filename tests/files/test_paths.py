"""Home folders that are not there, and names for what is being written."""

import pwd
from pathlib import Path

import pytest

from latentdiff.data import data_root, load_dataset
from latentdiff.errors import InputError
from latentdiff.evaluate import cache_folder
from latentdiff.files.paths import expanded, temporary_beside


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user number that the system does not know, which is usual in containers."""

    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "LATENTDIFF_DATA", "LATENTDIFF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, name, unknown)


@pytest.mark.usefixtures("no_home")
def test_without_a_home_only_what_needs_it_is_refused(
    cli: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        expanded("~/a") == Path("~/a") and expanded("~who/a") == Path("~who/a") and expanded("a") == Path("a")
    )
    assert len(load_dataset("mnist5k").test) == 500
    with pytest.raises(
        InputError, match=r"no home folder for ~/.cache/latentdiff/features; set \$LATENTDIFF_CACHE"
    ):
        cache_folder()
    with pytest.raises(
        InputError, match=r"no home folder for ~/.cache/latentdiff/data; set \$LATENTDIFF_DATA"
    ):
        load_dataset("mnist")
    listed = cli("datasets", cwd=tmp_path)  # type: ignore[operator]
    assert listed.code == 0 and "source: no home folder for" in listed.out
    unknown = cli("train-vae --data ~who/images --steps 1", cwd=tmp_path)  # type: ignore[operator]
    assert unknown.code == 1 and "data '~who/images': expected" in unknown.err
    monkeypatch.setenv("LATENTDIFF_DATA", str(tmp_path))
    assert data_root() == tmp_path


def test_temporary_names_are_short_hidden_beside_and_never_the_same(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / ("a" * 255)) for _ in range(100)}
    assert len(names) == 100
    assert all(
        name.parent == tmp_path and name.name.startswith(".tmp-") and len(name.name) < 40 for name in names
    )
