"""The house rules: imports go downwards, no circle, one loop, one place that prints, no global generator,
nothing unpickles.

Each rule is one test with a list of offenders. `scripts/rooms.py` prints the rooms, their floors and arrows.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import rooms

PACKAGE = ROOT / "latentdiff"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the lowest floor to the highest. A module belongs to the longest of these prefixes of its path, and
# imports from its own and
# from lower floors only. docs/design.md has a row for each room.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files", "parallel", "ops"),
    ("nn",),
    ("data", "metrics", "config"),
    ("diffusion/schedule", "diffusion/prediction", "diffusion/operators"),
    ("diffusion/estimate",),
    ("diffusion/guidance",),
    ("diffusion/denoiser", "diffusion/losses"),
    ("diffusion/samplers", "diffusion/illusions", "diffusion/cold"),
    ("diffusion", "viz"),
    ("pipeline/checkpoint", "pipeline/text"),
    ("pipeline/codec", "pipeline/diffusers"),
    ("pipeline",),
    ("edit", "train"),
    ("evaluate",),
    ("apps/bench", "apps/ui", "apps/studies"),
    ("apps/cli",),
)
LAYER_OF = {prefix: layer for layer, prefixes in enumerate(LAYERS) for prefix in prefixes}
KNOWS_ONLY: dict[str, set[str]] = {  # tighter than the layers: what a prefix may import beside itself
    "errors": set(),
    "files": {"errors"},
    "parallel": {"errors"},
    "nn": {"errors", "ops"},
    "ops": {"errors"},
    "ops/constants": set(),
    "data": {"errors", "files"},
    "metrics": {"errors", "files"},
    "metrics/features": {"errors", "files", "metrics"},
    "config": {"errors", "nn"},
    "diffusion": {"config", "errors", "ops"},
    "diffusion/schedule": {"config", "ops"},
    "diffusion/prediction": {"config"},
    "diffusion/operators": {"config", "errors", "ops"},
    "viz": {"config", "data", "errors", "files"},
    "pipeline/checkpoint": {"config", "errors", "files", "nn"},
    "pipeline/text": {"errors", "files", "nn", "pipeline/checkpoint"},
    "pipeline/diffusers": {
        "config",
        "diffusion",
        "errors",
        "files",
        "nn",
        "ops",
        "pipeline/checkpoint",
        "pipeline/codec",
    },
}
NO_ROOMS = {"_C"}  # the kernels where they were built
LOOKS_BEFORE_IT_LOADS = "ops/native.py"  # at the extension's file, which may be cut off
DOES_IO = (
    "apps",
    "data",
    "evaluate",
    "files",
    "metrics/features",
    "pipeline/checkpoint",
    "pipeline/text/encoder",
    "train",
    "viz",
)


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(PACKAGE)) for file in files]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def below(path: str, prefixes: tuple[str, ...] | dict[str, object]) -> str | None:
    """The longest of the prefixes that a path like `diffusion/solvers/dps` lies in."""
    found = [prefix for prefix in prefixes if path == prefix or path.startswith(f"{prefix}/")]
    return max(found, key=len, default=None)


def imports(module: ast.Module) -> Iterator[str]:
    """Everything that a file imports anywhere, also inside functions and for type checking, as dotted
    names.
    """
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used(module: ast.Module) -> set[str]:
    """Paths of the package's modules that a file imports from, `ops/native`."""
    found = {rooms.target(name) for name in rooms.imported(module)}
    return {name.replace(".", "/") for name in found if name}


def calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name of what is called, the call); a method of an expression is called ``.name``."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def misdirected(path: str, module: ast.Module) -> set[str]:
    """The modules that the module at a path may not import from."""
    own = below(path, LAYER_OF)
    wall = below(path, KNOWS_ONLY)
    found = set()
    for name in used(module):
        prefix = below(name, LAYER_OF)
        above = prefix is None or own is None or LAYER_OF[prefix] > LAYER_OF[own]
        walled = wall is not None and not below(name, (*KNOWS_ONLY[wall], wall))
        if above or walled:
            found.add(name)
    return found


