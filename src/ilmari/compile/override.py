"""One `--set KEY=VALUE` of the command line."""

from dataclasses import dataclass

from ilmari.compile.schema import KEYS, unknown_key
from ilmari.compile.yaml_reader import kind_of, parse_yaml
from ilmari.errors import ConfigError


@dataclass(frozen=True)
class Override:
    """A key path and the value that replaces the file's; `value` None removes the key."""

    text: str
    path: str
    value: object

    @property
    def origin(self) -> str:
        """How a sentence about this override begins."""
        return f"--set {self.text}"

    def touches(self, path: str) -> bool:
        """Whether this sets the key at `path`, a block around it or a key inside it."""
        return f"{path}.".startswith(f"{self.path}.") or f"{self.path}.".startswith(f"{path}.")


def parse_override(text: str) -> Override:
    """Read `a.b.c=VALUE`, where VALUE is a YAML scalar or flow value and a plain `null` removes the key.

    Raises:
        ConfigError: no `=`, no key, no value, or a value that is not YAML.
    """
    path, equals, raw = text.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(f"--set {text}: expected KEY=VALUE with a dotted key, such as backend.dtype=fp16.")
    value = parse_yaml(raw, f"--set {text}")
    if value is None and raw.strip() != "null":
        raise ConfigError(f"--set {text}: `{path}` gets no value; write one, or null to remove the key.")
    return Override(text, path, value)


def apply_override(tree: dict[str, object], override: Override) -> None:
    """Change `tree` in place; blocks on the way that are absent or empty are made.

    Removing takes any key that the file has, so an unknown one can be dropped; else only a known one.

    Raises:
        ConfigError: the file has a plain value where a block belongs, or the key to remove is unknown.
    """
    *blocks, last = override.path.split(".")
    node = tree
    for depth, name in enumerate(blocks, start=1):
        inner = node.get(name)
        if inner is None:
            inner = node[name] = {}
        if not isinstance(inner, dict):
            parent = ".".join(blocks[:depth])
            raise ConfigError(f"{override.origin}: `{parent}` is {kind_of(inner)} in the file; expected a mapping.")
        node = inner
    if override.value is not None:
        node[last] = override.value
    elif last in node:
        del node[last]
    elif override.path not in KEYS:
        raise ConfigError(f"{override.origin}: {unknown_key(override.path.split('.'))}")
