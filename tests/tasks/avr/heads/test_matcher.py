"""Fine-grained similarity and its loss against the formula in plain loops; over two processes as over one."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea.embeddings import Embeddings, fine_similarity
from avpea.tasks.avr.heads._matching import TokenWeights, contrastive_loss, gathered

TEXTS, WORDS, VIDEOS, TOKENS, DIM = 3, 5, 4, 6, 8
LENGTHS = (5, 2, 4)


def given() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    mask = torch.tensor([[place < length for place in range(WORDS)] for length in LENGTHS])
    weights = torch.rand(TEXTS, WORDS, generator=generator, dtype=torch.float64) * mask
    shares = torch.rand(VIDEOS, TOKENS, generator=generator, dtype=torch.float64)
    return (
        unit(TEXTS, WORDS, DIM),
        weights / weights.sum(dim=1, keepdim=True),
        mask,
        unit(VIDEOS, TOKENS, DIM),
        shares / shares.sum(dim=1, keepdim=True),
    )


def test_equals_the_formula_written_out() -> None:
    text, text_weights, mask, video, video_weights = given()
    found = fine_similarity(text, text_weights, mask, video, video_weights)
    for t in range(TEXTS):
        words = [w for w in range(WORDS) if mask[t, w]]
        for v in range(VIDEOS):
            product = [[float((text[t, w] * video[v, k]).sum()) for k in range(TOKENS)] for w in words]
            forth = sum(float(text_weights[t, w]) * max(row) for w, row in zip(words, product, strict=True))
            back = sum(float(video_weights[v, k]) * max(row[k] for row in product) for k in range(TOKENS))
            assert float(found[t, v]) == pytest.approx((forth + back) / 2, abs=1e-12)


def test_padding_does_not_matter() -> None:
    text, text_weights, mask, video, video_weights = given()
    changed = torch.where(mask[..., None], text, 100 * torch.ones_like(text))
    torch.testing.assert_close(
        fine_similarity(changed, text_weights, mask, video, video_weights),
        fine_similarity(text, text_weights, mask, video, video_weights),
    )


def test_weights_sum_to_one_over_what_is_there() -> None:
    torch.manual_seed(0)
    text, _, mask, _, _ = given()
    weights = Embeddings(text, TokenWeights(DIM).double()(text), mask).weights
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(TEXTS, dtype=torch.float64))
    assert not weights[~mask].any()


def test_loss_is_both_directions_cross_entropy() -> None:
    similarity = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    temperature = torch.tensor(0.07, dtype=torch.float64)
    rows, columns = (similarity / temperature), (similarity / temperature).T
    expected = -sum(float(x[i].log_softmax(0)[i]) for x in (rows, columns) for i in range(4)) / 8
    assert float(contrastive_loss(similarity, temperature)) == pytest.approx(expected, abs=1e-12)


def _process(rank: int, file: str, queue: "multiprocessing.Queue[list[float]]") -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    rows = torch.arange(4.0).reshape(2, 2) + 10 * rank
    rows.requires_grad_()
    longer = gathered(torch.ones(2, 2 + rank))
    assert longer.shape == (4, 3)
    assert longer[:2, 2].tolist() == [0, 0]  # the shorter ones are padded
    everything = gathered(rows)
    (everything * torch.arange(8.0).reshape(4, 2)).sum().backward()
    assert rows.grad is not None
    if rank == 1:
        queue.put([*everything.flatten().tolist(), *rows.grad.flatten().tolist()])
    dist.barrier()
    dist.destroy_process_group()


def test_rows_of_two_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_process, args=(rank, str(tmp_path / "store"), queue)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = queue.get(timeout=120)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert found[:8] == [0, 1, 2, 3, 10, 11, 12, 13]
    assert found[8:] == [8, 10, 12, 14]  # what the own rows get in both processes' losses


def test_one_process_gathers_nothing() -> None:
    rows = torch.ones(2, 2)
    assert gathered(rows) is rows
