"""Pairs of the user's own: what is accepted, and the exact words with which the rest is refused."""

import json
import random
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.errors import BadInput, UnknownName, UsageError
from workbench.inputs import files
from workbench.inputs.pairs import Pair, Pairs, Task, pairs, read_pairs, task
from workbench.inputs.rows import PairNotice
from workbench.models import load
from workbench.testing.tokenizers import BOS, EOS, merging

MERGES = ("a r", "ar y", "Ġ m", "Ġm ary", "o m", "Ġ t", "Ġt om", "Ġt o")  # " mary", " tom" and " to" are one token each
GOOD = {"clean": "a tom b to", "corrupt": "a mary b to", "answer": " tom", "wrong": " mary"}


def written(folder: Path, *lines: str, name: str = "my.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    return path


def one(**changes: object) -> Pairs:
    row: dict[str, Any] = {**GOOD, **changes}
    columns: dict[str, Any] = {name: [value] for name, value in row.items()}
    return pairs(**columns)


def test_pairs_become_ids_with_answers_options_and_positions() -> None:
    tokenizer = merging(*MERGES)
    inputs = one(options=[" tom", " mary"], positions={"name": "tom", "b": [6, 7]}).inputs(tokenizer)
    assert tokenizer.convert_ids_to_tokens(inputs.clean[0].tolist()) == ["a", "Ġtom", "Ġ", "b", "Ġto"]
    assert tokenizer.convert_ids_to_tokens(inputs.corrupt[0].tolist()) == ["a", "Ġmary", "Ġ", "b", "Ġto"]
    assert tokenizer.convert_ids_to_tokens([*inputs.answer[0], *inputs.wrong[0]]) == ["Ġtom", "Ġmary"]
    assert inputs.options == ((*inputs.answer[0], *inputs.wrong[0]),)
    assert inputs.positions == ({"name": 1, "b": 3, "end": 4},)
    assert (inputs.bos, inputs.dropped, inputs.seed) == (None, 0, None)


def test_a_default_bos_is_kept_and_shifts_positions() -> None:
    inputs = one(positions={"name": "tom"}).inputs(merging(*MERGES, before=BOS))
    assert inputs.bos == BOS
    assert inputs.positions == ({"name": 2, "end": 5},)


def test_one_list_of_options_serves_all_pairs() -> None:
    result = pairs(*([GOOD[name]] * 2 for name in ("clean", "corrupt", "answer", "wrong")), options=[" tom", " mary"])
    assert [pair.options for pair in result.items] == [(" tom", " mary")] * 2


@pytest.mark.filterwarnings("ignore::workbench.inputs.rows.PairNotice")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"answer": "mary", "wrong": " tom"},
            "pair 1: answer 'mary' merges with the end of the prompt, as [' tom', 'ary']; it must be one token after "
            "the prompt. With a leading space, ' mary', it is one token.",
        ),
        (
            {"clean": "a tom b", "corrupt": "a mary b", "answer": "mary", "wrong": " tom"},
            "pair 1: answer 'mary' is 2 tokens: ['m', 'ary']; it must be one token after the prompt. With a leading "
            "space, ' mary', it is one token.",
        ),
        (
            {"answer": " xy"},
            "pair 1: answer ' xy' is 3 tokens: [' ', 'x', 'y']; it must be one token after the prompt. Choose a word "
            "that is one token.",
        ),
        (
            {"clean": "a tom b ", "corrupt": "a mary b ", "answer": "tom"},
            "pair 1: answer 'tom' merges with the end of the prompt, as [' tom']; it must be one token after the "
            "prompt. Remove the space from the end of the prompt: with a leading space, ' tom', it is one token.",
        ),
        (
            {"clean": "a ar", "corrupt": "b ar", "answer": "y"},
            "pair 1: answer 'y' merges with the end of the prompt, as ['ary']; it must be one token after the "
            "prompt. Choose a word that is one token.",
        ),
        (
            {"corrupt": "a xy b to"},
            "pair 1: clean has 5 tokens and corrupt 7; they must have the same number. Where they differ, clean has "
            "[' tom'] and corrupt [' ', 'x', 'y']. Use words with the same number of tokens.",
        ),
        (
            {"options": [" tom", " mary", " bob"]},
            "pair 1: option ' bob' is 4 tokens: [' ', 'b', 'o', 'b']; it must be one token after the prompt. Choose a "
            "word that is one token.",
        ),
    ],
)
def test_what_a_tokeniser_refuses(changes: dict[str, object], message: str) -> None:
    result = one(**changes)
    with pytest.raises(BadInput) as refused:
        result.inputs(merging(*MERGES))
    assert str(refused.value) == message


