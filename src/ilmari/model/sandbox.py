"""Where foreign templates run: they reach plain data alone, and what they build is counted before it is built."""

import functools
import json
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from typing import Any

from jinja2 import Template, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_BYTES = 32 << 20
MAX_SECONDS = 10.0
"""Of a thread's own time, which does not pass while others have the CPU."""
MAX_PRODUCT = 1 << 24
MAX_RANGE_TOTAL = 10_000
_MAX_INDENT = 16
_STEP_BYTES = 128  # what doing anything costs, however small: steps are bounded too
_PART_BYTES = 84  # one of many short strings in a list

_METHODS = frozenset(
    {"capitalize", "changed", "count", "cycle", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdigit"}
    | {"isspace", "items", "keys", "lower", "lstrip", "removeprefix", "removesuffix", "rfind", "rstrip", "startswith"}
    | {"strip", "title", "upper", "values"}
)
"""What may be called besides `join`, `replace` and `split`, which are bounded."""

_TEXT_FILTERS = ("capitalize", "lower", "title", "trim", "upper")
_FILTERS = (
    *("abs", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length", "map", "max"),
    *("min", "reject", "rejectattr", "reverse", "select", "selectattr"),
)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja set up as Hugging Face does for chat templates, for one rendering: the budget is spent once.

    Filters and methods are those that chat templates use and that make no more than they are given; where a few make
    more (`join`, `replace`, `split`, `tojson`), and where values become text, the size is spent beforehand. There is no
    string formatting, whose widths make much out of nothing. What a template computes is stopped between two steps once
    it takes too long; there is no bound on a single one.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        # Unoptimized: the optimizer would evaluate constant expressions while the template is compiled.
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=["jinja2.ext.loopcontrols"])
        self._bytes_left = MAX_BYTES
        self._range_left = MAX_RANGE_TOTAL
        self._end = time.thread_time() + MAX_SECONDS
        self.finalize = self._output
        self.globals = {"namespace": self.globals["namespace"], "dict": dict}
        self.globals |= {"range": self._range, "raise_exception": _raise_exception}
        known = self.filters
        self.filters = {name: self._metered(known[name]) for name in _FILTERS}
        self.filters |= {name: self._metered(self._of_text(known[name])) for name in _TEXT_FILTERS}
        self.filters |= {"list": self._list, "made": self._made, "safe": self._text, "string": self._text}
        self.filters |= {"join": self._join, "replace": self._replace, "tojson": self._to_json}

    def compiled(self, source: str) -> Any:
        """Code of `source`, for `rendered` of this or another sandbox; Jinja's errors."""
        return self.compile(_Metering().visit(self.parse(source)))

    def rendered(self, code: Any, variables: Mapping[str, Any]) -> str:
        """What the template writes, given `variables`; it can raise anything."""
        return Template.from_code(self, code, self.make_globals(None)).render(variables)

    # Jinja's own hooks

    def concat(self, chunks: Iterable[str]) -> str:
        return "".join(self._counted(chunks))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise SecurityError("it raises to a power")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("it formats with %, where only a remainder may be taken")
        if operator == "*":
            if _extent(left) * _extent(right) > MAX_PRODUCT:
                raise SecurityError(f"a product exceeds {MAX_PRODUCT}")
            for sequence, count in ((left, right), (right, left)):
                if isinstance(sequence, Sized) and isinstance(count, int):
                    self._spend(sys.getsizeof(sequence) * max(count, 0))
        if operator == "+":
            self._spend(sys.getsizeof(left) + sys.getsizeof(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._spend(sum(map(sys.getsizeof, (*args, *kwargs.values()))))
        return self._made(super().call(context, called, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return super().is_safe_attribute(obj, attr, value) and (not callable(value) or attr in _METHODS)

    def wrap_str_format(self, value: Any) -> Callable[..., Any] | None:
        """Methods of strings that are replaced; Jinja does so for `format`, which there is none of here."""
        text = getattr(value, "__self__", None)
        if not isinstance(text, str) or not callable(value):
            return None
        bounded: dict[str, Callable[..., Any]] = {
            "join": lambda values: self._join(values, text),
            "replace": lambda old, new, count=-1: self._replace(text, old, new, count),
            "split": lambda sep=None, maxsplit=-1: self._split(text, sep, maxsplit),
        }
        return bounded.get(value.__name__)

    # The budget

    def _spend(self, size: int) -> None:
        self._bytes_left -= size + _STEP_BYTES
        if self._bytes_left < 0:
            raise SecurityError(f"it builds more than {MAX_BYTES >> 20} MiB")
        if time.thread_time() > self._end:
            raise SecurityError(f"it computes for more than {MAX_SECONDS:g} s")

    def _made(self, value: Any) -> Any:
        self._spend(sys.getsizeof(value))
        return value

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        return map(self._made, values)

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # with Jinja's mark of what it wants besides its arguments
        def metered(*args: Any, **kwargs: Any) -> Any:
            return self._made(function(*args, **kwargs))

        return metered

    # What templates call

    @pass_context  # which keeps Jinja from evaluating constants while the template is compiled
    def _output(self, _: Context, value: Any) -> str:
        return value if isinstance(value, str) else self._text(value)

    def _text(self, value: Any) -> str:
        """A value as text, once all that it holds is spent: a list may hold another many times, and so on inwards."""
        pending = [value]
        while pending:
            item = pending.pop()
            self._spend(sys.getsizeof(item))
            if isinstance(item, Mapping):
                pending += item.values()
            if isinstance(item, Collection) and not isinstance(item, str):
                pending += item
            elif not isinstance(item, str | int | float | Undefined | None):
                raise SecurityError(f"it writes a value of type {type(item).__name__}")
        return str(value)

    def _of_text(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda value, *args, **kwargs: function(self._text(value), *args, **kwargs)

    def _list(self, values: Iterable[Any]) -> list[Any]:
        return list(self._counted(values))

    def _join(self, values: Iterable[Any], separator: str = "") -> str:
        texts = [self._text(value) for value in values]
        self._spend(sys.getsizeof(separator) * len(texts))
        return separator.join(texts)

    def _replace(self, value: Any, old: str, new: str, count: int = -1) -> str:
        text = self._text(value)
        self._spend(text.count(old) * sys.getsizeof(new))
        return text.replace(old, new, -1 if count is None else count)

    def _split(self, text: str, separator: str | None, limit: int) -> list[str]:
        most = len(text) // 2 if separator is None else text.count(separator)
        self._spend(sys.getsizeof(text) + _PART_BYTES * (most if limit < 0 else min(limit, most)))
        return text.split(separator, limit)

    def _to_json(self, value: Any, indent: int | None = None) -> str:
        """JSON as Hugging Face writes it: no HTML escapes, Unicode kept."""
        if indent is not None and indent > _MAX_INDENT:
            raise SecurityError(f"it indents by {indent}, beyond {_MAX_INDENT}")
        return self.concat(json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value))

    def _range(self, *arguments: int) -> range:
        """The lengths of all ranges together are bounded, so nested ones are too."""
        numbers = range(*arguments)
        self._range_left -= max(1, len(numbers))
        if self._range_left < 0:
            raise SecurityError(f"its ranges count beyond {MAX_RANGE_TOTAL}")
        return numbers


class _Metering(NodeTransformer):
    """Leads through filters of the sandbox what Jinja would do without asking it: `~`, loops, literals, slices."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "join", node)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "list", node)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "made", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.Expr) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "made", node)

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "made", node) if node.ctx == "load" else node


def _filtered(value: nodes.Node, name: str, at: nodes.Node) -> nodes.Expr:
    return nodes.Filter(value, name, [], [], None, None, lineno=at.lineno, environment=at.environment)


def _extent(factor: Any) -> float:
    return len(factor) if isinstance(factor, Sized) else abs(factor)


def _raise_exception(message: str) -> Any:
    raise TemplateError(message)
