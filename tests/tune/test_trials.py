"""What a trial is given of a run's settings."""

from dataclasses import replace

import pytest

from search_spaces import SEARCH_SPACES
from tests.tune.test_settings import GOOD
from trainables.config import TrialConfig
from trainables.data import DATASETS, load_training_data
from trainables.loss_code import LossCode
from trainables.registry import MODELS
from tune.trials import first_config, search_data, trial_config
from tune.trials import test_data as data_with_test_images


@pytest.mark.parametrize("model", MODELS)
def test_a_trial_makes_embeddings_of_the_size_that_goes_with_its_model(model):
    config = trial_config(replace(GOOD, model=model), DATASETS["digits"], first_config("softmax"))
    assert (config.model, config.embedding_dim) == (model, MODELS[model].embedding_dim)


def test_models_of_earlier_versions_have_the_size_that_their_checkpoints_have():
    """A checkpoint of another configuration is refused, so these must stay."""
    assert {MODELS[name].embedding_dim for name in ("ArcFaceCNN", "ArcFaceCNN_CIFAR10", "resnet9")} == {128}
    assert TrialConfig(loss="softmax", model="resnet9", max_epochs=1).embedding_dim == 128


@pytest.mark.parametrize("loss", SEARCH_SPACES)
def test_the_first_trial_of_a_loss_has_settings_that_are_known_to_be_good(loss):
    config = trial_config(GOOD, DATASETS["digits"], first_config(loss))
    assert config.loss == loss
    assert config.learning_rate == SEARCH_SPACES[loss].first_points[0]["learning_rate"]
    assert (config.max_epochs, config.batch_size, config.seed) == (20, 64, 0)


@pytest.mark.parametrize("note", ["", "12 images were scaled"])
def test_trials_know_what_the_classes_are_called_and_whether_images_are_photos(note):
    """It goes into their weights, for whoever uses the model."""
    data = replace(load_training_data("digits", None), note=note)
    codes = (LossCode("mine", "mine.py:Mine", "file", "0" * 64),)
    for seen in (search_data(data, codes), data_with_test_images(data, data.validation, codes)):
        assert seen.losses == codes
        assert seen.class_names == tuple("0123456789")
        assert seen.are_photos == bool(note)
