"""Prompts from requests: templates and tokenizers run in threads of their own, for a limited time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ilmari.errors import RequestError
from ilmari.server.chat_request import Conversation
from ilmari.server.errors import ApiError
from ilmari.server.limits import PROMPT_THREADS, PROMPT_TIMEOUT_S
from ilmari.server.served_model import ServedModel
from ilmari.server.tool_prompt import prompt_turns

T = TypeVar("T")


class PromptThreads:
    """Runs what may take long off the event loop, so that running replies go on."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(PROMPT_THREADS, thread_name_prefix="prompts")

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns.

        Raises:
            ApiError: time is up. A thread cannot be stopped; a template ends by itself after some time (see `Sandbox`).
        """
        try:
            async with asyncio.timeout(PROMPT_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._pool, function)
        except TimeoutError as error:
            raise ApiError(503, f"The prompt was not read within {PROMPT_TIMEOUT_S:g} s; try again.") from error

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def encode(model: ServedModel, prompt: str | list[int], *, add_bos: bool = True) -> list[int]:
    """Token ids of one prompt, if the model takes it.

    Raises:
        RequestError: it is empty, too long or holds an id that the model has not.
    """
    ids = model.engine.tokenizer.encode(prompt, add_bos=add_bos) if isinstance(prompt, str) else prompt
    return checked(model, ids)


def encode_chat(model: ServedModel, conversation: Conversation) -> list[int]:
    """Token ids of a conversation, by the model's template.

    Raises:
        RequestError: as `encode`, and where the template refuses.
    """
    return checked(model, model.engine.tokenizer.encode(render(model, conversation), add_bos=False, parse_special=True))


def render(model: ServedModel, conversation: Conversation) -> str:
    """A conversation as text. What `continue_final_message` continues ends where its content ends.

    Raises:
        ApiError: a new reply and the old one's end are asked for at once.
        RequestError: the template refuses.
    """
    template, escape = model.engine.chat_template, model.engine.tokenizer.escape_special
    given = [message.turn for message in conversation.messages]
    turns = prompt_turns(given, conversation.offer, escape, native=template.takes_tools)
    variables = {
        name: escape(value) if isinstance(value, str) else value
        for name, value in (conversation.chat_template_kwargs or {}).items()
    }
    if not conversation.continue_final_message:
        begin = conversation.add_generation_prompt is not False
        return template.render(turns.messages, tools=turns.tools, add_generation_prompt=begin, variables=variables)
    if conversation.add_generation_prompt:
        raise ApiError(400, "add_generation_prompt and continue_final_message are both true; choose one.")
    mark = secrets.token_hex(16)  # keeps the template from trimming the content's end, too
    *earlier, final = turns.messages
    marked = [*earlier, {**final, "content": final["content"] + mark}]
    text, found, _ = template.render(
        marked, tools=turns.tools, add_generation_prompt=False, variables=variables
    ).partition(mark)
    if not found:
        raise RequestError("the chat template leaves out the final message, so it cannot be continued.")
    return text


def checked(model: ServedModel, ids: list[int]) -> list[int]:
    """`ids`, if they are a prompt for the model.

    Raises:
        RequestError: they are none, too many, or not in the vocabulary.
    """
    vocab_size = model.engine.manifest.model.vocab_size
    if not ids:
        raise RequestError("The prompt is empty; give at least one token.")
    if len(ids) > model.max_prompt_len:
        raise RequestError(f"The prompt has {len(ids)} tokens and the model takes {model.max_prompt_len}; shorten it.")
    if (highest := max(ids)) >= vocab_size:
        raise RequestError(f"The prompt has token id {highest}; the model's are 0 to {vocab_size - 1}.")
    return ids
