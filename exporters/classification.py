"""What all classifiers share: loss, scores, accuracy and the baselines that it is shown beside."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from exporters.data.splits import Rows
from exporters.family import Predict
from serving.picture_task import PIXELS
from serving.tasks.classify import PROBABILITIES
from serving.tensors import Array


def smooth_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of float32 [N, classes] and int64 [N], targets smoothed by 0.05.

    Smoothing keeps probabilities of easy rows away from 1. Source: https://arxiv.org/abs/1512.00567, section 7.
    """
    return functional.cross_entropy(scores, targets, label_smoothing=0.05)


def batch_accuracy(scores: Tensor, targets: Tensor) -> Tensor:
    """Share of rows whose highest score is the target's, as a scalar."""
    return (scores.argmax(dim=1) == targets).float().mean()


def accuracy(predict: Predict, rows: Rows) -> float:
    """Share of rows whose most probable class is the target."""
    return float((predict(rows.inputs)[PROBABILITIES].argmax(axis=1) == rows.targets).mean())


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