def test_the_answer_is_checked_after_both_prompts() -> None:
    # "om" is one token after "x", but after " t" the tokeniser would have read " tom".
    with pytest.raises(BadInput, match="'om' merges with the end of the prompt, as"):
        one(clean="a x", corrupt="a t", answer="om", wrong="y").inputs(merging("o m", "Ġ t", "Ġt om", "Ġ x"))


def test_a_position_must_fall_on_the_same_token_in_both_prompts() -> None:
    moved = Pair("a xy b tom", "a tom b xy", (" tom",), (" mary",), (), {"b": (5, 6)}, {"b": (6, 7)})
    with pytest.raises(BadInput, match=r"here: position 'b' is token 5 in clean and 3 in corrupt\. Replace words"):
        Pairs((moved,), ("here",)).inputs(merging(*MERGES))


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        one().inputs(merging(*MERGES), max_length=4)
    expected = "pair 1: clean has 5 tokens, and the model's context length is 4. Shorten the prompt."
    assert str(refused.value) == expected
    assert len(one().inputs(merging(*MERGES), max_length=5)) == 1


def test_a_tokeniser_that_closes_every_text_is_refused() -> None:
    with pytest.raises(BadInput, match=r"ends every text with '</s>', so no answer can follow"):
        one().inputs(merging(*MERGES, after=EOS))


BAD_LINES = [
    ('{"clean": "a"', "not valid JSON (Expecting ',' delimiter at column 14). Write one JSON object per pair."),
    ("[1]", 'expected an object, found list. Write {"clean": …, "corrupt": …, …}.'),
    ("[" * 100_000, "JSON nested too deeply, or a number too large. Write one flat JSON object per pair."),
    ({"corrupt": ...}, "the field 'corrupt' is missing (found: clean, answer, wrong). A pair needs clean, corrupt, "
     "answer, wrong."),
    ({"anwser": " tom"}, "unknown field 'anwser'. Did you mean 'answer'?"),
    ({"xyz": 1}, "unknown field 'xyz'. The fields are clean, corrupt, answer, wrong, options, positions."),
    ({"clean": 3}, "clean is a number. Write it as a string."),
    ({"clean": ""}, "clean is empty. Write some text."),
    ({"answer": None}, "answer is null. Write a string, or a list of strings."),
    ({"answer": []}, "answer is an empty list. Write at least one string."),
    ({"answer": [" tom", " tom"]}, "answer lists ' tom' twice. List each once."),
    ({"answer": " mary"}, "' mary' is both the answer and wrong. They must differ."),
    ({"wrong": "\ud800"}, "wrong contains half of a character, a lone surrogate ('\\ud800'). Write it in valid "
     "Unicode."),
    ({"options": [" tom", " bob"]}, "' mary' is not among the options [' tom', ' bob']. List all candidates, "
     "including the answer and the wrong answer."),
    ({"positions": [1]}, "positions is a list. Write an object from name to [start, end] or to a word."),
    ({"positions": {"S": [4, 99]}}, "position 'S' is [4, 99]. Give [start, end] with 0 <= start < end <= 10, the "
     "characters of clean, or a word of it."),
    ({"positions": {"S": "t"}}, "position 'S': 't' occurs 2 times in clean. Give [start, end] characters."),
    ({"positions": {"end": [0, 1]}}, "a position is called 'end'. That name is the last token's: choose another."),
    ('{"clean": "a", "clean": "b"}', "the field 'clean' occurs twice. Write it once."),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "message"), BAD_LINES, ids=[message[:40] for _, message in BAD_LINES])
