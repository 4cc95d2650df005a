"""What a request asks of the sampler, checked once, at the door."""

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, cast

from ilmari.errors import RequestError

MAX_STOPS: Final = 4
MAX_STOP_CHARS: Final = 256
MAX_STOP_TOKEN_IDS: Final = 128
MAX_LOGPROBS: Final = 20

GREEDY_BELOW: Final = 1e-5
"""A temperature below this is 0, as in vLLM: dividing by it would leave nothing but the best token anyway."""

_INT32_MAX: Final = 2**31 - 1
_INT64_MAX: Final = 2**63 - 1


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
    | `max_tokens` | the most tokens to write; None is as many as the model's context holds |
    | `seed` | makes the answer reproducible; None draws anew each time |
    | `stop` | strings that end the answer; one string, a list or None, stored as a tuple (read it with `stops`) |
    | `stop_token_ids` | tokens that end the answer, stored as a tuple |
    | `ignore_eos` | writes on after the model's own end token |
    | `logprobs` | how many of the most probable tokens to report at each position; None reports nothing |
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
    max_tokens: int | None = 16
    seed: int | None = None
    stop: Sequence[str] | str | None = None
    stop_token_ids: Sequence[int] | None = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule.read(name, getattr(self, name)))

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
            RequestError: an id of `stop_token_ids` is not below `vocab_size`.
        """
        for index, token_id in enumerate(self.stop_token_ids or ()):
            if token_id >= vocab_size:
                raise _refusal(f"stop_token_ids[{index}]", token_id, f"a token id of the model, 0 to {vocab_size - 1}")


class _Brief(reprlib.Repr):
    """A short repr that also survives integers which Python refuses to print."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= 64 else f"an integer of {x.bit_length()} bits"


def _refusal(name: str, found: object, expected: str) -> RequestError:
    return RequestError(f"{name} is {_Brief().repr(found)}; it must be {expected}.")


@dataclass(frozen=True)
class _Scalar:
    """One value: what it must be, in words and as a test, and the plain type that is stored."""

    expected: str
    allows: Callable[[Any], bool]
    store: Callable[[Any], object]

    def read(self, name: str, value: object) -> object:
        if not self.allows(value):
            raise _refusal(name, value, self.expected)
        return self.store(value)


@dataclass(frozen=True)
class _Tuple:
    """Up to `most` values, stored as a tuple; a lone string counts as one value, None as none."""

    most: int
    element: _Scalar

    def read(self, name: str, value: object) -> tuple[object, ...]:
        values = () if value is None else (value,) if isinstance(value, str) else value
        expected = f"a list of at most {self.most}, each {self.element.expected}"
        if not isinstance(values, Sequence):
            raise _refusal(name, value, expected)
        if len(values) > self.most:
            raise RequestError(f"{name} has {len(values)} entries; it must be {expected}.")
        return tuple(self.element.read(f"{name}[{index}]", entry) for index, entry in enumerate(values))


def _is(kind: type, value: object) -> bool:
    """Whether `value` is a `kind`, numpy's scalars included; True is no number."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _integer(low: int, high: int) -> _Scalar:
    return _Scalar(f"an integer from {low} to {high}", lambda value: _is(Integral, value) and low <= value <= high, int)


def _number(low: float, high: float) -> _Scalar:
    return _Scalar(f"a number from {low} to {high}", lambda value: _is(Real, value) and low <= value <= high, float)


def _or_none(rule: _Scalar) -> _Scalar:
    return _Scalar(
        f"{rule.expected}, or None",
        lambda value: value is None or rule.allows(value),
        lambda value: None if value is None else rule.store(value),
    )


_FLAG = _Scalar("True or False", lambda value: isinstance(value, bool), bool)
_PROBABILITY = _Scalar("a number above 0 and up to 1", lambda value: _is(Real, value) and 0 < value <= 1, float)
_STOP = _Scalar(
    f"a string of 1 to {MAX_STOP_CHARS} characters",
    lambda value: isinstance(value, str) and 1 <= len(value) <= MAX_STOP_CHARS,
    str,
)

_RULES: Final[dict[str, _Scalar | _Tuple]] = {
    "temperature": _number(0, 100),
    "top_k": _integer(-1, _INT32_MAX),
    "top_p": _PROBABILITY,
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.01, 100),
    "max_tokens": _or_none(_integer(1, _INT32_MAX)),
    "seed": _or_none(_integer(0, _INT64_MAX)),
    "stop": _Tuple(MAX_STOPS, _STOP),
    "stop_token_ids": _Tuple(MAX_STOP_TOKEN_IDS, _integer(0, _INT32_MAX)),
    "ignore_eos": _FLAG,
    "logprobs": _or_none(_integer(0, MAX_LOGPROBS)),
    "include_stop_str_in_output": _FLAG,
    "skip_special_tokens": _FLAG,
}
