"""A program with a model of several ranks: `answering.py ARTIFACT [HOSTS]` says what it generates, then why it ends."""

import sys

from ilmari import LLM, SamplingParams
from ilmari.errors import GroupError

llm = LLM(sys.argv[1], hosts=sys.argv[2] if len(sys.argv) > 2 else None)
params = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
(output,) = llm.generate([[1, 5, 9]], params)
print(output.outputs[0].token_ids, flush=True)
try:
    while True:
        llm.generate([[1, 5, 9]], params)
except GroupError as error:
    print(error, flush=True)