def test_a_bad_line_is_named_before_any_work(tmp_path: Path, bad: str | dict[str, object], message: str) -> None:
    if isinstance(bad, dict):
        bad = json.dumps({name: value for name, value in {**GOOD, **bad}.items() if value is not ...})
    with pytest.raises(BadInput) as refused:
        read_pairs(written(tmp_path, json.dumps(GOOD), "", bad))
    assert str(refused.value) == f"my.jsonl line 3: {message}"
    assert refused.value.exit_code == 3


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises((BadInput, UsageError)) as refused:
            read_pairs(path)
        return str(refused.value)

    expected = "my.jsonl: no pairs in it. Give at least one, with the fields clean, corrupt, answer, wrong."
    assert refusal(written(tmp_path, "")) == expected
    assert refusal(tmp_path / "no.jsonl").startswith(f"{tmp_path / 'no.jsonl'}: no such file.")
    assert refusal(tmp_path / "my.xlsx").endswith("my.xlsx': expected a file that ends in .jsonl, .json, .csv.")
    (tmp_path / "latin.jsonl").write_bytes(b"{}\n{'caf\xe9'}")
    expected = "latin.jsonl line 2: byte 0xe9 at column 6 is not UTF-8. Save the file as UTF-8."
    assert refusal(tmp_path / "latin.jsonl") == expected
    monkeypatch.setattr(files, "MOST_LINE", 10)
    expected = "my.jsonl line 2: 11 bytes, and a line may have 10. Shorten the prompts."
    assert refusal(written(tmp_path, "", "x" * 11)) == expected
    monkeypatch.setattr(files, "MOST_FILE", 5)
    assert refusal(written(tmp_path, "123456")).endswith("Split the file.")


def test_json_and_csv_hold_the_same_pairs(tmp_path: Path) -> None:
    row = {**GOOD, "options": [" tom", " mary"]}
    header, cells = ",".join(row), "a tom b to,a mary b to, tom, mary, tom| mary"
    files = (
        written(tmp_path, "\ufeff" + json.dumps(row)),
        written(tmp_path, json.dumps([row], indent=2), name="my.json"),
        written(tmp_path, header, cells, name="my.csv"),
    )
    read = [read_pairs(path).items for path in files]
    assert read == [one(options=[" tom", " mary"]).items] * 3
    with pytest.raises(BadInput, match=r"my\.csv line 3: expected as many cells as the header has"):
        read_pairs(written(tmp_path, header, cells, "a tom, or not", name="my.csv"))


