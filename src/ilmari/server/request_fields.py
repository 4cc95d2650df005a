"""The fields that chat and text completions share, and what they ask of the sampler."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from ilmari.engine.sampling_params import (
    MAX_ALLOWED_TOKEN_IDS,
    MAX_LOGIT_BIASES,
    MAX_LOGPROBS,
    MAX_STOP_CHARS,
    MAX_STOP_TOKEN_IDS,
    MAX_STOPS,
    SamplingParams,
    StructuredOutputs,
)
from ilmari.server.errors import ApiError
from ilmari.server.json_limits import schema_text
from ilmari.server.limits import MAX_GRAMMAR_CHARS, MAX_N, MAX_NAME_CHARS, MAX_TEMPLATE_VARIABLES

_MAX_INT32 = 2**31 - 1
_MAX_INT64 = 2**63 - 1

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
TokenId = Annotated[int, Field(ge=0, le=_MAX_INT32)]
TokenCount = Annotated[int, Field(ge=1, le=_MAX_INT32)]
TopLogprobs = Annotated[int, Field(ge=0, le=MAX_LOGPROBS)]
TemplateVariables = Annotated[
    dict[Name, bool | int | Annotated[str, Field(max_length=MAX_NAME_CHARS)]], Field(max_length=MAX_TEMPLATE_VARIABLES)
]
_Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
_Grammar = Annotated[str, Field(max_length=MAX_GRAMMAR_CHARS)]
_Bias = Annotated[float, Field(ge=-100, le=100)]
_DecimalId = Annotated[str, Field(pattern=r"^\d{1,9}$")]


class Fields(BaseModel):
    """A JSON object of known fields: nothing is converted, and a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Fields):
    """What a stream tells besides text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Guide(Fields):
    """vLLM's `structured_outputs`: exactly one of them."""

    json_schema: Annotated[dict[str, Any] | _Grammar | None, Field(alias="json")] = None
    json_object: bool = False
    regex: _Grammar | None = None
    grammar: _Grammar | None = None

    def outputs(self) -> StructuredOutputs:
        """The same for the sampler.

        Raises:
            RequestError: none or several are given, or a schema is too large or too deep.
        """
        schema = self.json_schema
        return StructuredOutputs(
            json=schema_text(schema, "structured_outputs.json") if isinstance(schema, dict) else schema,
            json_object=self.json_object,
            regex=self.regex,
            grammar=self.grammar,
        )


class SchemaFormat(Fields):
    """A named JSON schema; `strict` changes nothing, as the schema always holds."""

    name: Name
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class TextFormat(Fields):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Fields):
    """A JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(Fields):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: SchemaFormat


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


class GenerationFields(Fields):
    """How replies are drawn and reported. None is as if the field were absent: clients send it.

    Some of OpenAI's fields are taken with the one value that changes nothing.
    """

    model: Name | None = None
    user: Name | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_N)] | None = None
    max_tokens: TokenCount | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=_MAX_INT32)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[_DecimalId, _Bias], Field(max_length=MAX_LOGIT_BIASES)] | None = None
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1, max_length=MAX_ALLOWED_TOKEN_IDS)] | None = None
    seed: Annotated[int, Field(ge=0, le=_MAX_INT64)] | None = None
    stop: (
        Annotated[
            Annotated[_Stop, Tag("one")] | Annotated[list[_Stop], Field(max_length=MAX_STOPS), Tag("many")],
            Discriminator(_one_or_many),
        ]
        | None
    ) = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKEN_IDS)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Field(ge=0, le=_MAX_INT32)] | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: Guide | None = None
    cache_salt: Name | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    metadata: None = None

    def sampling_params(self, **more: Any) -> SamplingParams:
        """What is asked of the sampler; `more` are parameters that the endpoints name differently.

        Raises:
            ApiError, RequestError: fields that do not go together.
        """
        named = {name: value for name in _PASSED if (value := getattr(self, name)) is not None}
        if self.logit_bias is not None:
            named["logit_bias"] = {int(token_id): bias for token_id, bias in self.logit_bias.items()}
        return SamplingParams(**named | {"structured_outputs": self._structured_outputs()} | more)

    def _structured_outputs(self) -> StructuredOutputs | None:
        if self.structured_outputs is not None and self.response_format is not None:
            raise ApiError(400, "response_format and structured_outputs are both given; give one of them.")
        if self.structured_outputs is not None:
            return self.structured_outputs.outputs()
        match self.response_format:
            case JsonObjectFormat():
                return StructuredOutputs(json_object=True)
            case JsonSchemaFormat(json_schema=format_):
                return StructuredOutputs(json=schema_text(format_.schema_, "response_format.json_schema.schema"))
        return None

    def check_together(self, most_logprobs: int, logprobs: int | None) -> None:
        """Refuse what no field forbids alone. most_logprobs: the server's own bound.

        Raises:
            ApiError: stream options without a stream, prompt logprobs with one, or too many logprobs.
        """
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options needs stream: true.", param="stream_options")
        if self.prompt_logprobs is not None and self.stream:
            raise ApiError(400, "prompt_logprobs cannot be streamed; leave out stream.", param="prompt_logprobs")
        for name, count in (("logprobs", logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            if count is not None and count > most_logprobs:
                raise ApiError(400, f"{name} is {count}; this server reports at most {most_logprobs}.", param=name)


_PASSED: Final = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"),
    *("frequency_penalty", "allowed_token_ids", "seed", "stop", "stop_token_ids", "include_stop_str_in_output"),
    *("ignore_eos", "min_tokens", "skip_special_tokens", "prompt_logprobs"),
)
"""Fields that mean the same to the sampler."""
