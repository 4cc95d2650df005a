"""A conversation with a model: what was said so far, and whether more fits."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from ilmari.errors import RequestError

if TYPE_CHECKING:
    from ilmari.engine.llm import LLM, Message
    from ilmari.engine.output import RequestOutput
    from ilmari.engine.sampling_params import SamplingParams


class Conversation:
    """Messages in turn; `system`, if any, comes before all of them."""

    def __init__(self, llm: LLM, params: SamplingParams, system: str | None) -> None:
        """
        Raises:
            RequestError: the model has no chat template, or its template takes no system message.
        """
        self._llm = llm
        self._params = params
        self._opening: list[Message] = [] if system is None else [_message("system", system)]
        self._messages = self._opening
        llm.render([*self._opening, _message("user", "")])

    def clear(self) -> None:
        """Forget everything but the system message."""
        self._messages = self._opening

    def stream(self, text: str) -> Generator[RequestOutput]:
        """Send a message and give the reply as it grows; closing it stops the reply.

        The message and what was said in reply, whole or not, join the conversation; with no reply neither does.

        Raises:
            RequestError: the conversation has become too long, or the message cannot be encoded.
        """
        turn = [*self._messages, _message("user", text)]
        prompt = self._llm.render(turn)
        limit = self._llm.manifest.max_prompt_len
        if len(prompt) > limit:
            raise RequestError(
                f"With this message the conversation has {len(prompt):,} tokens and the model takes {limit:,}; "
                "/clear starts over, or send a shorter message."
            )
        reply = ""
        with closing(self._llm.stream(prompt, self._params)) as outputs:
            try:
                for output in outputs:
                    reply = output.outputs[0].text
                    yield output
            finally:
                if reply:
                    self._messages = [*turn, _message("assistant", reply)]

    def ending(self, request: RequestOutput) -> str:
        """Why a reply ended before the model ended it, if so, in a few words."""
        output = request.outputs[0]
        if output.finish_reason is None:
            return "stopped"
        if output.finish_reason != "length":
            return ""
        length = len(request.prompt_token_ids) + len(output.token_ids)
        limit = self._llm.manifest.max_seq_len
        return f"cut off at the model's {limit:,} tokens" if length == limit else "cut off at --max-tokens"


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
