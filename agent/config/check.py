"""Tell a person what is wrong with a configuration file, in plain words (``evsed check-config``).

Charter: text only; finding the problems is ``agent.config.load``.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.config.problem import Problem


def render(file: str, problems: Sequence[Problem]) -> str:
    """One block of lines per problem, ending with a newline; a single line where all is well."""
    if not problems:
        return f"{file}: good\n"
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"{file}: {count}\n" + "".join(_block(problem) for problem in problems)


def _block(problem: Problem) -> str:
    lines = [f"  {problem.path}", f"    expected  {problem.expected}", f"    found     {problem.found}"]
    if problem.example:
        lines.append(f"    try       {problem.example}")
    return "\n".join(lines) + "\n"
