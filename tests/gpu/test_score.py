"""The loss of everyday rows with an adapter and without: PyTorch's and PEFT's, row by row, for several families."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_lab.config import LoraConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.evaluation.measure import measure_neutral
from lora_lab.evaluation.neutral import Encoded, encode_neutral, neutral_rows, sum_up
from lora_lab.gpu import Device
from lora_lab.model import Model
from lora_lab.train.score import Scorer
from tests import torch_reference
from tests.engine_runs import adapter_with, load, random_examples, random_tensors, run
from tests.tiny_families import write_tiny_family
from tests.tiny_model import write_tiny_model

TOLERANCE = 2e-5  # of a row's mean loss: float32 against float64
FAMILIES = ("llama", "gemma2", "lfm2", "qwen3")


@pytest.fixture(scope="module", params=FAMILIES)
def opened(
    device: Device, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Model, Path]]:
    folder = tmp_path_factory.mktemp("score") / request.param
    if request.param == "llama":
        write_tiny_model(folder)
    else:
        write_tiny_family(folder, request.param)
    model = load(device, folder)
    yield model, folder
    model.release()


def encoded(model: Model) -> Encoded:
    files = model.files.tokenizer
    assert files.chat_template is not None
    tokenizer, template = load_tokenizer(files), ChatTemplate(files.chat_template, files.special_tokens)
    found = encode_neutral(neutral_rows("measured"), tokenizer, template, model.config.max_position_embeddings)
    assert len(found.rows) == len(neutral_rows("measured"))
    return found


def test_each_rows_loss_is_pefts_with_the_adapter_and_without(opened: tuple[Model, Path]) -> None:
    model, folder = opened
    before = model.device.num_buffers
    rows = encoded(model)
    chosen = [0, 3, 7, 20, 39]  # questions and texts
    examples = [rows.examples[i] for i in chosen]
    lora = LoraConfig(rank=4, alpha=8, targets=model.config.linear_names)
    tensors = random_tensors(model, lora)
    base = torch_reference.load_base(folder)
    without = [torch_reference.loss(base, [one]).item() for one in examples]
    peft = torch_reference.add_adapter(base, lora, tensors)
    wanted = [torch_reference.loss(peft, [one]).item() for one in examples]
    with adapter_with(model, lora, tensors) as adapter:
        scorer = Scorer(model, adapter, max(one.input_length for one in examples))
        on, off = run(scorer.losses(examples)), run(scorer.losses(examples, strength=0.0))
        half = run(scorer.losses(examples, strength=0.5))
        scorer.close()
    assert on == pytest.approx(wanted, abs=TOLERANCE)
    assert off == pytest.approx(without, abs=TOLERANCE)
    # The control: the two are told apart by far more than the tolerance, and a half is neither.
    assert max(abs(a - b) for a, b in zip(wanted, without, strict=True)) > 1000 * TOLERANCE
    assert half != pytest.approx(wanted, abs=TOLERANCE) and half != pytest.approx(without, abs=TOLERANCE)
    assert model.device.num_buffers == before


def test_all_of_them_together_are_one_mean_over_all_tokens(device: Device, tiny_model_folder: Path) -> None:
    model = load(device, tiny_model_folder)
    rows = encoded(model)
    lora = LoraConfig(rank=4, alpha=8)
    tensors = random_tensors(model, lora)
    done: list[int] = []
    with adapter_with(model, lora, tensors) as adapter:
        scorer = Scorer(model, adapter, int(rows.examples.input_lengths.max()))
        tuned = run(scorer.losses(rows.examples, on_done=lambda: done.append(1)))
        base = run(scorer.losses(rows.examples, 0.0))
        scorer.close()
    model.release()
    assert len(done) == len(rows.rows)
    found = sum_up(rows, base, tuned)
    torch_base = torch_reference.load_base(tiny_model_folder)
    examples = list(rows.examples)
    assert found.base == pytest.approx(torch_reference.loss(torch_base, examples).item(), abs=TOLERANCE)
    peft = torch_reference.add_adapter(torch_base, lora, tensors)
    wanted = torch_reference.loss(peft, examples).item()
    assert found.tuned == pytest.approx(wanted, abs=TOLERANCE)
    # The control: a mean of the rows' means is another number.
    assert sum(tuned) / len(tuned) != pytest.approx(wanted, abs=TOLERANCE)


def test_odd_lengths_and_a_row_without_a_loss(device: Device, tiny_model_folder: Path) -> None:
    model = load(device, tiny_model_folder)
    examples = random_examples((2, 5, 64, 65, 123), model.config.vocab_size)
    reference = torch_reference.load_base(tiny_model_folder)
    wanted = [torch_reference.loss(reference, [one]).item() for one in examples]
    scorer = Scorer(model, None, 123)
    assert run(scorer.losses(examples)) == pytest.approx(wanted, abs=TOLERANCE)
    examples[0].trained[:] = False
    with pytest.raises(ValueError, match="nothing of this row is trained"):
        run(scorer.losses(examples[:1]))
    scorer.close()
    model.release()


def test_what_else_changed_is_told_with_answers_of_both(device: Device, tiny_model_folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    model = load(device, tiny_model_folder)
    files = model.files.tokenizer
    assert files.chat_template is not None
    tokenizer, template = load_tokenizer(files), ChatTemplate(files.chat_template, files.special_tokens)
    lora = LoraConfig(rank=4, alpha=8)
    tensors = random_tensors(model, lora, b_std=0.2)
    seen: list[tuple[int, int]] = []
    before = device.num_buffers, device.memory_in_use_bytes
    with adapter_with(model, lora, tensors) as adapter:
        found = run(measure_neutral(model, adapter, tokenizer, template, lambda *done: seen.append(done)))
        assert run(adapter.to_tensors()).keys() == tensors.keys()  # it is still there
        asked = 0

        def stopped() -> bool:
            nonlocal asked
            asked += 1
            return asked == 3

        assert run(measure_neutral(model, adapter, tokenizer, template, stopped=stopped)) is None
        assert asked == 3
    assert (device.num_buffers, device.memory_in_use_bytes) == before
    model.release()
    assert found is not None
    assert seen[0] == (1, 86) and seen[-1] == (86, 86)
    assert found.rose > 0.01  # random matrices do no good
    theirs = AutoTokenizer.from_pretrained(tiny_model_folder)
    base = torch_reference.load_base(tiny_model_folder)
    peft = torch_reference.add_adapter(base, lora, tensors)
    for answer in found.answers:
        messages = [{"role": "user", "content": answer.prompt}]
        inputs = theirs.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        length = inputs.input_ids.shape[1]
        with torch.no_grad():
            tuned = peft.generate(**inputs, max_new_tokens=40, do_sample=False)[0, length:]
            with peft.disable_adapter():
                plain = peft.generate(**inputs, max_new_tokens=40, do_sample=False)[0, length:]
        assert answer.tuned == theirs.decode(tuned, skip_special_tokens=True)
        assert answer.base == theirs.decode(plain, skip_special_tokens=True)
        assert answer.base != answer.tuned