ROWS = [{**GOOD, "options": [" tom", " mary"]}, {**GOOD, "clean": 'a tom, "b"\nto', "corrupt": 'a mary, "b"\nto'}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_as_spreadsheets_and_pandas_write_it(
    tmp_path: Path, separator: str, newline: str, index: bool, mark: str
) -> None:
    """With pandas as the writer: quoted separators, quotes and newlines, its index, a byte order mark."""
    table = pd.DataFrame([{**row, "options": " tom| mary"} for row in ROWS])
    path = tmp_path / "my.csv"
    text = table.to_csv(sep=separator, index=index, lineterminator=newline)
    path.write_bytes((mark + text).encode())
    read = read_pairs(path)
    assert [pair.clean for pair in read.items] == [row["clean"] for row in ROWS]
    assert [pair.answer for pair in read.items] == [(" tom",)] * 2
    assert read.items[0].options == (" tom", " mary")
    assert read.where == ("my.csv line 2", "my.csv line 3")


def test_spaces_after_separators_belong_to_no_cell(tmp_path: Path) -> None:
    header, cells = "clean, corrupt, answer, wrong", 'a tom b to, a mary b to, " tom", " mary"'
    assert read_pairs(written(tmp_path, header, cells, name="my.csv")).items == one().items
    with pytest.raises(BadInput, match=r"my\.csv line 2: answer has a space before its quotes\. Put no space after"):
        read_pairs(written(tmp_path, header.replace(" ", ""), 'a tom b to,a mary b to, " tom", " mary"', name="my.csv"))
    # Without spaces in the header those of the cells are theirs.
    cells = "a tom b to,a mary b to, tom, mary"
    assert read_pairs(written(tmp_path, header.replace(" ", ""), cells, name="my.csv")).items == one().items


def test_a_first_column_without_a_name_is_an_index_or_refused(tmp_path: Path) -> None:
    header, cells = "clean,corrupt,answer,wrong", "a tom b to,a mary b to, tom, mary"
    with pytest.raises(BadInput, match=r"my\.csv line 1: the first column has no name\. Name it, or leave it out"):
        read_pairs(written(tmp_path, f",{header}", f"x,{cells}", name="my.csv"))


# --- left out ---------------------------------------------------------------------------------------------------------


def several(*answers: str, skip: bool) -> Pairs:
    columns: dict[str, Any] = {name: [GOOD[name]] * len(answers) for name in GOOD}
    return pairs(**{**columns, "answer": list(answers)}, skip=skip)


def test_pairs_that_a_tokeniser_cannot_ask_are_left_out_and_counted(tmp_path: Path) -> None:
    tokenizer = merging(*MERGES)
    message = r"^pairs: 2 of 3 pairs are left out\. The first: pair 1: answer ' xy' is 3 tokens"
    with pytest.warns(PairNotice, match=message) as notices:
        inputs = several(" xy", " tom", " abc", skip=True).inputs(tokenizer)
    assert len(notices) == 1
    assert (len(inputs), inputs.dropped) == (1, 2)
    assert [pair.answer for pair in several(" xy", " tom", skip=True).examples(tokenizer)] == [(" tom",)]
    with pytest.raises(BadInput, match=r"^pair 1: answer ' xy' is 3 tokens"):
        several(" xy", " tom", skip=False).inputs(tokenizer)
    with pytest.raises(BadInput, match=r"this tokeniser can ask none of the 2 pairs\. pair 1: answer ' xy'"):
        several(" xy", " abc", skip=True).inputs(tokenizer)
    path = written(tmp_path, json.dumps({**GOOD, "answer": " xy"}), json.dumps(GOOD))
    with pytest.warns(PairNotice, match="1 of 2 pairs are left out"):
        assert read_pairs(path, skip=True).inputs(tokenizer).dropped == 1
    with pytest.raises(BadInput, match="line 2: the field 'clean' is missing"):  # what no tokeniser can ask
        read_pairs(written(tmp_path, json.dumps(GOOD), "{}"), skip=True)


def test_a_word_that_the_tokeniser_does_not_know_is_no_answer() -> None:
    tokenizer = load("tiny").tokenizer
    known = pairs(["So Mary met John"], ["So Anna met John"], [" Mary"], [" Anna"]).inputs(tokenizer)
    assert tokenizer.unk_token_id not in (*known.answer[0], *known.wrong[0])
    for answer, wrong in ((" zzz", " Anna"), (" Mary", " zzz")):
        with pytest.raises(BadInput, match=r"' zzz' is '<unk>': this tokeniser does not know it\. Choose a word"):
            pairs(["So Mary met John"], ["So Anna met John"], [answer], [wrong]).inputs(tokenizer)
    with pytest.raises(BadInput, match=r"^pair 1: clean and corrupt are the same tokens here\. Use words that this"):
        pairs(["So zzz met John"], ["So qqq met John"], [" Mary"], [" Anna"]).inputs(tokenizer)


def test_answers_that_lack_the_space_after_a_word_are_pointed_out_once() -> None:
    tokenizer = merging(*MERGES, "t om", "m ary")  # " tom", " mary", and "tom" and "mary" alone
    prompts: dict[str, Any] = {"clean": ["a tom b"] * 2, "corrupt": ["a mary b"] * 2}
    unspaced = pairs(**prompts, answer=["tom"] * 2, wrong=["mary"] * 2)
    message = (
        r"pairs: in 2 of 2 pairs the answers follow a letter without a space, as 'tom' and 'mary' do\. With a space"
    )
    with pytest.warns(PairNotice, match=message) as notices:
        unspaced.inputs(tokenizer)
    assert len(notices) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs(**prompts, answer=[" tom"] * 2, wrong=[" mary"] * 2).inputs(tokenizer)
        # After a digit or a quote, or where the word with a space is several tokens, there is nothing to point out.
        pairs(["a tom 1"], ["a mary 1"], ["tom"], ["mary"]).inputs(tokenizer)
        pairs(["a tom b"], ["a mary b"], ["x"], ["y"]).inputs(tokenizer)


def test_lists_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match=r"corrupt=\['a'\]: expected 2 entries, because clean has 2"):
        pairs(["a", "b"], ["a"], [" x"], [" y"])
    with pytest.raises(UsageError, match="clean='a': expected a list with one entry per pair"):
        pairs("a", "b", "c", "d")


