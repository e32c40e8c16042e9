"""The language models of the demonstrations train on a text of a few lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.demos import LightningLSTM, LightningTransformer, SequenceSampler, SimpleLSTM, Transformer, WikiText2
from lightkit.demos.transformer import Dictionary, PositionalEncoding, tokenize
from lightkit.errors import MissingDataError


def text(folder: Path) -> Path:
    (folder / "wikitext-2.txt").write_text("the cat\nsat on the mat\n" * 20, encoding="utf-8")
    return folder


def test_words_get_numbers_in_the_order_in_which_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the cat\nsat the mat\n", encoding="utf-8")
    numbers, dictionary = tokenize(path)
    assert numbers.tolist() == [0, 1, 2, 3, 0, 4, 2]
    assert dictionary.idx2word == ["the", "cat", "<eos>", "sat", "mat"]
    assert len(Dictionary()) == 0


def test_a_piece_of_text_is_followed_by_the_same_one_word_later(tmp_path: Path) -> None:
    dataset = WikiText2(text(tmp_path), block_size=5, download=False)
    assert len(dataset) == (20 * 8 - 1) // 5 and dataset.vocab_size == 6
    (inputs, target), (following, _) = dataset[0], dataset[1]
    assert inputs.tolist() == [0, 1, 2, 3, 4] and target.tolist() == [1, 2, 3, 4, 0]
    assert following[0] == target[-1]
    message = f"WikiText2: {tmp_path}/none/wikitext-2.txt is not there; put the text there, or write download=True"
    with pytest.raises(MissingDataError, match=f"^{re.escape(message)}$"):
        WikiText2(tmp_path / "none", download=False)


def test_rows_of_batches_go_on_where_they_ended() -> None:
    sampler = SequenceSampler(range(10), 3)
    assert list(sampler) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert len(sampler) == 3


def test_a_position_sees_none_that_comes_after_it() -> None:
    torch.manual_seed(0)
    model = Transformer(vocab_size=20, ninp=8, nhid=8).eval()
    source, one = torch.randint(20, (2, 6)), torch.randint(20, (2, 6))
    other = one.clone()
    other[:, 4:] = 0
    a, b = model(source, one).view(2, 6, 20), model(source, other).view(2, 6, 20)
    assert torch.equal(a[:, :4], b[:, :4]) and not torch.equal(a[:, 4:], b[:, 4:])
    assert torch.allclose(a.exp().sum(-1), torch.ones(2, 6))
    assert PositionalEncoding(7)(torch.zeros(1, 3, 7)).shape == (1, 3, 7)


def test_the_recurrent_model_carries_its_state() -> None:
    torch.manual_seed(0)
    model = SimpleLSTM(vocab_size=20, ninp=8, nhid=8, nlayers=2).eval()
    words = torch.randint(20, (3, 6))
    whole, _ = model(words, model.init_hidden(3))
    first, hidden = model(words[:, :4], model.init_hidden(3))
    rest, _ = model(words[:, 4:], hidden)
    parts = torch.cat([first.view(3, 4, 20), rest.view(3, 2, 20)], dim=1)
    assert torch.allclose(whole.view(3, 6, 20), parts, atol=1e-6)


@pytest.mark.parametrize("kind", [LightningTransformer, LightningLSTM])
def test_a_language_model_fits_a_text(tmp_path: Path, kind: type[lk.LightModule]) -> None:
    dataset = WikiText2(text(tmp_path), block_size=4, download=False)
    torch.manual_seed(0)
    module = kind(vocab_size=dataset.vocab_size)  # type: ignore[call-arg]
    module.prepare_data = lambda: None  # type: ignore[method-assign] # the text is here
    trainer = lk.Trainer(default_root_dir=tmp_path, max_epochs=1, limit_train_batches=4, logger=False)
    trainer.fit(module, DataLoader(dataset, batch_sampler=SequenceSampler(dataset, 3)))
    assert trainer.global_step == 4
