"""The marks of InternLM2's tool format, in the prompt and in replies.

The format: https://github.com/InternLM/InternLM/blob/main/chat/chat_format.md. A model whose tokenizer has no tokens of
these names writes and reads them as ordinary text.
"""

ACTION_START = "<|action_start|>"
ACTION_END = "<|action_end|>"
PLUGIN = "<|plugin|>"
INTERPRETER = "<|interpreter|>"
MARKERS = (ACTION_START, ACTION_END, PLUGIN, INTERPRETER, "<|im_start|>", "<|im_end|>")
"""What is never shown to a client."""

INTERPRETER_NAME = "python_interpreter"
"""The function that a call of the code interpreter is reported as, with arguments {"code": ...}."""

TOOL_NAME = "[a-zA-Z0-9_.-]{1,64}"
"""A regular expression."""
