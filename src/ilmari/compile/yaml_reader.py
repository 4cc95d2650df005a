"""Plain YAML from strangers: bounded, without tags, aliases or repeated keys; every mistake is one sentence."""

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.reader import ReaderError

from ilmari.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_DIGITS = 20

# Without the timestamp, `=` and merge (`<<`) rules such text stays what it looks like: a string.
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}


class _PlainLoader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        if isinstance(event, AliasEvent):
            raise ComposerError(None, None, "aliases are not accepted here, write the value out", mark)
        if event.tag is not None:
            raise ComposerError(None, None, "tags are not accepted here, write the plain value", mark)
        if self._depth == MAX_DEPTH:
            raise ComposerError(None, None, f"more than {MAX_DEPTH} levels of nesting", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[object, object]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in lines:
                problem = f"the key {key.value} is given twice, first on line {lines[name]}"
                raise ConstructorError(None, None, problem, key.start_mark)
            lines[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _integer(loader: _PlainLoader, node: ScalarNode) -> int:
    try:
        if len(node.value) > MAX_DIGITS:
            raise ValueError(node.value)
        return loader.construct_yaml_int(node)
    except ValueError:
        problem = f"{node.value[:MAX_DIGITS]} is not an integer of at most {MAX_DIGITS} digits"
        raise ConstructorError(None, None, problem, node.start_mark) from None


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag in _SCALARS]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_yaml(path: Path) -> dict[str, object]:
    """Read the mapping that a YAML file holds.

    Raises:
        ConfigError: the file cannot be read, is larger than `MAX_BYTES`, is not UTF-8, or is not one plain mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as a configuration: {error.strerror or error}.") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES // 1024} KiB, so it is no configuration; give a YAML file."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        raise ConfigError(f"{path} is empty; a configuration needs at least name, frontend, backend and workspace.")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {kind_of(tree)}; a configuration is a mapping of keys to values.")
    return tree


def parse_yaml(text: str, origin: str) -> object:
    """Parse one plain YAML document; `origin` begins the sentence about a mistake.

    Raises:
        ConfigError: the text is not plain YAML; the sentence says line, column and what is wrong.
    """
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise ConfigError(f"{origin}, line {line}: {problem}; remove it.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{origin}{where}: {error.problem}; correct the YAML there.") from None


_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def kind_of(value: object) -> str:
    """The type of a parsed value in the words of a YAML author."""
    return _KINDS[type(value)]
