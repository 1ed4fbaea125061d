"""The references :class:, :func:, :meth:, :mod:, ... in docstrings name what exists."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

from helpers import ROOT

PACKAGE = ROOT / "latentdiff"
REFERENCE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`~?([^`]+)`")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def has(value: object, path: list[str]) -> bool:
    """Whether a value has the attribute at a dotted path; the last may be a field without a value."""
    for part in path[:-1]:
        value = getattr(value, part, None)
    return not path or hasattr(value, path[-1]) or path[-1] in getattr(value, "__annotations__", {})


def exists(name: str) -> bool:
    """Whether an absolute name can be imported; True for what belongs to a package that is not installed."""
    parts = name.split(".")
    if importlib.util.find_spec(parts[0]) is None:
        return parts[0] != "latentdiff"
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return has(module, parts[count:])
    return False


def resolves(name: str, where: str) -> bool:
    """Whether a name in a docstring of a module is absolute, the module's own or of one of its classes."""
    if name.partition(".")[0] in ("latentdiff", "torch", "diffusers"):
        return exists(name)
    try:
        module = importlib.import_module(where)
    except ModuleNotFoundError:  # the package of an extra, as gradio
        return True
    classes = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == where]
    return any(has(each, name.split(".")) for each in (module, *classes))


def test_a_reference_is_resolved() -> None:
    here = "latentdiff.train.distributed"
    assert resolves("latentdiff.data.read_report.ReadReport", here)
    assert resolves("torch.nn.Module", here)
    assert resolves("FSDPLoss", here) and resolves("encode", "latentdiff.nn.mlp")
    assert not resolves("latentdiff.data.report.ReadReport", here)
    assert not resolves("Task.missing", here) and not resolves("save_images", "latentdiff.data.written")


def test_references_in_docstrings_resolve() -> None:
    lost = [
        f"{where}: {found[0]}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for where in [module_of(file)]
        for found in REFERENCE.finditer(file.read_text(encoding="utf-8"))
        if not resolves(found[1], where)
    ]
    assert not lost
