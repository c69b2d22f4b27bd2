"""A YAML file with the place of every key: reading, inheritance, and problems in one line each.

`extends: base.yaml` puts a file on top of another one (the path is relative to the file that says
so): mappings merge key by key, the deeper file wins, lists and single values are replaced whole,
and so are `budget`, `reward` and `columns`, which make sense only together. Local paths are
relative to the file that wrote them. What is merged is its content and nothing else, so a matrix
written out whole is the same experiment; only problems remember who wrote what.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from suite.matrix import sources

EXTENDS = "extends"
WHOLE = ("budget", "reward", "columns")  # mappings that are one choice
LOCAL = ("model", "dataset", "benchmarks")  # keys whose values may be local paths

Location = tuple[Any, ...]  # keys and positions from the root of a file
Places = dict[Location, tuple[Path, int]]


class MatrixError(ValueError):
    """One or more problems of a matrix file; `problems` holds a line for each."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class MatrixFile:
    """One pass over one file and those that it extends, collecting problems with their lines."""

    def __init__(self, path: Path):
        self.path = path
        self.problems: list[str] = []
        self.lines: Places = {}

    def read(self) -> dict[str, Any]:
        """The merged content.

        Raises:
            MatrixError: a file that cannot be read, is no YAML mapping, has a key twice, or extends
                itself.
        """
        content, self.lines = self._merged(self.path, ())
        self.stop_on_problems()
        return content

    def problem(self, location: Location, message: str) -> None:
        """Note a problem once, at the line of `location` or of the nearest key around it."""
        at = location
        while at and at not in self.lines:
            at = at[:-1]
        path, line = self.lines.get(at, (self.path, 1))
        name = ".".join(str(part) for part in location)
        problem = f"{path}:{line}: {name + ': ' if name else ''}{message}"
        if problem not in self.problems:
            self.problems.append(problem)

    def check(self, problem: str | None, location: Location) -> None:
        """Note what a check found, if it found something."""
        if problem:
            self.problem(location, problem)

    def stop_on_problems(self) -> None:
        """Raises MatrixError with all problems noted so far, if there are any."""
        if self.problems:
            raise MatrixError(self.problems)

    def _merged(self, path: Path, below: tuple[Path, ...]) -> tuple[dict[str, Any], Places]:
        """`path` on top of what it extends; `below` are the files that led here."""
        content, places = self._read_file(path)
        if EXTENDS not in content:
            return content, places
        named, line = content.pop(EXTENDS), places[EXTENDS,][1]
        if not isinstance(named, str):
            raise MatrixError([f"{path}:{line}: {EXTENDS}: must be one path, got {named!r}"])
        base = (path.parent / Path(named).expanduser()).resolve()
        chain = (*below, path.resolve())
        if base in chain:
            names = " -> ".join(file.name for file in (*chain, base))
            raise MatrixError([f"{path}:{line}: {EXTENDS}: a file extends itself: {names}"])
        if not base.is_file():
            raise MatrixError([f"{path}:{line}: {EXTENDS}: no file at {base}"])
        parent, inherited = self._merged(base, chain)
        return _on_top(_anchored(parent, base.parent), content), inherited | places

    def _read_file(self, path: Path) -> tuple[dict[str, Any], Places]:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise MatrixError([f"{path}: cannot be read ({error.strerror})"]) from error
        except UnicodeDecodeError as error:
            raise MatrixError([f"{path}: is not UTF-8 text ({error.reason})"]) from error
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            content = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise MatrixError([f"{path}:{line}: not YAML: {error.problem}"]) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            raise MatrixError([f"{path}:1: not YAML that can be read: {reason}"]) from error
        if root is None or not isinstance(content, dict):
            raise MatrixError([f"{path}:1: a matrix is a mapping with name, model, arms, ..."])
        places: Places = {}
        self._index(path, root, (), places)
        return content, places

    def _index(self, path: Path, node: yaml.Node, location: Location, places: Places) -> None:
        """Remember the line of every key and item; a key twice in one mapping is a problem."""
        places.setdefault(location, (path, node.start_mark.line + 1))
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                inner = (*location, key.value)
                line = key.start_mark.line + 1
                places[inner] = (path, line)
                if key.value in seen:
                    name = ".".join(str(part) for part in inner)
                    self.problems.append(f"{path}:{line}: {name}: the same key twice")
                seen.add(key.value)
                self._index(path, value, inner, places)
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self._index(path, item, (*location, position), places)


def _on_top(base: Any, content: Any, key: str = "") -> Any:
    """`content` over `base`: merged where both are mappings, otherwise `content`."""
    if not (isinstance(base, dict) and isinstance(content, dict)) or key in WHOLE:
        return content
    both = base.keys() & content.keys()
    return base | content | {name: _on_top(base[name], content[name], name) for name in both}


def _anchored(content: Any, folder: Path, local: Callable[[str, Path], str] | None = None) -> Any:
    """What another file inherits, with the local paths in it as absolute ones."""
    if isinstance(content, dict):
        return {
            key: _anchored(value, folder, _ANCHORS.get(key, local))
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [_anchored(item, folder, local) for item in content]
    return local(content, folder) if local and isinstance(content, str) else content


def _below(path: str, folder: Path) -> str:
    return str(folder / Path(path).expanduser())


_ANCHORS = dict.fromkeys(LOCAL, sources.absolute) | {"data_files": _below}
