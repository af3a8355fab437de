"""A loaded model's tokenizer can be saved, and read again gives the same ids."""

from pathlib import Path

import pytest
import transformers

from tests import small_models
from workbench.models import sources

TEXTS = ["the the thethe", "Then, Mary and John went to the store", " ümläut 12", ""]


@pytest.mark.parametrize("name", ["carried", "directory", "gguf"])
def test_a_saved_tokenizer_gives_the_same_ids(name: str, listed: object, directory: Path, tmp_path: Path) -> None:
    if name == "gguf":
        small_models.save_gguf(tmp_path / "model.gguf")
    source = {"directory": directory, "gguf": tmp_path / "model.gguf"}.get(name, name)
    tokenizer = sources.resolve(source).processor
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    again = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "saved"), local_files_only=True)
    for text in TEXTS:
        assert again(text).input_ids == tokenizer(text).input_ids
    assert again.bos_token == tokenizer.bos_token and again.eos_token == tokenizer.eos_token
