"""The house rules: imports go downwards, one loop, one place that prints, no global generator, nothing unpickles."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "latentdiff"
FILES = sorted(PACKAGE.rglob("*.py"))

# docs/design.md shows the same list. A module imports from lower layers; rooms of one layer may use each other in one
# direction. The package's own __init__ (a lazy front) and __main__ stand above all.
LAYERS: dict[int, tuple[str, ...]] = {
    0: ("errors", "files", "lock", "workers", "ranks", "paths", "tensor_files"),
    1: ("config", "nn", "device", "draw", "constant", "classes", "tokenizer"),
    2: ("ops", "random", "data", "metrics", "features", "encoder"),
    3: ("schedule", "predict", "operators", "views"),
    4: ("denoise", "loss", "ema", "bands", "degrade", "intensities"),
    5: ("step", "mix"),
    6: ("sample", "plan", "codec", "solve"),
    7: ("checkpoint", "compat", "index", "listener", "shipped", "capabilities", "runs", "compiled", "frames"),
    8: ("components",),
    9: ("ask", "picture", "image_folder", "plots", "batching", "encoded"),
    10: ("pipeline", "cold"),
    11: ("train", "bench", "edit"),
    12: ("evaluate", "ui"),
    13: ("study",),
    14: ("cli",),
}
LAYER_OF = {room: layer for layer, rooms in LAYERS.items() for room in rooms}
KNOWS_ONLY = {  # tighter than the layers
    "errors": set(),
    "files": {"errors"},
    "lock": {"errors", "files"},
    "workers": set(),
    "ranks": {"errors"},
    "paths": {"errors"},
    "tensor_files": set(),
    "nn": {"errors"},
    "ops": {"errors"},
    "data": {"errors", "draw", "paths"},
    "config": {"errors", "nn"},
    "constant": set(),
    "classes": {"errors"},
    "tokenizer": {"errors"},
    "encoder": {"errors", "files", "paths", "tokenizer"},
    "ask": {"classes", "encoder", "errors", "nn", "tokenizer"},
    "metrics": {"errors"},
    "features": {"errors", "files", "tensor_files"},
    "schedule": {"config"},
    "predict": {"config"},
    "operators": {"random"},
    "views": {"errors", "random"},
    "bands": {"errors", "operators"},
    "degrade": {"config", "operators"},
    "intensities": {"errors", "random"},
    "step": {"ops", "denoise", "random", "schedule"},
    "mix": {"bands", "denoise", "views"},
    "sample": {"denoise", "random", "schedule", "step"},
    "compat": {"checkpoint", "codec", "config", "constant", "errors", "files", "nn", "ops", "schedule"},
    "index": {"checkpoint", "errors"},
    "solve": {"degrade", "denoise", "operators", "random", "schedule", "step"},
}
NO_ROOMS = {"__version__", "_C"}  # a constant, and the kernels where they were built
LOOKS_BEFORE_IT_LOADS = "ops/native.py"  # at the extension's file, which may be cut off
DOES_IO = {
    "data",
    "encoder",
    "files",
    "lock",
    "checkpoint",
    "tensor_files",
    "shipped",
    "runs",
    "picture",
    "image_folder",
    "plots",
    "train",
    "features",
    "evaluate",
    "study",
    "ui",
    "cli",
}


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(PACKAGE)) for file in files]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def room(file: Path) -> str:
    """The part of the package that a file is in: its folder, or its own name at the top."""
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(module: ast.Module) -> Iterator[str]:
    """Everything that a file imports anywhere, also inside functions and for type checking, as dotted names."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide their target"
            # `from latentdiff import ops` names a module, `from latentdiff.ops import step` a thing in one
            if node.module == "latentdiff":
                yield from (f"latentdiff.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def rooms_used(module: ast.Module) -> set[str]:
    parts = [name.split(".") for name in imports(module)]
    return {part[1] for part in parts if part[0] == "latentdiff" and len(part) > 1 and part[1] not in NO_ROOMS}


def calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name of what is called, the call); a method of an expression is called ``.name``."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def misdirected(file_room: str, used: set[str]) -> set[str]:
    """The rooms that a room may not import from."""
    above = {name for name in used - {file_room} if LAYER_OF[name] > LAYER_OF[file_room]}
    allowed = KNOWS_ONLY.get(file_room)
    return above if allowed is None else above | (used - {file_room} - allowed)


INNER = [file for file in FILES if file.parent != PACKAGE or not file.stem.startswith("__")]


def test_every_room_has_its_layer() -> None:
    assert {room(file) for file in INNER} == set(LAYER_OF)
    assert {f.stem for f in PACKAGE.glob("__*__.py")} == {"__init__", "__main__"}


@pytest.mark.parametrize("file", INNER, ids=names(INNER))
def test_imports_go_downwards(file: Path) -> None:
    assert not misdirected(room(file), rooms_used(tree(file)))


def test_one_file_knows_the_extension_module() -> None:
    users = [file for file in FILES if "latentdiff._C" in set(imports(tree(file)))]
    assert names(users) == ["ops/native.py"]


def test_rooms_of_one_layer_do_not_use_each_other_in_circles() -> None:
    used: dict[str, set[str]] = {name: set() for name in LAYER_OF}
    for file in INNER:
        used[room(file)] |= rooms_used(tree(file)) - {room(file)}
    done: set[str] = set()
    while ready := {name for name, below in used.items() if name not in done and below <= done}:
        done |= ready
    assert done == set(LAYER_OF)


