"""What a few measured steps say of a trial; how long they take is nobody's business here."""

import pytest
import torch

from tests.trainables.small_actors import actor_of, trial, trial_data
from trainables import cost as module
from trainables.cost import TrialCost, measure_costs
from trainables.data import TrainingData

pytestmark = pytest.mark.usefixtures("narrow_model", "restored_torch_settings")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "MEASURED_S", 0.0)


def test_an_epoch_is_its_full_steps_and_what_is_judged_after_it():
    cost = TrialCost(step_s=0.5, batch_size=64, judged_s=0.01, checkpoint_bytes=1, record_bytes=1)
    assert cost.epoch_s(images=64 * 3 + 63, judged=100) == pytest.approx(3 * 0.5 + 1.0)
    assert cost.epoch_s(images=64, judged=0) == pytest.approx(0.5)
    assert cost.epoch_s(images=10, judged=0) == pytest.approx(0.5)  # fewer images than a step make a smaller step


def test_every_configuration_is_measured_with_the_threads_of_a_trial(digits: TrainingData, quick, monkeypatch):
    threads = []
    genuine = module.Trainer.train_epoch

    def train_epoch(trainer):
        threads.append(torch.get_num_threads())
        return genuine(trainer)

    monkeypatch.setattr(module.Trainer, "train_epoch", train_epoch)
    before = torch.get_num_threads()
    configs = [trial(loss)["trial"] for loss in ("arcface", "adaloss", "softmax")]
    costs = measure_costs(configs, trial_data(digits), threads=3, gpus=0)
    assert torch.get_num_threads() == before
    assert threads == [3] * 6  # each is warmed up, then measured
    assert len(costs) == 3
    for cost in costs:
        assert cost.batch_size == 32
        assert cost.step_s > 0
        assert cost.judged_s > 0


def test_sizes_are_those_of_what_a_trial_leaves(digits: TrainingData, quick, tmp_path):
    """As the trainable saves it at its full length, but for a few names and the record beside it."""
    described = trial("arcface", max_epochs=1)
    (cost,) = measure_costs([described["trial"]], trial_data(digits), threads=1, gpus=0)
    running = actor_of(trial_data(digits))(described)
    running.step()
    running.save_checkpoint(str(tmp_path))
    saved = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert cost.checkpoint_bytes == pytest.approx(saved, rel=0.05)
    assert 200 < cost.record_bytes < 1000


def test_few_images_are_enough(digits: TrainingData, quick):
    (cost,) = measure_costs([trial(batch_size=4096)["trial"]], trial_data(digits), threads=1, gpus=0)
    assert cost.batch_size == 150


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_share_of_a_gpu_needs_a_gpu(digits: TrainingData):
    with pytest.raises(RuntimeError, match="no CUDA device"):
        measure_costs([trial()["trial"]], trial_data(digits), threads=1, gpus=0.5)
