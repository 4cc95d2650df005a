"""The demo's recipe, against the vendor's own files."""

from pathlib import Path

import pytest
import yaml

from ilmari.demo.recipe import write_recipe
from ilmari.errors import OutputError


@pytest.mark.shared
def test_int8_recipe_is_the_vendors_with_the_demos_values(tmp_path: Path, shared: Path) -> None:
    path = write_recipe(tmp_path / "demo", tmp_path / "with space: #1", "int8")
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    expected = yaml.safe_load((shared / "zoo" / "internlm2_hf_internlm_int8.yaml").read_text(encoding="utf-8"))
    expected["name"] = "smollm2-135m-int8-tp1-1024-2048"
    expected["frontend"]["checkpoint"] = str(tmp_path / "with space: #1")
    expected["frontend"]["model_kwargs"]["tp"] = 1
    expected["frontend"]["quantize"]["type"] = "w8a16"
    expected["workspace"]["path"] = str(tmp_path / "demo")
    assert recipe == expected


@pytest.mark.shared
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_recipe_of_16_bits_quantizes_nothing(tmp_path: Path, shared: Path, dtype: str) -> None:
    recipe = yaml.safe_load(write_recipe(tmp_path, tmp_path / "checkpoint", dtype).read_text(encoding="utf-8"))
    expected = yaml.safe_load((shared / "zoo" / "internlm2_hf_internlm_fp16.yaml").read_text(encoding="utf-8"))
    expected["name"] = f"smollm2-135m-{dtype}-tp1-1024-2048"
    expected["backend"]["dtype"] = dtype
    expected["frontend"]["checkpoint"] = str(tmp_path / "checkpoint")
    expected["frontend"]["model_kwargs"]["tp"] = 1
    expected["workspace"]["path"] = str(tmp_path)
    assert recipe == expected


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"{tmp_path / 'file'}.* cannot be written"):
        write_recipe(tmp_path / "file", tmp_path, "int8")
