"""Messages to a prompt, by the checkpoint's own template."""

import json
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ilmari.errors import ArtifactError, RequestError

CHAT_TEMPLATE_FILE = "chat_template.jinja"

MAX_PROMPT_CHARS = 1 << 24
MAX_RANGE_TOTAL = 10_000
_REQUIRED_FIELDS = ("role", "content")


class ChatTemplate:
    """A Jinja chat template, run in a sandbox.

    Templates come with checkpoints, so they are foreign code: they reach no Python object beyond plain data, change
    nothing, import nothing, and their ranges, products and output are bounded. A template bent on it can still take
    long or build much inside; a server renders off its event loop with a time limit. There is no clock
    (`strftime_now`): a prompt depends on its messages alone.
    """

    def __init__(self, source: str | None, bos_token: str, eos_token: str) -> None:
        """Compile `source`; None is a base model, whose `render` refuses.

        Raises:
            ArtifactError: the template has a syntax error.
        """
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = None if source is None else _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ArtifactError(
                f"{CHAT_TEMPLATE_FILE}, line {error.lineno}: {error.message}; mend the template and compile again."
            ) from error
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise ArtifactError(f"{CHAT_TEMPLATE_FILE} is nested too deeply to compile; use a simpler one.") from error

    @classmethod
    def load(cls, folder: Path, bos_token: str, eos_token: str) -> "ChatTemplate":
        """Read the artifact's `tokenizer/` folder, which has a template only if the checkpoint had one.

        Raises:
            ArtifactError: the template cannot be read or has a syntax error.
        """
        path = folder / CHAT_TEMPLATE_FILE
        try:
            source = path.read_text(encoding="utf-8") if path.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); compile the model again.") from error
        return cls(source, bos_token, eos_token)

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The prompt for `messages`, each `{"role": str, "content": str}`; other keys are the template's affair.

        Encode it with `parse_special=True`. `add_generation_prompt` ends it where the assistant's answer begins.

        Raises:
            RequestError: there is no template, a message is malformed, or the template refuses or fails.
        """
        if self._template is None:
            raise RequestError("the model has no chat template, as base models have none; use generate with a text.")
        _check(messages)
        variables = {**self._tokens, "add_generation_prompt": add_generation_prompt, "range": _bounded_range()}
        chunks: list[str] = []
        length = 0
        try:
            for chunk in self._template.generate(messages=[dict(message) for message in messages], **variables):
                chunks.append(chunk)
                length += len(chunk)
                if length > MAX_PROMPT_CHARS:
                    raise SecurityError(f"it writes more than {MAX_PROMPT_CHARS} characters")
        except Exception as error:  # foreign code: it can fail in any way
            reason = str(error).rstrip(".") or type(error).__name__
            raise RequestError(f"the chat template cannot render these messages: {reason}.") from error
        return "".join(chunks)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without the operators that make much out of little."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise SecurityError("it raises to a power")
        if _extent(left) * _extent(right) > MAX_PROMPT_CHARS:
            raise SecurityError(f"a product exceeds {MAX_PROMPT_CHARS}")
        return super().call_binop(context, operator, left, right)


def _extent(factor: Any) -> float:
    return len(factor) if isinstance(factor, Sized) else abs(factor)


def _environment() -> jinja2.Environment:
    """Jinja set up as Hugging Face does for chat templates."""
    # Unoptimized: the optimizer would evaluate constant expressions while the template is compiled, out of bounds.
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    del environment.globals["lipsum"]
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON as Hugging Face writes it: no HTML escapes, Unicode kept."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _bounded_range() -> Any:
    """`range` for one rendering; the lengths of all calls together are bounded, so nested ranges are too."""
    left = MAX_RANGE_TOTAL

    def bounded_range(*arguments: int) -> range:
        nonlocal left
        numbers = range(*arguments)
        left -= max(1, len(numbers))
        if left < 0:
            raise SecurityError(f"its ranges count beyond {MAX_RANGE_TOTAL}")
        return numbers

    return bounded_range


def _check(messages: Sequence[Mapping[str, Any]]) -> None:
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence) or not messages:
        raise RequestError('messages must be a non-empty list of {"role": ..., "content": ...}.')
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise RequestError(
                f"messages[{index}] is {type(message).__name__}; expected a mapping of role and content."
            )
        for field in _REQUIRED_FIELDS:
            if field not in message:
                raise RequestError(f"messages[{index}] has no {field}; give it one, a string.")
            if not isinstance(message[field], str):
                found = type(message[field]).__name__
                raise RequestError(f"messages[{index}].{field} is {found}; expected a string, as only text is read.")