def test_unknown_tasks_and_options_are_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'surname-recall'"):
        task("surname-recal")
    with pytest.raises(
        UsageError, match=r"corrupt='abc': the task 'ioi' has no such setting. Its settings: corruption"
    ):
        task("ioi", corrupt="abc")
    with pytest.raises(UnknownName, match=r"corruption='abd': expected 's2-io' or 'abc'\. Did you mean 'abc'"):
        task("ioi", corruption="abd")
    with pytest.raises(UsageError, match="n=0: expected a whole number from 1"):
        task("ioi", n=0)
    with pytest.raises(UsageError, match="seed=-1: expected a whole number of at least 0"):
        task("ioi", seed=-1)


def counting(*words: str) -> Task:
    """A task of as many different pairs as `words`."""
    return Task("counting", "", "", lambda rng: Pair(rng.choice(words), "ab", (" tom",), (" mary",)), n=3, seed=1)


def test_a_draw_counts_what_it_drops_and_repeats_nothing() -> None:
    random.seed(5)
    before = random.getstate()
    inputs = counting("xx", "yy", "zz", "long", "longer").inputs(merging(*MERGES))
    assert sorted(clean for clean, _ in inputs.texts) == ["xx", "yy", "zz"]
    assert 0 < inputs.dropped <= 2
    assert random.getstate() == before


def test_a_task_that_cannot_give_n_pairs_says_so() -> None:
    with pytest.raises(UsageError, match=r"only 2 different pairs here, and n=3 were requested\. Use n=2 or"):
        counting("xx", "yy", "long").inputs(merging(*MERGES))


def test_a_task_that_does_not_apply_gives_the_first_reason() -> None:
    never = counting(*("x" * k for k in range(3, 1000)))
    with pytest.raises(BadInput, match=r"does not apply to this tokeniser: 400 of 400 pairs were dropped\. The"):
        never.inputs(merging(*MERGES))
    assert "clean has" in (never.applies(merging(*MERGES)) or "")
    assert counting("xx", "yy", "zz").applies(merging(*MERGES)) is None


def test_two_equal_prompts_are_no_pair():
    with pytest.raises(BadInput, match="pair 2: clean and corrupt are the same text"):
        pairs(["a b", "c"], ["a d", "c"], [" x", " x"], [" y", " y"])


