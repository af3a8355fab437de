"""Byte-level BPE tokenisers made in memory, so that a task is checked without a model's vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from workbench.inputs.pairs import Task

BOS, EOS = "<s>", "</s>"


def merging(*merges: str, before: str = "", after: str = "") -> PreTrainedTokenizerFast:
    """Single bytes, and what `merges` ("a r", "ar y") join; `before` and `after` are put around every text."""
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    words = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in pairs)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = _byte_level(models.BPE(vocab=vocabulary, merges=pairs))
    if before or after:
        template = f"{before} $A {after}".strip()
        special = [(name, vocabulary[name]) for name in (BOS, EOS)]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return _wrapped(tokenizer)


def trained(texts: Iterable[str], size: int = 20_000, digits: int = 0) -> PreTrainedTokenizerFast:
    """Trained until every word of the texts is one token, as frequent words are in real vocabularies.

    `digits`: numbers are cut into so many digits at a time (1 as in SmolLM2, 2 as mostly in GPT-2, 3 as in Llama 3).
    """
    tokenizer = _byte_level(models.BPE())
    if digits:
        numbers = pre_tokenizers.Split(Regex(rf"\d{{1,{digits}}}"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([numbers, tokenizer.pre_tokenizer])
    alphabet: Sequence[str] = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[BOS, EOS], initial_alphabet=list(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrapped(tokenizer)


def for_texts(task: Task, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """One in which the words of the texts are mostly one token each, as in the models' vocabularies; digits are single
    ones, as in the default model's, or go in twos if the task needs it."""
    texts = list(texts)
    single = trained(texts, size=3000, digits=1)
    return single if task.applies(single) is None else trained(texts, size=3000, digits=2)


def _byte_level(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)
