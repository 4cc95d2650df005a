"""What a request asks of the sampler, checked once, at the door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Final, cast

from ilmari.engine.field_rules import Scalar, Table, Tuple, integer, is_a, number, or_none, refusal
from ilmari.errors import RequestError

MAX_STOPS: Final = 4
MAX_STOP_CHARS: Final = 256
MAX_STOP_TOKEN_IDS: Final = 128
MAX_LOGPROBS: Final = 20
MAX_LOGIT_BIASES: Final = 300
MAX_ALLOWED_TOKEN_IDS: Final = 2**20

GREEDY_BELOW: Final = 1e-5
"""A temperature below this is 0, as in vLLM: dividing by it would leave nothing but the best token anyway."""

_INT32_MAX: Final = 2**31 - 1
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class StructuredOutputs:
    """What the text of an answer must be; exactly one of these.

    json: a JSON value of this schema, given as text. json_object: any JSON object. regex: a match of the whole text.
    grammar: a sentence of this grammar, in Lark's syntax.

    Raises:
        RequestError: none or several are given, or one has the wrong type. The grammar itself is checked by `Grammars`.
    """

    json: str | None = None
    json_object: bool = False
    regex: str | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        for name, rule in _STRUCTURED_RULES.items():
            object.__setattr__(self, name, rule.read(f"structured_outputs.{name}", getattr(self, name)))
        given = [option.name for option in fields(self) if getattr(self, option.name) not in (None, False)]
        if len(given) != 1:
            raise RequestError(
                f"structured_outputs has {' and '.join(given) or 'nothing'}; it must have exactly one of "
                f"{', '.join(option.name for option in fields(self))}."
            )


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How one answer is drawn and where it ends; names and defaults are vLLM's.

    | field | what it does |
    |---|---|
    | `temperature` | divides the logits; 0 takes the most probable token, the lowest id of equals |
    | `top_k` | keeps the k most probable tokens; 0 and -1 keep all |
    | `top_p` | keeps the fewest most probable tokens that together reach this probability |
    | `min_p` | keeps tokens at least this probable relative to the most probable one |
    | `repetition_penalty` | makes tokens of the prompt and the answer less likely if above 1, more likely if below |
    | `presence_penalty` | subtracted from the logits of tokens that the answer has, makes them less likely if above 0 |
    | `frequency_penalty` | the same, once for each time that the answer has the token |
    | `logit_bias` | numbers added to the logits of some tokens, by token id |
    | `allowed_token_ids` | the only tokens that may be drawn, stored as a tuple; None allows all |
    | `min_tokens` | tokens to write before a stop token may be drawn |
    | `structured_outputs` | what the text must be; see `StructuredOutputs` |
    | `max_tokens` | the most tokens to write; None is as many as the model's context holds |
    | `seed` | makes the answer reproducible; None draws anew each time |
    | `stop` | strings that end the answer; one string, a list or None, stored as a tuple (read it with `stops`) |
    | `stop_token_ids` | tokens that end the answer, stored as a tuple |
    | `ignore_eos` | writes on after the model's own end token |
    | `logprobs` | how many of the most probable tokens to report at each position; None reports nothing |
    | `prompt_logprobs` | the same at each position of the prompt |
    | `include_stop_str_in_output` | shows the stop string itself |
    | `skip_special_tokens` | leaves control tokens out of the text |

    Raises:
        RequestError: a field has the wrong type or lies outside its bounds; the sentence names it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False)
    allowed_token_ids: Sequence[int] | None = None
    min_tokens: int = 0
    structured_outputs: StructuredOutputs | None = None
    max_tokens: int | None = 16
    seed: int | None = None
    stop: Sequence[str] | str | None = None
    stop_token_ids: Sequence[int] | None = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule.read(name, getattr(self, name)))
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise refusal("min_tokens", self.min_tokens, f"an integer from 0 to max_tokens, {self.max_tokens}")

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken, with no draw."""
        return self.temperature < GREEDY_BELOW

    @property
    def stops(self) -> tuple[str, ...]:
        """`stop` as it is stored."""
        return cast(tuple[str, ...], self.stop)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Hold the token ids against the model, which is not known when the parameters are made.

        Raises:
            RequestError: an id of `stop_token_ids`, `allowed_token_ids` or `logit_bias` is not below `vocab_size`, or
                `allowed_token_ids` has more ids than there are.
        """
        if len(self.allowed_token_ids or ()) > vocab_size:
            raise RequestError(
                f"allowed_token_ids has {len(self.allowed_token_ids or ())} entries; it must be a list of at most "
                f"{vocab_size}, each a token id of the model."
            )
        named = {
            "stop_token_ids": enumerate(self.stop_token_ids or ()),
            "allowed_token_ids": enumerate(self.allowed_token_ids or ()),
            "logit_bias": ((token_id, token_id) for token_id in self.logit_bias or ()),
        }
        for name, ids in named.items():
            for place, token_id in ids:
                if token_id >= vocab_size:
                    raise refusal(f"{name}[{place}]", token_id, f"a token id of the model, 0 to {vocab_size - 1}")


_FLAG = Scalar("True or False", lambda value: isinstance(value, bool), bool)
_PROBABILITY = Scalar("a number above 0 and up to 1", lambda value: is_a(Real, value) and 0 < value <= 1, float)
_TEXT = Scalar("a text", lambda value: isinstance(value, str), str)
_TOKEN_ID = integer(0, _INT32_MAX)
_STOP = Scalar(
    f"a string of 1 to {MAX_STOP_CHARS} characters",
    lambda value: isinstance(value, str) and 1 <= len(value) <= MAX_STOP_CHARS,
    str,
)

_STRUCTURED = Scalar(
    "StructuredOutputs, or None",
    lambda value: value is None or isinstance(value, StructuredOutputs),
    lambda value: value,
)

_STRUCTURED_RULES: Final[dict[str, Scalar]] = {
    "json": or_none(_TEXT),
    "json_object": _FLAG,
    "regex": or_none(_TEXT),
    "grammar": or_none(_TEXT),
}

_RULES: Final[dict[str, Scalar | Tuple | Table]] = {
    "temperature": number(0, 100),
    "top_k": integer(-1, _INT32_MAX),
    "top_p": _PROBABILITY,
    "min_p": number(0, 1),
    "repetition_penalty": number(0.01, 100),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "logit_bias": Table(MAX_LOGIT_BIASES, _TOKEN_ID, number(-100, 100)),
    "allowed_token_ids": Tuple(MAX_ALLOWED_TOKEN_IDS, _TOKEN_ID, least=1, none=None),
    "min_tokens": integer(0, _INT32_MAX),
    "structured_outputs": _STRUCTURED,
    "max_tokens": or_none(integer(1, _INT32_MAX)),
    "seed": or_none(integer(0, _INT64_MAX)),
    "stop": Tuple(MAX_STOPS, _STOP),
    "stop_token_ids": Tuple(MAX_STOP_TOKEN_IDS, _TOKEN_ID),
    "ignore_eos": _FLAG,
    "logprobs": or_none(integer(0, MAX_LOGPROBS)),
    "prompt_logprobs": or_none(integer(0, MAX_LOGPROBS)),
    "include_stop_str_in_output": _FLAG,
    "skip_special_tokens": _FLAG,
}