INNER = {module.replace(".", "/"): file for module, file in rooms.modules().items()}


def test_the_top_level_has_rooms_alone() -> None:
    assert {f.stem for f in PACKAGE.glob("*.py")} == {"__init__", "__main__", "_version", "errors"}
    assert not [path for path in INNER if path != "apps" and below(path, LAYER_OF) is None]


def test_imports_are_absolute_and_go_downwards() -> None:
    relative = [
        name for name, file in INNER.items() for node in ast.walk(tree(file)) if getattr(node, "level", 0)
    ]
    found = {path: misdirected(path, tree(file)) for path, file in INNER.items()}
    assert not relative and not {path: wrong for path, wrong in found.items() if wrong}


def test_nothing_imports_the_face_or_the_applications_from_below() -> None:
    face = [path for path, file in INNER.items() if "" in map(rooms.target, rooms.imported(tree(file)))]
    assert face == ["ops/native"]  # the extension, latentdiff._C, which is no file of the package
    lower = {path: file for path, file in INNER.items() if not path.startswith("apps")}
    assert not [
        path for path, file in lower.items() if any(name.startswith("apps") for name in used(tree(file)))
    ]


def test_one_file_knows_the_extension_module() -> None:
    assert names([file for file in FILES if "latentdiff._C" in set(imports(tree(file)))]) == ["ops/native.py"]


def test_the_house_stays_small() -> None:
    found = rooms.figures()
    assert found["circles"] == 0, rooms.circles(rooms.uses())
    assert found["rooms"] <= 20 and found["floors"] <= 9 and found["arrows"] <= 95, found


def test_no_two_files_have_a_public_class_of_one_name() -> None:
    places: dict[str, list[str]] = {}
    for file in FILES:
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).extend(names([file]))
    assert len(places) > 200
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_the_script_sees_circles_and_counts_floors() -> None:
    assert rooms.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) and not rooms.circles(
        {"a": {"b"}, "b": set()}
    )
    assert rooms.floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": 3, "b": 2, "c": 1}
    assert rooms.room("apps.cli.root") == "apps/cli" and rooms.room("ops.native") == "ops"


def test_the_design_document_shows_the_same_rooms() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    shown = {
        name: int(floor)
        for floor, name in re.findall(r"^\| (\d+) \| `([\w/]+)` \|", text, flags=re.MULTILINE)
    }
    floors = rooms.floors(rooms.arrows())
    assert shown == floors


def loops_over_moves(module: ast.Module) -> int:
    return sum(
        isinstance(node, ast.For | ast.comprehension) and "pairwise(levels)" in ast.unparse(node.iter)
        for node in ast.walk(module)
    )


def test_there_is_one_sampling_loop() -> None:
    found = {str(file.relative_to(PACKAGE)): loops_over_moves(tree(file)) for file in FILES}
    assert {name: count for name, count in found.items() if count} == {"diffusion/loop.py": 1}


WRITES = re.compile(
    r"(^|\.)(open|fdopen|read_text|read_bytes|write_text|write_bytes|mkdir|unlink|rmtree|rename|urlopen|savez|save_file)$"
)


def touches_files(name: str) -> bool:
    return bool(WRITES.search(name)) or name.startswith(("os.remove", "os.replace", "shutil."))


READS = re.compile(r"(^|\.)(read_text|read_bytes|load_file|safe_open)$")
READS_BY_ITSELF = {  # all others go through latentdiff.files, which trusts no file
    "pipeline/checkpoint/folder.py",  # maps what it has checked
    "files/system.py",  # /proc/cpuinfo
    "data/captions.py",  # the regular files that scan.py lists
    "data/mnist.py",  # a file of the package, as the next three
    "metrics/features/efficientnet.py",
    "metrics/features/mnist.py",
    "pipeline/checkpoint/pretrained.py",
    "apps/studies/report/html.py",  # pictures that were just drawn
    "files/tensors.py",
}


