"""What all classifiers share: loss, scores, and their measures with the baselines that those are shown beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from exporters.data.splits import Rows, Splits
from exporters.family import Predict, TrainedFamily
from exporters.layers import ProbabilitiesOut
from exporters.measures import calibration, classes
from exporters.measures.measured import PER_CLASS, Measured
from serving.picture_task import PIXELS
from serving.repository.manifest import Metric
from serving.tasks.classify import PROBABILITIES
from serving.tensors import Array

MOST_FREQUENT: Final = "always the most frequent class"
SHARES: Final = "always the classes' shares of the training rows"
FEW_CLASSES: Final = 16  # for which a confusion matrix can still be read


class Classifier(TrainedFamily):
    """A family whose network gives scores float32 [N, classes]."""

    task = "classify"
    score_name = "accuracy"

    def served(self, network: nn.Module) -> nn.Module:
        return ProbabilitiesOut(network)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return smooth_cross_entropy(scores, targets)

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        return batch_accuracy(scores, targets)

    def measure(self, predict: Predict, data: Splits) -> Measured:
        return classification_measures(predict, data, self.labels())


def smooth_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of float32 [N, classes] and int64 [N], targets smoothed by 0.05.

    Smoothing keeps probabilities of easy rows away from 1. Source: https://arxiv.org/abs/1512.00567, section 7.
    """
    return functional.cross_entropy(scores, targets, label_smoothing=0.05)


def batch_accuracy(scores: Tensor, targets: Tensor) -> Tensor:
    """Share of rows whose highest score is the target's, as a scalar."""
    return (scores.argmax(dim=1) == targets).float().mean()


def classification_measures(predict: Predict, data: Splits, labels: Sequence[str]) -> Measured:
    """Accuracy, macro F1 and calibration on the test rows, each beside its baseline, and what stands behind them:
    `per_class`, `reliability`, and for few classes `confusion`.
    """
    probabilities, targets = predict(data.test.inputs)[PROBABILITIES], data.test.targets
    found, rows = probabilities.argmax(axis=1), len(targets)
    shares = np.bincount(data.train.targets, minlength=len(labels)) / len(data.train)
    always = np.full(rows, shares.argmax())
    metrics = {
        "accuracy": Metric(
            value=classes.accuracy(probabilities, targets),
            rows=rows,
            baseline=logistic_accuracy(data.train, data.test),
            baseline_name="logistic regression on the pixels",
        ),
        "macro_f1": Metric(
            value=classes.macro_f1(found, targets, len(labels)),
            rows=rows,
            baseline=classes.macro_f1(always, targets, len(labels)),
            baseline_name=MOST_FREQUENT,
        ),
        "expected_calibration_error": Metric(
            value=calibration.expected_calibration_error(probabilities, targets),
            rows=rows,
            baseline=calibration.expected_calibration_error(np.eye(len(labels))[always], targets),
            baseline_name=f"{MOST_FREQUENT}, with certainty",
            higher_is_better=False,
        ),
        "brier_score": Metric(
            value=calibration.brier_score(probabilities, targets),
            rows=rows,
            baseline=calibration.brier_score(np.tile(shares, (rows, 1)), targets),
            baseline_name=SHARES,
            higher_is_better=False,
        ),
    }
    tables = {
        PER_CLASS: classes.per_class_table(found, targets, labels),
        "reliability": calibration.reliability_table(probabilities, targets),
    }
    if len(labels) <= FEW_CLASSES:
        tables["confusion"] = classes.confusion_table(found, targets, labels)
    return Measured(metrics, tables)


def logistic_accuracy(train: Rows, test: Rows) -> float:
    """Accuracy on `test` of a logistic regression over the pixels of `train`: what a linear model reaches."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.01))
    model.fit(_flat(train), train.targets)
    return float(model.score(_flat(test), test.targets))


def _flat(rows: Rows) -> Array:
    """Pixels as [N, numbers], every other one of each row and column: linear models gain nothing from more."""
    pixels = rows.inputs[PIXELS][:, ::2, ::2].astype(np.float32) / 255
    return pixels.reshape(len(rows), -1)