@pytest.mark.parametrize(
    ("clean", "answer", "message"),
    [("a", "x", "do not both begin with a space"), ("a ", " x", "clean ends with a space")],
)
def test_a_space_that_is_probably_a_slip_is_pointed_out(clean, answer, message):
    with pytest.warns(PairNotice, match=f"pair 1: .*{message}"):
        pairs([clean], ["b"], [answer], [" y"])


# --- where a row comes from -------------------------------------------------------------------------------------------


def line_of(path: Path, text: str) -> int:
    """The line on which a text stands in a file, counted as `grep -n` does."""
    (line,) = [i for i, line in enumerate(path.read_text().split("\n"), start=1) if text in line]
    return line


def test_lines_count_the_header_blank_lines_and_cells_of_several_lines(tmp_path: Path) -> None:
    cells = [
        "a tom b to,a mary b to, tom, mary",
        '"x\ny tom\nto","v\ny mary\nto", tom, mary',
        "",
        "q tom,q mary, tom, mary",
    ]
    path = written(tmp_path, "clean,corrupt,answer,wrong", *cells, name="my.csv")
    places = [line_of(path, text) for text in ("a tom b to", '"x', "q tom")]
    assert read_pairs(path).where == tuple(f"my.csv line {line}" for line in places)
    path = written(tmp_path, "clean,corrupt,answer,wrong", *cells, 'z tom,"z mary, tom, mary', "a,b,c,d", name="my.csv")
    for newline in (b"\n", b"\r\n"):
        path.write_bytes(path.read_bytes().replace(b"\n", newline))
        with pytest.raises(BadInput, match=rf"^my\.csv line {line_of(path, 'z tom')}: not valid CSV in the row that"):
            read_pairs(path)


def test_an_entry_of_a_json_list_has_its_line(tmp_path: Path) -> None:
    rows = [{**GOOD, "clean": f"{word}, ]\n{{ to", "options": [" tom", " mary"]} for word in ("one", "two", "three")]
    for indent in (None, 2):
        path = written(tmp_path, "", json.dumps(rows, indent=indent), name="my.json")
        # An entry begins a line above its first field.
        lines = [line_of(path, f'"clean": "{word}') - 1 for word in ("one", "two", "three")] if indent else [2] * 3
        assert read_pairs(path).where == tuple(f"my.json entry {i} (line {x})" for i, x in enumerate(lines, start=1))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["When Mary met John,When Mary met Anna, Mary, Anna"], "line 1: expected a header with the columns clean, "
         "corrupt, answer, wrong, found ['When Mary met John', 'When Mary met Anna', 'Mary', 'Anna']"),
        (["a,a,b,c", "d,d,e,f"], "line 1: expected a header with the columns clean, corrupt, answer, wrong, found"),
        (["clean,corrupt,anwser,wrong", "a,b,c,d"], "line 1: unknown field 'anwser'. Did you mean 'answer'?"),
        (["", "clean,corrupt,answer", "a,b,c"], "line 2: the field 'wrong' is missing (found: clean, corrupt"),
        (["clean,corrupt,answer,wrong"], "no pairs in it. Give at least one"),
    ],
)  # fmt: skip
def test_a_csv_without_its_header_is_refused_at_the_header(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_pairs(written(tmp_path, *lines, name="my.csv"))
    assert message[:100] in str(refused.value) and str(refused.value).startswith("my.csv")


def test_pairs_bear_the_name_of_their_file_and_results_do_too(tmp_path: Path) -> None:
    read = read_pairs(written(tmp_path, json.dumps(GOOD)))
    assert read.name == "my.jsonl" and read.inputs(merging(*MERGES)).name == "my.jsonl"
    columns: dict[str, Any] = {key: [value] for key, value in GOOD.items()}
    assert pairs(**columns).name == "pairs" and pairs(**columns, name="mine").name == "mine"
    with pytest.raises(UsageError, match="name=''"):
        pairs(**columns, name="")
