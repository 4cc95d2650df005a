"""The names and shapes of InternLM2's weights, as one table.

Every tensor of a checkpoint must be in the table and every weight of the table in the checkpoint: exporters that let
an unknown name pass have written models of random weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ilmari.checkpoint.safetensors import SafetensorsFile
from ilmari.errors import CheckpointError
from ilmari.model.config import ModelConfig

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightName:
    """One row: ilmari's name, the name in files (`{layer}` stands for the layer's number), the shape.

    A weight that is not `used` may be present and is ignored.
    """

    canonical: str
    pattern: str
    shape: Callable[[ModelConfig], Shape]
    used: bool = True

    def in_file(self, layer: int | None = None) -> str:
        """The tensor's name in a file; `layer` is the layer's number, None for weights outside the layers."""
        return self.pattern.format(layer=layer)

    def all_in_file(self, config: ModelConfig) -> Iterator[str]:
        """Every tensor of a model that this row stands for."""
        layers = range(config.num_hidden_layers) if "{layer}" in self.pattern else (None,)
        return (self.in_file(layer) for layer in layers)


_ROWS = (
    WeightName("embedding", "model.tok_embeddings.weight", lambda c: (c.vocab_size, c.hidden_size)),
    WeightName("attention_norm", "model.layers.{layer}.attention_norm.weight", lambda c: (c.hidden_size,)),
    WeightName(
        "wqkv", "model.layers.{layer}.attention.wqkv.weight", lambda c: (c.q_size + 2 * c.kv_size, c.hidden_size)
    ),
    WeightName("o", "model.layers.{layer}.attention.wo.weight", lambda c: (c.hidden_size, c.q_size)),
    # a buffer that old exports saved; it follows from the config
    WeightName(
        "inv_freq",
        "model.layers.{layer}.attention.rotary_emb.inv_freq",
        lambda c: (c.head_dim // 2,),
        used=False,
    ),
    WeightName("ffn_norm", "model.layers.{layer}.ffn_norm.weight", lambda c: (c.hidden_size,)),
    WeightName("gate", "model.layers.{layer}.feed_forward.w1.weight", lambda c: (c.intermediate_size, c.hidden_size)),
    WeightName("up", "model.layers.{layer}.feed_forward.w3.weight", lambda c: (c.intermediate_size, c.hidden_size)),
    WeightName("down", "model.layers.{layer}.feed_forward.w2.weight", lambda c: (c.hidden_size, c.intermediate_size)),
    WeightName("final_norm", "model.norm.weight", lambda c: (c.hidden_size,)),
    WeightName("head", "output.weight", lambda c: (c.vocab_size, c.hidden_size)),
)
INTERNLM2: Mapping[str, WeightName] = {row.canonical: row for row in _ROWS}


def check_names(files: Mapping[str, SafetensorsFile], config: ModelConfig, tied_head: bool, source: str) -> None:
    """Check that a checkpoint holds the tensors of the table, no others, and each in its shape.

    Args:
        files: the file of each tensor of the checkpoint.
        config: what the shapes follow from.
        tied_head: whether the embedding is the head, so that there is no tensor for the head.
        source: the checkpoint's name in messages.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape.
    """
    head = INTERNLM2["head"].in_file()
    if tied_head and head in files:
        raise CheckpointError(
            f"{source}: config.json says 'tie_word_embeddings' is true, but there is a tensor {head!r} of its own; "
            "set the key to false to use it, or remove the tensor."
        )
    rows = {name: row for row in INTERNLM2.values() for name in row.all_in_file(config)}
    missing = [name for name, row in rows.items() if row.used and name not in files]
    if tied_head:
        missing.remove(head)
    if missing:
        raise CheckpointError(
            f"{source}: tensor {missing[0]!r} is missing ({len(missing)} in all), though config.json asks for it; "
            "fetch the checkpoint again."
        )
    for name, file in files.items():
        if name not in rows:
            raise CheckpointError(
                f"{file.path}: tensor {name!r} does not belong to {config.architecture} with num_hidden_layers "
                f"{config.num_hidden_layers}; check that config.json belongs to these weights."
            )
        found, expected = file.tensors[name].shape, rows[name].shape(config)
        if found != expected:
            raise CheckpointError(
                f"{file.path}: tensor {name!r} has shape {list(found)}, but config.json asks for {list(expected)}."
            )