def reads(module: ast.Module) -> list[str]:
    own = {"read_bytes"}  # of latentdiff.files.untrusted
    return [name for name, _ in calls(module) if READS.search(name) and name not in own]


def test_files_are_read_by_the_reader_that_trusts_none() -> None:
    assert {str(file.relative_to(PACKAGE)) for file in FILES if reads(tree(file))} <= READS_BY_ITSELF


def speaks(name: str) -> bool:
    return name in ("print", "input") or name.startswith(
        ("click.echo", "click.secho", "sys.stdout", "sys.stderr")
    )


def test_files_are_touched_and_words_printed_only_where_they_should() -> None:
    touching, printing = {}, []
    for file in FILES:
        called = {name for name, _ in calls(tree(file))}
        path = str(file.relative_to(PACKAGE))
        if not below(path.removesuffix(".py"), DOES_IO):
            touching[path] = {name for name in called if touches_files(name)}
        if not path.startswith("apps/cli/"):
            printing += [f"{path}: {name}" for name in called if speaks(name)]
    assert {path: found for path, found in touching.items() if found} == {LOOKS_BEFORE_IT_LOADS: {"open"}}
    assert not printing


SHARED_STATE = {"manual_seed", "manual_seed_all", "seed", "seed_all", "set_rng_state"}
OWN_GENERATORS = {"default_rng", "Generator", "Philox", "PCG64", "SeedSequence"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
DRAWS |= {"rand_like", "randn_like", "randint_like"}
DRAWS_IN_PLACE = {
    "normal_",
    "uniform_",
    "bernoulli_",
    "random_",
    "exponential_",
    "trunc_normal_",
    "geometric_",
}


def draws_globally(name: str, call: ast.Call) -> bool:
    """A draw without a generator of its own, or a call that sets the state all draws share."""
    *_, last = name.split(".")
    own = any(keyword.arg == "generator" for keyword in call.keywords)
    if name.startswith(("np.random.", "numpy.random.")):
        return last not in OWN_GENERATORS
    if name.startswith("torch.") and not name.startswith("torch.ops."):
        return (last in DRAWS and not own) or last in SHARED_STATE
    return last in DRAWS_IN_PLACE and not own


def test_no_file_uses_the_global_generators() -> None:
    found = [
        f"{file}: {name}" for file in FILES for name, call in calls(tree(file)) if draws_globally(name, call)
    ]
    assert not found
    assert not [file for file in FILES if "random" in set(imports(tree(file)))]  # the standard library's


NAMES_NO_FLAG = ("config", "data", "diffusion", "edit", "evaluate", "metrics", "nn", "ops", "train")
SHOWS_A_COMMAND = {"data/tar", "metrics/features/weights"}  # of tar and of a script, to be copied


def flags_in_errors(module: ast.Module) -> list[str]:
    """Texts in `raise` statements that name an option of the command line."""
    raised = [node for node in ast.walk(module) if isinstance(node, ast.Raise)]
    texts = [node.value for each in raised for node in ast.walk(each) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and re.search(r"(^|[\s(])--[a-z]", text)]


def test_errors_of_the_library_name_arguments_and_no_flags() -> None:
    files = {path: file for path, file in INNER.items() if below(path, NAMES_NO_FLAG)}
    found = {path: flags_in_errors(tree(file)) for path, file in files.items()}
    assert {path for path, texts in found.items() if texts} == SHOWS_A_COMMAND


UNPICKLES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "imp"}


EXECUTES = {"eval", "exec", "__import__", "torch.load", "torch.hub.load", "os.system", "os.popen"}
EXECUTES |= {"yaml.unsafe_load", "yaml.full_load", "yaml.load_all"}


def executes(module: ast.Module) -> list[str]:
    """Calls that load or run what a file says, with their lines."""
    safe = {
        node.name
        for node in module.body
        if isinstance(node, ast.ClassDef) and [dotted(base) for base in node.bases] == ["yaml.SafeLoader"]
    } | {"yaml.SafeLoader"}
    found = []
    for name, call in calls(module):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        bad_load = name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False"
        bad_yaml = name == "yaml.load" and given.get("Loader") not in safe
        if name in EXECUTES or bad_load or bad_yaml:
            found.append(f"line {call.lineno}: {name}")
    return found


