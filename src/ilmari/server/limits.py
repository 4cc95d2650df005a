"""The bounds of every request, whatever the options say; docs/serving.md lists them."""

from typing import Final

MAX_BODY_BYTES: Final = 4 << 20
MAX_HEAD_BYTES: Final = 64 << 10
"""Request line and headers together."""
HEAD_TIMEOUT_S: Final = 10.0
"""From a connection's first byte, or its opening, to the end of a request's headers."""
BODY_TIMEOUT_S: Final = 30.0
PROMPT_TIMEOUT_S: Final = 30.0
"""For rendering and tokenizing one request's prompts, the wait for a thread included."""
PROMPT_THREADS: Final = 2

MAX_N: Final = 128
MAX_PROMPTS: Final = 1024
MAX_SEQUENCES: Final = 1024
"""Replies to one request: prompts times `n`."""
MAX_LOGPROB_ENTRIES: Final = 1 << 19
"""Log-probabilities in one answer: each takes more than half a kilobyte on its way."""
MAX_MESSAGES: Final = 4096
MAX_NAME_CHARS: Final = 256
"""Names, users, salts and request ids."""
MAX_TEMPLATE_VARIABLES: Final = 16
MAX_GRAMMAR_CHARS: Final = 64 << 10
MAX_SCHEMA_BYTES: Final = 64 << 10
MAX_SCHEMA_NESTING: Final = 32
RETRY_AFTER_S: Final = 1