def test_the_design_document_shows_the_same_layers() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    shown: dict[int, set[str]] = {}
    for layer, cell in re.findall(r"^\| (\d+) \| ([^|]+) \|", text, flags=re.MULTILINE):
        shown.setdefault(int(layer), set()).update(name.rstrip("/") for name in re.findall(r"`([\w/]+)`", cell))
    assert shown == {layer: set(rooms) for layer, rooms in LAYERS.items()}


def loops_over_moves(module: ast.Module) -> int:
    return sum(
        isinstance(node, ast.For | ast.comprehension) and "pairwise(levels)" in ast.unparse(node.iter)
        for node in ast.walk(module)
    )


def test_there_is_one_sampling_loop() -> None:
    found = {str(file.relative_to(PACKAGE)): loops_over_moves(tree(file)) for file in FILES}
    assert {name: count for name, count in found.items() if count} == {"sample.py": 1}


WRITES = re.compile(
    r"(^|\.)(open|fdopen|read_text|read_bytes|write_text|write_bytes|mkdir|unlink|rmtree|rename|urlopen|savez|save_file)$"
)


def touches_files(name: str) -> bool:
    return bool(WRITES.search(name)) or name.startswith(("os.remove", "os.replace", "shutil."))


READS = re.compile(r"(^|\.)(read_text|read_bytes|load_file|safe_open)$")
READS_BY_ITSELF = {  # all others go through latentdiff.files, which trusts no file
    "checkpoint.py",  # maps what it has checked
    "cli/bench.py",  # /proc/cpuinfo, as study/facts.py
    "data/captions.py",  # the regular files that walk.py lists
    "data/embedded.py",  # a file of the package, as the next three
    "features/efficientnet.py",
    "features/mnist.py",
    "shipped.py",
    "study/facts.py",
    "study/html.py",  # pictures that were just drawn
}


def reads(module: ast.Module) -> list[str]:
    own = {"read_bytes"}  # of latentdiff.files
    return [name for name, _ in calls(module) if READS.search(name) and name not in own]


def test_files_are_read_by_the_reader_that_trusts_none() -> None:
    assert {str(file.relative_to(PACKAGE)) for file in FILES if reads(tree(file))} <= READS_BY_ITSELF


def speaks(name: str) -> bool:
    return name in ("print", "input") or name.startswith(("click.echo", "click.secho", "sys.stdout", "sys.stderr"))


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_files_are_touched_and_words_spoken_only_where_they_should(file: Path) -> None:
    called = {name for name, _ in calls(tree(file))}
    if room(file) not in DOES_IO:
        touched = {name for name in called if touches_files(name)}
        assert touched == ({"open"} if names([file]) == [LOOKS_BEFORE_IT_LOADS] else set())
    if room(file) != "cli":
        assert not {name for name in called if speaks(name)}


SHARED_STATE = {"manual_seed", "manual_seed_all", "seed", "seed_all", "set_rng_state"}
OWN_GENERATORS = {"default_rng", "Generator", "Philox", "PCG64", "SeedSequence"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
DRAWS |= {"rand_like", "randn_like", "randint_like"}
DRAWS_IN_PLACE = {"normal_", "uniform_", "bernoulli_", "random_", "exponential_", "trunc_normal_", "geometric_"}


def draws_globally(name: str, call: ast.Call) -> bool:
    """A draw without a generator of its own, or a call that sets the state all draws share."""
    *_, last = name.split(".")
    own = any(keyword.arg == "generator" for keyword in call.keywords)
    if name.startswith(("np.random.", "numpy.random.")):
        return last not in OWN_GENERATORS
    if name.startswith("torch.") and not name.startswith("torch.ops."):
        return (last in DRAWS and not own) or last in SHARED_STATE
    return last in DRAWS_IN_PLACE and not own


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_no_file_uses_the_global_generators(file: Path) -> None:
    module = tree(file)
    assert not [f"line {call.lineno}: {name}" for name, call in calls(module) if draws_globally(name, call)]
    assert "random" not in set(imports(module))  # the standard library's


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


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_nothing_unpickles_or_evaluates(file: Path) -> None:
    module = tree(file)
    assert not {name.split(".")[0] for name in imports(module)} & UNPICKLES
    assert not executes(module)


def imports_by_name(module: ast.Module) -> list[str]:
    """What `import_module` is given; a lookup in a table of the file, or a literal with one, is a fixed choice."""
    return [ast.unparse(call.args[0]) for name, call in calls(module) if name.split(".")[-1] == "import_module"]


def constants(module: ast.Module) -> set[str]:
    """The names that a file assigns at its top level."""
    assigned = [node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [
        target for node in assigned for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
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
        (lambda m: misdirected("step", rooms_used(m)), "from latentdiff.nn import build"),
        (lambda m: misdirected("nn", rooms_used(m)), "def f():\n    from latentdiff.schedule import Schedule"),
        (lambda m: misdirected("denoise", rooms_used(m)), "from latentdiff import sample"),
        (loops_over_moves, "for t, s in pairwise(levels):\n    pass"),
        (loops_over_moves, "x = [t for t, s in itertools.pairwise(levels)]"),
        (lambda m: [n for n, _ in calls(m) if speaks(n)], "click.echo('x')"),
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
