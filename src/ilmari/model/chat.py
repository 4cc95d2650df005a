"""Messages to a prompt, by the checkpoint's own template."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import TemplateSyntaxError, meta

from ilmari.errors import ArtifactError, RequestError
from ilmari.model.sandbox import Sandbox

CHAT_TEMPLATE_FILE = "chat_template.jinja"

_REQUIRED_FIELDS = ("role", "content")
_OWN_VARIABLES = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}


class ChatTemplate:
    """A Jinja chat template, run in a sandbox.

    Templates come with checkpoints, so they are foreign code: they reach no Python object beyond plain data, change
    nothing, import nothing, and what they build is bounded, and how many steps they compute. A server renders off its
    event loop. There is no clock (`strftime_now`): a prompt depends on its messages alone.
    """

    def __init__(
        self, source: str | None, bos_token: str, eos_token: str, file: str | Path = CHAT_TEMPLATE_FILE
    ) -> None:
        """Compile `source`, which is of `file`; None is a base model, whose `render` refuses.

        Raises:
            ArtifactError: the template has a syntax error.
        """
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._read = frozenset[str]()
        try:
            self._code = None if source is None else Sandbox().compiled(source)
            if source is not None:
                self._read = frozenset(meta.find_undeclared_variables(Sandbox().parse(source)))
        except TemplateSyntaxError as error:
            reason = str(error.message).rstrip(".")
            raise ArtifactError(
                f"{file}, line {error.lineno}: {reason}; mend the template, and compile again if it is the model's own."
            ) from error
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise ArtifactError(f"{file} is nested too deeply to compile; use a simpler one.") from error

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

    @property
    def present(self) -> bool:
        """Whether there is a template: chat models have one, base models do not."""
        return self._code is not None

    @property
    def takes_tools(self) -> bool:
        """Whether the template itself writes tools into the prompt, and the calls of earlier turns."""
        return "tools" in self._read

    @property
    def variables(self) -> frozenset[str]:
        """What the template reads that only a request can give it."""
        return self._read - _OWN_VARIABLES - Sandbox().globals.keys()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        variables: Mapping[str, bool | int | str] = MappingProxyType({}),
        escape: Callable[[str], str] = str,
    ) -> str:
        """The prompt for `messages`, each `{"role": str, "content": str}`; other keys are the template's affair.

        Encode it with `parse_special=True`, and put what strangers wrote through `Tokenizer.escape_special`, beforehand
        or as `escape` for all contents: it could end its turn and begin another. `tools` are for a template that takes
        them, in OpenAI's form.
        `add_generation_prompt` ends the prompt where the assistant's answer begins. `variables` are those that the
        template reads beside these.

        Raises:
            RequestError: there is no template, it reads no such variable, a message is malformed, or the template
                refuses or fails.
        """
        if self._code is None:
            raise RequestError("the model has no chat template, as base models have none; use generate with a text.")
        _check(messages)
        if unknown := sorted(variables.keys() - self.variables):
            known = ", ".join(sorted(self.variables)) or "none"
            raise RequestError(f"the chat template reads no variable {unknown[0]!r}; those that may be set: {known}.")
        given = {
            **variables,
            "messages": [{**message, "content": escape(message["content"])} for message in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        if tools:
            given["tools"] = [dict(tool) for tool in tools]
        try:
            return Sandbox().rendered(self._code, self._tokens | given)
        except Exception as error:  # foreign code: it can fail in any way
            reason = str(error).rstrip(".") or type(error).__name__
            raise RequestError(f"the chat template cannot render these messages: {reason}.") from error


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
