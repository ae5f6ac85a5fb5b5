"""YAML and JSON that somebody else may have written: bounded in size and depth, and every fault is a sentence.

A few lines of YAML can stand for billions of values (aliases of aliases), and a bracket that is opened a million times
ends a parser that calls itself. Neither YAML nor JSON bounds a number. Here all that is refused before it costs
anything.
"""

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from avpea.errors import AvpeaError, CheckpointError, ExperimentError

__all__ = [
    "BIGGEST",
    "irregular",
    "json_lines",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_text",
    "read_yaml",
    "require_regular",
]

BIGGEST = 2**63  # no whole number in a recipe, a run or a result reaches it, as tensors could not hold it
_YAML_BYTES = 1 << 20
_JSON_BYTES = 64 << 20
_LINE_BYTES = 4 << 20
_DEPTH = 50
_VALUES = 20_000  # in one YAML file, what an alias stands for counted as often as it is used
_TEXT, _NUMBER = 10_000, 64  # characters of a text and of a number in YAML

Kind = type[AvpeaError]


class _Refused(Exception):
    """Well-formed, but not what a file of avpea holds."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses what is too deep, too many or too big, and a key that stands twice."""

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.values += 1
        if self.depth > _DEPTH:
            raise _Refused(f"more than {_DEPTH} levels of lists and mappings in line {self.line + 1}")
        if self.values > _VALUES:
            raise _Refused(f"more than {_VALUES:,} values")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and len(node.value) > _TEXT:
            raise _Refused(f"a text of {len(node.value):,} characters in line {node.start_mark.line + 1}")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                line = key.start_mark.line + 1
                raise _Refused(f"'{key.value[:60]}' stands twice in one mapping, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number of a size that avpea can use; PyYAML's own time grows with the square of its length."""
        line = node.start_mark.line + 1
        if len(node.value) > _NUMBER:
            raise _Refused(f"a number of {len(node.value):,} characters in line {line}")
        read = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        value: int | float = read(node)
        if isinstance(value, int) and abs(value) >= BIGGEST:
            raise _Refused(f"the number {node.value} in line {line}; expected less than 2**63")
        if _is_read_otherwise(node.value, value):
            raise _Refused(
                f"the number {node.value} in line {line}, which YAML reads as {value}; write that, or a text in quotes"
            )
        return value


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def _is_read_otherwise(text: str, value: int | float) -> bool:
    """Whether a number means another one to a person: `010`, which is octal in YAML 1.1, or `1:30`, which is 90."""
    digits = text.lstrip("+-").replace("_", "")
    return ":" in digits or (isinstance(value, int) and digits.isdigit() and int(digits) != abs(value))


# What PyYAML raises, beside its own errors, for scalars that are not what their form or tag says (`2001-99-99`).
_WRONG_SCALAR = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def parse_yaml(text: str, source: str = "") -> Any:
    """The values in YAML.

    Args:
        text: The YAML.
        source: File or option that it comes from, with which an error begins.

    Raises:
        ExperimentError: It is not YAML; one mapping names a key twice, of which YAML readers keep the last; or it
            stands for more values, more levels or bigger numbers than any file of avpea has.
    """
    start = f"{source}: " if source else ""
    try:
        value = _loaded(text)
        _require_plain(value)
    except yaml.YAMLError as error:
        raise ExperimentError(f"{start}not YAML: {' '.join(str(error).split())[:300]}.") from None
    except (_Refused, RecursionError) as error:
        reason = "too many levels" if isinstance(error, RecursionError) else str(error)
        raise ExperimentError(f"{start}{reason}.") from None
    return value


def _loaded(text: str) -> Any:
    loader: Any = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _require_small(node, {}, set())
        try:
            return loader.construct_document(node)
        except _WRONG_SCALAR as error:
            raise _Refused(f"not YAML: a value cannot be read ({' '.join(str(error).split())[:300]})") from None
    finally:
        loader.dispose()


def read_yaml(path: Path) -> Any:
    """The values in a YAML file; see `parse_yaml`.

    Raises:
        ExperimentError: As `parse_yaml`, or the file is too big or not UTF-8.
        OSError: The file cannot be read.
    """
    return parse_yaml(read_text(path, _YAML_BYTES, ExperimentError), str(path))


def parse_json(
    text: str, source: str, kind: Kind = CheckpointError, *, line: int = 0, remedy: str = "", paths: bool = False
) -> Any:
    """The values in JSON.

    Args:
        text: The JSON.
        source: File that it comes from, with which an error begins.
        kind: Class of the error.
        line: Line of the file that the text is, from 1; 0 if it is the whole file.
        remedy: What to do about it, for the error.
        paths: Whether a text may be the name of a file that is no UTF-8: its bytes are halves of surrogate pairs then.

    Raises:
        AvpeaError: Of class `kind`: it is not JSON, too deep, names a key twice, or holds a number
            that is no JSON number (`NaN`), not finite, or 2**63 or more.
    """
    where, end = f"{source}, line {line}" if line else source, _ending(remedy)
    try:
        value = json.loads(
            text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number, object_pairs_hook=_once
        )
        _require_plain(value, paths)
    except json.JSONDecodeError as error:
        if line:
            raise kind(f"{where}: not JSON ({error.msg}, column {error.colno}){end}") from None
        place = f"line {error.lineno}, column {error.colno}"
        raise kind(f"{source}, {place}: not JSON ({error.msg}){end}") from None
    except _Refused as error:
        raise kind(f"{where}: {error}{end}") from None
    except RecursionError:
        raise kind(f"{where}: more than {_DEPTH} levels of lists and objects{end}") from None
    return value


def read_json(path: Path, kind: Kind = CheckpointError, *, remedy: str = "", paths: bool = False) -> Any:
    """The values in a JSON file; see `parse_json`.

    Raises:
        AvpeaError: Of class `kind`: as `parse_json`, or the file is too big, not UTF-8 or cannot be read.
    """
    try:
        text = read_text(path, _JSON_BYTES, kind, remedy=remedy)
    except OSError as error:
        raise kind(f"{path} cannot be read ({error.strerror}){_ending(remedy)}") from None
    return parse_json(text, str(path), kind, remedy=remedy, paths=paths)


def json_lines(path: Path, kind: Kind = CheckpointError, *, paths: bool = False) -> Iterator[tuple[int, Any]]:
    """The number of each line of a JSON Lines file, from 1, with its values; empty lines are skipped.

    Raises:
        AvpeaError: Of class `kind`: as `read_json`.
    """
    try:
        require_regular(path, kind)
        with path.open("rb") as file:
            number = 0
            while found := file.readline(_LINE_BYTES + 1):
                number += 1
                if len(found) > _LINE_BYTES:
                    raise kind(f"{path}, line {number}: longer than {_LINE_BYTES >> 20} MiB.")
                if found.strip():
                    text = _utf_8(found, f"{path}, line {number}", kind).strip()
                    yield number, parse_json(text, str(path), kind, line=number, paths=paths)
    except OSError as error:
        raise kind(f"{path} cannot be read ({error.strerror}).") from None


def read_text(path: Path, most_bytes: int, kind: Kind, *, remedy: str = "") -> str:
    """The text of a file of at most so many bytes.

    Raises:
        AvpeaError: Of class `kind`: the file is bigger, not UTF-8, or a pipe or device.
        OSError: The file cannot be read.
    """
    require_regular(path, kind)
    with path.open("rb") as file:
        found = file.read(most_bytes + 1)
    if len(found) > most_bytes:
        raise kind(f"{path}: bigger than {most_bytes >> 20} MiB, which no such file is{_ending(remedy)}")
    return _utf_8(found, str(path), kind, remedy)


def require_regular(path: Path, kind: Kind) -> os.stat_result:
    """What the system knows of a file that can be read to its end, or of a folder: opening that says what it is.

    Raises:
        AvpeaError: Of class `kind`: it is a named pipe, which would be waited for, or a device, which may never end.
        OSError: It may not be looked at.
    """
    about = path.stat()
    if what := irregular(about.st_mode):
        raise kind(f"{path} is {what}; expected a file.")
    return about


def irregular(mode: int) -> str:
    """What something is by its mode; empty if it is a file or a folder."""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "no regular file, but a pipe, a socket or a device"


def _ending(remedy: str) -> str:
    return f"; {remedy}." if remedy else "."


def _utf_8(found: bytes, source: str, kind: Kind, remedy: str = "") -> str:
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"{error.reason} at byte {error.start:,}"
        raise kind(f"{source}: not UTF-8 text ({place}){_ending(remedy)}") from None


def _require_small(node: yaml.Node, known: dict[int, tuple[int, int]], above: set[int]) -> tuple[int, int]:
    """Values and levels that a node stands for, with all aliases written out; each node is visited once.

    Raises:
        _Refused: Too many, or the node contains itself.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1, 0
    line = node.start_mark.line + 1
    if id(node) in above:
        raise _Refused(f"the list or mapping in line {line} contains itself")
    if id(node) not in known:
        above.add(id(node))
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes = [_require_small(part, known, above) for part in parts]
        above.discard(id(node))
        values, levels = 1 + sum(size[0] for size in sizes), 1 + max((size[1] for size in sizes), default=0)
        if values > _VALUES or levels > _DEPTH:
            raise _Refused(
                f"the list or mapping in line {line} stands for more than {_VALUES:,} values or {_DEPTH} levels, its "
                "aliases written out"
            )
        known[id(node)] = values, levels
    return known[id(node)]


def _require_plain(value: Any, paths: bool = False) -> None:
    """Refuse what is too deep, and text that cannot be written again; with `paths`, not even as a file's name.

    Raises:
        _Refused: It is.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEPTH:
            raise _Refused(f"more than {_DEPTH} levels of lists and mappings")
        texts = [one for one in level if isinstance(one, str)]
        texts += [key for one in level if isinstance(one, dict) for key in one if isinstance(key, str)]
        wrong = next((one for one in texts if "\0" in one or not (one.isascii() or _is_text(one, paths))), None)
        if wrong is not None:
            raise _Refused(
                f"the text {ascii(wrong)[:60]} has a null or half of a surrogate pair, which is no character"
            )
        inside: list[Any] = []
        for one in level:
            if isinstance(one, list | tuple | set):
                inside.extend(one)
            elif isinstance(one, dict):
                inside.extend(one.values())
        level = inside


def _is_text(text: str, paths: bool) -> bool:
    try:
        text.encode("utf-8", "surrogateescape" if paths else "strict")
    except UnicodeEncodeError:
        return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand in it once; of two, JSON readers keep the last and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Refused(f"the key {ascii(twice)[:60]} stands twice in one object")
    return found


def _whole(digits: str) -> int:
    value = int(digits) if len(digits) < 25 else BIGGEST
    if abs(value) >= BIGGEST:
        raise _Refused(f"the number {digits[:40]}; expected less than 2**63")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f"the number {digits[:40]}; expected one that is finite")
    return value


def _no_number(name: str) -> float:
    raise _Refused(f"{name}, which is no number; expected a finite one")
