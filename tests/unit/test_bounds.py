"""What an operator declares so that input is bounded closer than by bytes: a tokenizer's count, the endpoint's own, a cost per picture."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_bench import HELLO, TASK, Bench, call, run
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from interlock.actors.models.bound import PER_CALL, PER_MESSAGE, bounded
from interlock.actors.models.bounds import BYTES, Bounds, Declarations, read_bounds
from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadDeclaration, UnboundedCall
from interlock.schemas.frames import CallModel

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that knows bytes and a few words, with a special token, cut at 8 tokens; and the declaration that names it."""
    folder = tmp_path_factory.mktemp("bounds")
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("o", "r"), ("or", "d"), ("ord", "e"), ("orde", "r")]
    vocabulary = {**alphabet, **{a + b: len(alphabet) + n for n, (a, b) in enumerate(merges)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))
    declared = folder / "bounds.json"
    declared.write_text(json.dumps({"m": {"tokenizer": "tokenizer.json"}, "*": {"parts": {"image_url": 1445}}}))
    return declared


def said(*contents: Any) -> bytes:
    return encode({"messages": [{"role": "user", "content": content} for content in contents]})


def test_a_tokenizer_s_count_takes_the_place_of_bytes(file: Path) -> None:
    declared = read_bounds(str(file)).of("m")
    text = "order" * 400
    assert bounded("m", said(text)).size > 2_000
    assert 400 <= bounded("m", said(text), declared).size < 500


def test_what_looks_like_a_special_token_counts_as_the_text_that_it_is(file: Path) -> None:
    declared = read_bounds(str(file)).of("m")
    plain, special = (bounded("m", said(text), declared).size for text in ("", "<|end|>"))
    assert special - plain == len("<|end|>")


@given(st.lists(TEXT, max_size=4))
def test_a_count_is_never_below_that_of_the_whole_text(file: Path, texts: list[str]) -> None:
    declared = read_bounds(str(file)).of("m")
    reference = Tokenizer.from_file(str(file.parent / "tokenizer.json"))
    reference.no_truncation()
    whole = len(reference.encode("\n".join(texts), add_special_tokens=False).ids)
    assert bounded("m", said(*texts), declared).input >= whole


def test_a_surrogate_in_a_text_is_counted_too(file: Path) -> None:
    declared = read_bounds(str(file)).of("m")
    assert declared.text({"messages": [{"role": "user", "content": "\ud800"}]}) > declared.text(
        {"messages": [{"role": "user", "content": ""}]}
    )


def test_a_picture_costs_what_is_declared_and_not_its_bytes(file: Path) -> None:
    with pytest.raises(UnboundedCall, match=r"'image_url'.*INTERLOCK_BOUNDS"):
        bounded("m", said([PICTURE]))
    found = bounded("x", said([PICTURE, {"type": "text", "text": "what?"}, PICTURE]), read_bounds(str(file)).of("x"))
    assert found.input == found.size + 2 * 1445 + PER_CALL + PER_MESSAGE
    assert found.size < 200
    assert found.request["messages"][0]["content"][0] == PICTURE  # sent as it is


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "not a JSON object"),
        ('{"m": {}}', "has not"),
        ('{"m": {"tokeniser": "x"}}', "has not"),
        ('{"m": {"parts": {"image_url": 0}}}', "'parts' of model 'm'"),
        ('{"m": {"parts": [1]}}', "'parts' of model 'm'"),
        ('{"m": {"count": "tokenize"}}', "no path"),
        ('{"m": {"tokenizer": 7}}', "names no file"),
        ('{"m": {"tokenizer": "nowhere.json"}}', "cannot be read from"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_words(tmp_path: Path, text: str, problem: str) -> None:
    wrong = tmp_path / "bounds.json"
    wrong.write_text(text)
    with pytest.raises(BadDeclaration, match=problem) as refused:
        read_bounds(str(wrong))
    assert f"INTERLOCK_BOUNDS={wrong}" in str(refused.value)


def test_a_tokenizer_without_the_package_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.actors.models.bounds.find_spec", lambda _: None)
    with pytest.raises(BadDeclaration, match="pip install tokenizers"):
        read_bounds(str(file))


def test_nothing_declared_is_bytes() -> None:
    assert read_bounds("").of("m") is BYTES


@pytest.mark.parametrize(("path", "answered"), [("/tokenize", True), ("/nowhere", False)])
def test_what_the_endpoint_counts_is_held_and_bytes_where_it_does_not(path: str, answered: bool) -> None:
    """Of 300 tokens: its bytes alone with what a template may add are more, its count is about forty."""

    async def scenario(one: Bench) -> None:
        record = await one.record(call(text="hi" * 50))
        assert (record["error"] is None) is answered
        assert one.model.count == int(answered)

    counting = Declarations({"some-model": Bounds(count=path)})
    run(HELLO, scenario, limits={"tokens": 300}, bounds=counting)


def test_a_call_that_is_cancelled_while_it_is_counted_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(one: Bench) -> None:
        counting = asyncio.Event()

        async def counted(*_: Any) -> None:
            counting.set()
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(one.wire, "counted", counted)
        ending = asyncio.ensure_future(one.record(call()))
        await counting.wait()
        assert await one.gateway.cancel_task(TASK)
        assert (await ending)["error"]["code"] == "call_cancelled"
        assert await one.used() == {"tokens": 0, "steps": 0}

    run(HELLO, scenario, bounds=Declarations({"*": Bounds(count="/tokenize")}))


def test_what_a_template_may_write_as_json_is_counted_so(file: Path) -> None:
    declared = read_bounds(str(file)).of("m")
    assert declared.text({"messages": [{"role": "tool", "content": "\n" * 400}]}) >= 800


def test_a_counter_at_the_endpoint_counts_no_picture() -> None:
    async def scenario(one: Bench) -> None:
        picture = [{"role": "user", "content": [PICTURE]}]
        record = await one.record(CallModel("eff_1", TASK, 1, "some-model", encode({"messages": picture}), "", "dsp_1"))
        assert record["error"]["facts"]["limit"] == "tokens"
        assert one.model.count == 0

    counting = Declarations({"some-model": Bounds(count="/tokenize", parts={"image_url": 90_000})})
    run(HELLO, scenario, limits={"tokens": 60_000}, bounds=counting)
