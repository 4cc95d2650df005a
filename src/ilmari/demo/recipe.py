"""The demo's compile recipe: the vendor's YAML form, filled in for one checkpoint."""

from importlib import resources
from pathlib import Path

import yaml

from ilmari.errors import OutputError

DTYPES = ("int8", "fp16", "bf16")


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line, as the vendor's files do: `[[1024], [2048]]`."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def write_recipe(folder: Path, checkpoint: Path, dtype: str) -> Path:
    """Write `folder`/demo_`dtype`.yaml, which compiles `checkpoint` into a subfolder of `folder`; return its path.

    `dtype` is one of `DTYPES`: "int8" quantizes the weights, "fp16" keeps them as they are, "bf16"
    rounds them.

    Raises:
        OutputError: `folder` cannot be written.
    """
    recipe = yaml.safe_load(resources.files("ilmari.demo").joinpath("demo.yaml").read_text(encoding="utf-8"))
    recipe["name"] = recipe["name"].replace("int8", dtype)
    recipe["frontend"]["checkpoint"] = str(checkpoint.absolute())
    recipe["backend"]["dtype"] = dtype
    recipe["workspace"]["path"] = str(folder.absolute())
    if dtype != "int8":
        del recipe["frontend"]["quantize"]
    path = folder / f"demo_{dtype}.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.dump(recipe, Dumper=_Dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The recipe {path} cannot be written ({error.strerror or error}); name a folder that can be written."
        ) from error
    return path
