"""Mutants: the project with one thing changed, told by what is changed instead of by a number.

Charter: has mutmut rewrite the files that ``[tool.mutmut]`` names, in a copy of the project, so that each holds all
its mutants and a switch between them; and says what each one changes in words that outlive edits elsewhere: file,
function, lines taken and lines put. Runs nothing.

Of mutmut 3.8 only this is used: it generates, for a function ``f``, ``x_f__mutmut_orig`` and ``x_f__mutmut_1`` and so
on (for a method ``xǁClassǁf__mutmut_1``), and calls what ``trampoline.set_mutant_under_test`` has chosen. It leaves
alone what runs when a module is imported, decorated functions and properties.
"""

from __future__ import annotations

import ast
import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CLASS_MARK = "ǁ"
_NUMBER = re.compile(r"__mutmut_(\d+|orig)$")


@dataclass(frozen=True, slots=True)
class Change:
    """What a mutant changes. ``old`` and ``new`` are the lines that differ, without indentation, joined by a line
    feed; ``new`` may be empty."""

    file: str
    function: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """``name`` is mutmut's: module, mangled function, number."""

    name: str
    change: Change


def make(folder: Path) -> list[Mutant]:
    """Rewrite the files to be mutated in ``folder``, a copy of the project."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    config = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["mutmut"]
    mutants: list[Mutant] = []
    for file in config["only_mutate"]:
        path = folder / file
        mutated = mutate_file_contents(file, path.read_text())
        path.write_text(mutated.code)
        mutants += _mutants(file, mutated.code, mutated.mutant_names)
    return mutants


def _mutants(file: str, code: str, names: Sequence[str]) -> Iterator[Mutant]:
    module = file.removesuffix(".py").replace("/", ".")
    functions = _functions(code)
    for mangled in names:
        plain = _NUMBER.sub("", mangled)
        old, new = _differing(functions[plain + "__mutmut_orig"], functions[mangled])
        function = plain.removeprefix(f"x{_CLASS_MARK}").removeprefix("x_").replace(_CLASS_MARK, ".")
        yield Mutant(f"{module}.{mangled}", Change(file, function, old, new))


def _functions(code: str) -> dict[str, list[str]]:
    """All generated functions, line by line, under the name that they were made of."""
    lines = code.splitlines()
    nodes = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {
        node.name: [line.replace(node.name, _plain(node.name)) for line in lines[node.lineno - 1 : node.end_lineno]]
        for node in nodes
        if _NUMBER.search(node.name)
    }


def _plain(mangled: str) -> str:
    return _NUMBER.sub("", mangled).removeprefix("x_").rpartition(_CLASS_MARK)[2]


def _differing(old: list[str], new: list[str]) -> tuple[str, str]:
    taken, put = [], []
    for line in difflib.ndiff(old, new):
        if line.startswith("- "):
            taken.append(line[2:].strip())
        elif line.startswith("+ "):
            put.append(line[2:].strip())
    return "\n".join(taken), "\n".join(put)
