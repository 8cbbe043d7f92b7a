"""Beam search over the tokens of one text: pure arithmetic, between the runs of whichever graph gives the logits.

Of all continuations of the open hypotheses the likeliest stay open. One that ends while it is among the `num_beams`
likeliest is closed, and the search is over when `num_beams` are: what transformers' generate() does with
`early_stopping=True` and `length_penalty=1.0`. The closed hypothesis of the highest mean log-probability wins. With one
beam that is greedy search.

Source: https://huggingface.co/docs/transformers/main_classes/text_generation
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.tensors import Array

FEW: Final = 200  # values that are sorted whole sooner than the largest of them are found


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text as tokens, the end's included if it came to one, and its mean log-probability a token."""

    tokens: tuple[int, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Beams:
    """Where a search stands. tokens: of the open hypotheses, likeliest first, int64 [open, steps], without the start;
    sums: of their log-probabilities, float64 [open]; closed: so far, in no order.
    """

    num_beams: int
    end: int
    most: int
    tokens: NDArray[np.int64]
    sums: NDArray[np.float64]
    closed: tuple[Hypothesis, ...] = ()

    @classmethod
    def begin(cls, num_beams: int, end: int, most: int) -> Beams:
        """One open hypothesis of no tokens. end: the id that ends a text; most: tokens of a text, at least 1."""
        return cls(num_beams, end, most, np.zeros((1, 0), np.int64), np.zeros(1))

    @property
    def done(self) -> bool:
        return not len(self.tokens)

    @property
    def best(self) -> Hypothesis:
        """Of those closed; the one closed first where scores are equal."""
        return max(self.closed, key=lambda hypothesis: hypothesis.score)

    def step(self, logits: Array) -> Beams:
        """After one more token. logits: float32 [open, vocabulary] of the token after each open hypothesis; -inf for
        what may not come. Where totals are equal, the likelier hypothesis goes first, then the lower token id.
        """
        totals = (self.sums[:, np.newaxis] + log_probabilities(logits)).ravel()
        # Each hypothesis has one end, so that of twice as many continuations enough stay open.
        chosen = _largest(totals, 2 * self.num_beams)
        parents, latest = np.divmod(chosen, logits.shape[1])
        tokens = np.concatenate([self.tokens[parents], latest[:, np.newaxis]], axis=1)
        sums = totals[chosen]
        ended = latest == self.end
        cut = tokens.shape[1] >= self.most
        closing = np.flatnonzero(ended[: self.num_beams] | cut)
        closed = (*self.closed, *(_close(tokens[i], sums[i]) for i in closing))
        if cut or len(closed) >= self.num_beams:
            return Beams(self.num_beams, self.end, self.most, tokens[:0], sums[:0], closed)
        staying = np.flatnonzero(~ended)[: self.num_beams]
        return Beams(self.num_beams, self.end, self.most, tokens[staying], sums[staying], closed)


def log_probabilities(logits: Array) -> NDArray[np.float64]:
    """float [rows, vocabulary] -> the logarithm of the softmax of each row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exact: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64))
    return exact


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Where the largest values are, largest first, of equal ones the first first; none that is -inf."""
    if len(values) > FEW + count:
        near = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        near = np.arange(len(values))
    best = near[np.argsort(-values[near], kind="stable")[:count]]
    return best[values[best] > -np.inf]


def _close(tokens: NDArray[np.int64], total: float) -> Hypothesis:
    return Hypothesis(tuple(tokens.tolist()), float(total) / len(tokens))
