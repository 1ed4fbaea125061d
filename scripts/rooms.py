"""Print how the rooms of the package use one another: rooms, floors, arrows and circles, from the imports
alone.

    python scripts/rooms.py            # the four figures
    python scripts/rooms.py --arrows   # and every arrow, lowest floor first

A room is a folder of the package, `apps` by its parts, or `errors` (`_version` holds a constant and is none).
An arrow is a pair of rooms of which one imports from the other, wherever in a file. A floor is one more than
the highest floor that a room imports from. A circle is a set of files that import one another.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "latentdiff"
NO_ROOMS = {"__init__", "__main__", "_version"}  # the face, above all rooms, and a constant


@cache
def modules() -> dict[str, Path]:
    """The dotted name below the package of every file: `ops.native`; a folder's `__init__.py` has the
    folder's.
    """
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in NO_ROOMS:
            found[".".join(part for part in parts if part != "__init__")] = file
    return found


def room(module: str) -> str:
    """The room that a dotted name lies in: `ops`, `apps/cli`, `errors`."""
    parts = module.split(".")
    return "/".join(parts[:2]) if parts[0] == "apps" and len(parts) > 1 else parts[0]


def imported(tree: ast.Module) -> Iterator[str]:
    """The dotted names below the package that a file imports anywhere, also in functions and for type
    checking.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "latentdiff" and rest != "_version.__version__":
                yield rest


def target(name: str) -> str:
    """The module that an imported name is or lies in; "" for the package itself."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


@cache
def uses() -> dict[str, set[str]]:
    """Module -> the modules that it imports from."""
    found: dict[str, set[str]] = {}
    for module, file in modules().items():
        names = imported(ast.parse(file.read_text(encoding="utf-8"), str(file)))
        found[module] = {target(name) for name in names} - {"", module}
    return found


def arrows() -> dict[str, set[str]]:
    """Room -> the other rooms that it imports from."""
    found: dict[str, set[str]] = {room(module): set() for module in modules() if module != "apps"}
    for module, used in uses().items():
        if module != "apps":
            found[room(module)] |= {room(name) for name in used} - {room(module)}
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Circles of a graph, one for each that is in the way of an order; empty for none."""
    left, found = {name: set(used) for name, used in graph.items()}, []
    while True:
        try:
            tuple(TopologicalSorter(left).static_order())
            return found
        except CycleError as error:
            circle = list(reversed(error.args[1]))
            found.append(circle)
            left[circle[0]].discard(circle[1])


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Room -> its floor, from 1; ValueError where rooms use one another in a circle."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[used] for used in graph.get(name, ())), default=0)
    return found


def figures() -> dict[str, int]:
    """The four figures of the house."""
    graph = arrows()
    return {
        "rooms": len(graph),
        "floors": max(floors(graph).values()) if not circles(graph) else 0,
        "arrows": sum(map(len, graph.values())),
        "circles": len(circles(uses())),
    }


def main() -> None:
    """Print the figures, and with --arrows the floors and what each room uses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--arrows", action="store_true", help="print the floor of each room and the rooms it uses"
    )
    if parser.parse_args().arrows:
        graph = arrows()
        for name, floor in sorted(floors(graph).items(), key=lambda found: (found[1], found[0])):
            print(f"{floor}  {name:14} {' '.join(sorted(graph[name]))}")
    for name, value in figures().items():
        print(f"{value:4} {name}")
    for circle in circles(uses()):
        print("     circle:", " -> ".join(circle))


if __name__ == "__main__":
    main()
