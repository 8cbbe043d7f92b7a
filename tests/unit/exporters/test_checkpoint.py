"""A training that goes on where it stopped ends with the very weights of one that was let alone."""

import hashlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_rig
from torch import nn
from training_rig import RECIPE, Stopping, Tiny, same_weights, splits

from exporters.errors import CheckpointRefused, TrainingStopped
from exporters.training import Options, train
from exporters.training.checkpoint import FILE, Checkpoint, discard

RECIPES = {
    "adam": RECIPE,
    "sgd with an average": replace(RECIPE, optimizer="sgd", ema=0.9, clip_norm=0.5, schedule="one-cycle"),
    "bfloat16": replace(RECIPE, precision="bfloat16"),
}


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def heeded():
    """Ctrl-C is heeded, also where these tests run in the background, in which shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stopped(tmp_path, heeded):
    """The checkpoint's folder of a run with RECIPE and seed 5 that Ctrl-C ended in its third epoch."""
    with pytest.raises(TrainingStopped):
        train(Stopping(interrupt), splits(), RECIPE, 5, Options(checkpoint=tmp_path))
    return tmp_path


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, recipe):
    whole = train(Tiny(), splits(), recipe, 5)
    with pytest.raises(TrainingStopped, match=r"Stopped after 2 whole epochs\. Run the same command with --resume"):
        train(Stopping(interrupt), splits(), recipe, 5, Options(checkpoint=tmp_path))
    resumed = train(Tiny(), splits(), recipe, 5, Options(checkpoint=tmp_path, resume=True))
    assert resumed.history == whole.history
    assert 0 < resumed.earlier_s < resumed.seconds
    assert whole.earlier_s == 0
    assert same_weights(resumed.network, whole.network)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    command = [sys.executable, training_rig.__file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"in the middle\n"
        process.send_signal(signal.SIGKILL)
    resumed = train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=tmp_path, resume=True))
    assert same_weights(resumed.network, train(Tiny(), splits(), RECIPE, 5).network)


def test_it_says_that_it_goes_on_and_counts_the_earlier_seconds(stopped, capsys):
    train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=stopped, resume=True))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3] == "tiny: goes on after epoch 2"
    assert lines[-2].startswith("tiny: epoch 3/4")


def test_a_finished_training_is_not_trained_again(tmp_path):
    whole = train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=tmp_path))
    again = train(Stopping(pytest.fail), splits(), RECIPE, 5, Options(checkpoint=tmp_path, resume=True))
    assert same_weights(again.network, whole.network)
    assert again.seconds >= sum(epoch.seconds for epoch in whole.history)


def test_without_resume_it_begins_anew(stopped):
    assert len(train(Tiny(), splits(), RECIPE, 6, Options(checkpoint=stopped)).history) == 4


class Other(Tiny):
    model = "other"


def other_data():
    return replace(splits(), card=splits().card.model_copy(update={"digest": "sha256:1"}))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ((Other(), splits(), RECIPE, 5), "model is tiny there and other here"),
        ((Tiny(), splits(), replace(RECIPE, learning_rate=0.5), 5), "recipe.learning_rate is 0.01 there and 0.5 here"),
        ((Tiny(), splits(), RECIPE, 6), "seed is 5 there and 6 here"),
        ((Tiny(), other_data(), RECIPE, 5), "sha256:1 here"),
    ],
)  # fmt: skip
def test_another_runs_checkpoint_is_refused(stopped, run, words):
    with pytest.raises(CheckpointRefused) as refused:
        train(*run, Options(checkpoint=stopped, resume=True))
    assert words in refused.value.detail
    assert "begin anew" in refused.value.remedy


class Wider(Tiny):
    def network(self):
        return nn.Sequential(nn.Linear(2, 99), nn.Linear(99, 2))


def test_a_network_that_has_changed_is_refused(stopped):
    with pytest.raises(CheckpointRefused, match="network has changed since the checkpoint"):
        train(Wider(), splits(), RECIPE, 5, Options(checkpoint=stopped, resume=True))


@pytest.mark.parametrize("damage", ["a bit", "cut short", "empty", "something else"])
def test_a_damaged_checkpoint_is_refused(stopped, damage):
    file = stopped / FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"a bit": content, "cut short": content[:999], "empty": b"", "something else": b"hello" * 99}
    file.write_bytes(damaged[damage])
    with pytest.raises(CheckpointRefused, match=r"The checkpoint is damaged\. Leave --resume away"):
        train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=stopped, resume=True))


def test_no_checkpoint_is_said(tmp_path):
    with pytest.raises(CheckpointRefused, match="There is no checkpoint to go on from"):
        train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=tmp_path, resume=True))


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        Checkpoint.open(tmp_path, {}),
        pytest.raises(CheckpointRefused, match="Another run writes its checkpoints here now"),
    ):
        train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=tmp_path))


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointRefused, match="cannot be written"):
        train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=tmp_path / "file"))


class Running:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_checkpoint_runs_no_code(stopped, monkeypatch):
    """One that would, with a sound digest, is refused as damaged."""
    monkeypatch.chdir(stopped)
    stream = io.BytesIO()
    torch.save({"form": 1, "identity": Running(), "state": {}}, stream)
    (stopped / FILE).write_bytes(stream.getvalue() + hashlib.sha256(stream.getvalue()).digest())
    with pytest.raises(CheckpointRefused, match="The checkpoint is damaged"):
        train(Tiny(), splits(), RECIPE, 5, Options(checkpoint=stopped, resume=True))
    assert not Path("ran").exists()


def test_stopped_without_a_checkpoint_it_says_how_there_could_be_one():
    with pytest.raises(TrainingStopped, match=r"Nothing was kept\. With --checkpoint FOLDER it could go on later"):
        train(Stopping(interrupt), splits(), RECIPE, 5)


def test_what_is_not_needed_any_more_is_removed(stopped):
    other = stopped / "notes.txt"
    other.touch()
    discard(stopped)
    assert list(stopped.iterdir()) == [other]
    other.unlink()
    discard(stopped)
    assert not Path(stopped).exists()