def test_nothing_unpickles_or_evaluates() -> None:
    assert not [file for file in FILES if {name.split(".")[0] for name in imports(tree(file))} & UNPICKLES]
    assert not [f"{file}: {found}" for file in FILES for found in executes(tree(file))]


def imports_by_name(module: ast.Module) -> list[str]:
    """What a load by name is given, apart from a plain literal; a lookup in a table of the file, or a literal
    with one, is a fixed choice.
    """
    loads = {"import_module", "resolve_name"}
    given = [call.args[0] for name, call in calls(module) if name.split(".")[-1] in loads]
    return [ast.unparse(argument) for argument in given if not isinstance(argument, ast.Constant)]


def constants(module: ast.Module) -> set[str]:
    """The names that a file assigns at its top level."""
    assigned = [node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [
        target
        for node in assigned
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {dotted(target) for target in targets}


def test_modules_are_imported_by_name_only_from_fixed_tables() -> None:
    for file in FILES:
        for argument in imports_by_name(tree(file)):
            table = re.search(r"\b(_?[A-Z]+)\[", argument)
            assert table, f"{file.name}: import_module({argument})"
            assert table[1] in constants(tree(file)), f"{file.name}: {table[1]} is no constant of the file"


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (lambda m: misdirected("diffusion/samplers", m), "from latentdiff.nn import build"),
        (
            lambda m: misdirected("nn/unet", m),
            "def f():\n    from latentdiff.diffusion.schedule import Schedule",
        ),
        (lambda m: misdirected("diffusion/denoiser", m), "from latentdiff.diffusion import loop"),
        (lambda m: misdirected("edit/sdedit", m), "from latentdiff.apps.cli import root"),
        (loops_over_moves, "for t, s in pairwise(levels):\n    pass"),
        (loops_over_moves, "x = [t for t, s in itertools.pairwise(levels)]"),
        (lambda m: [n for n, _ in calls(m) if speaks(n)], "click.echo('x')"),
        (flags_in_errors, "raise ValueError(f'got {x}; expected another (--spacing trailing)')"),
        (reads, "Path('x').read_text()"),
        (reads, "safetensors.torch.load_file('x')"),
        (lambda m: [n for n, _ in calls(m) if touches_files(n)], "Path('x').open()"),
        (lambda m: [n for n, _ in calls(m) if touches_files(n)], "open('x')"),
        (lambda m: [n for n, c in calls(m) if draws_globally(n, c)], "torch.manual_seed(0)"),
        (lambda m: [n for n, c in calls(m) if draws_globally(n, c)], "torch.randn(3)"),
        (lambda m: [n for n, c in calls(m) if draws_globally(n, c)], "torch.randn_like(x)"),
        (lambda m: [n for n, c in calls(m) if draws_globally(n, c)], "np.random.seed(0)"),
        (lambda m: [n for n, c in calls(m) if draws_globally(n, c)], "x[0].normal_()"),
        (executes, "torch.load('x')"),
        (executes, "np.load('x')"),
        (executes, "yaml.load(text)"),
        (executes, "class L(yaml.Loader):\n    pass\nyaml.load(text, Loader=L)"),
        (executes, "eval(text)"),
    ],
)
def test_each_rule_sees_what_it_forbids(check: Callable[[ast.Module], object], bad: str) -> None:
    assert check(ast.parse(bad))


@pytest.mark.parametrize(
    "good",
    [
        "torch.randn(3, generator=g)",
        "torch.Generator().manual_seed(seed)",
        "np.random.Generator(np.random.Philox(key=3))",
        "weight.uniform_(-1, 1, generator=g)",
        "key.normal((3,))",
        "torch.ops.latentdiff.normal(seeds, stream, [3], torch.float32)",
    ],
)
def test_own_generators_are_allowed(good: str) -> None:
    assert not [name for name, call in calls(ast.parse(good)) if draws_globally(name, call)]
