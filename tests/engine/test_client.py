"""The engine behind its client: the same tokens as without, and what happens when either side dies or stalls."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CompileTiny, assert_one_sentence
from damaged_artifact import flip_byte

from ilmari import LLM, SamplingParams
from ilmari.engine import client as client_module
from ilmari.engine.client import EngineClient, EngineDead
from ilmari.engine.mailbox import Mailbox
from ilmari.engine.messages import Delta
from ilmari.engine.options import EngineOptions
from ilmari.errors import ArtifactError, RequestError
