"""Golden rows: what the trained network made of a few real rows, published beside the graph; and how far off one is.

`golden.npz` has arrays `input.<tensor>` and `output.<tensor>`, one entry a row.
"""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from serving.errors import RepositoryInvalid
from serving.tensors import Array, Tensors, row_count, row_differences

GOLDEN: Final = "golden.npz"
MOST_ROWS: Final = 32  # more would say no more, and each is run several times


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs and expected outputs, row for row, by the names of the graph's tensors."""

    inputs: Tensors
    outputs: Tensors


def read_golden(folder: Path, name: str) -> Golden | None:
    """The golden rows of a version's folder; None if it has none. RepositoryInvalid: what is wrong with the file."""
    path, file = folder / GOLDEN, f"{name}/{GOLDEN}"
    if not path.exists():
        return None
    inputs: dict[str, Array] = {}
    outputs: dict[str, Array] = {}
    try:
        with np.load(path) as arrays:
            for key in arrays.files:
                kind, _, tensor = key.partition(".")
                if kind not in ("input", "output") or not tensor:
                    raise RepositoryInvalid(file, key[:60], "expected input.<tensor> or output.<tensor>")
                (inputs if kind == "input" else outputs)[tensor] = _plain(arrays[key])
    except ValueError as error:
        objects = "Object arrays" in str(error)
        expected = "found Python objects, which are never loaded" if objects else "found a damaged array"
        raise RepositoryInvalid(file, "", f"expected plain arrays; {expected}") from None
    except (zipfile.BadZipFile, EOFError, KeyError, OSError, NotImplementedError):
        raise RepositoryInvalid(file, "", "expected a zip archive of arrays; it is damaged") from None
    lengths = {len(array) if array.ndim else -1 for array in (*inputs.values(), *outputs.values())}
    if not inputs or not outputs or len(lengths) != 1 or lengths <= {0, -1}:
        raise RepositoryInvalid(file, "", "expected inputs and outputs of one and the same number of rows")
    return Golden(_first(inputs), _first(outputs))


def difference(found: Tensors, expected: Tensors, file: str) -> float:
    """The largest difference of a row (serving/tensors.py) over all expected outputs; not finite where a value is not.

    RepositoryInvalid: an output is missing or has another shape; `file`: where the expected ones stand.
    """
    differences = [0.0]
    for name, wanted in expected.items():
        got = found.get(name)
        if got is None:
            names = ", ".join(found)
            raise RepositoryInvalid(file, f"output.{name[:60]}", f"expected an output of the graph, such as {names}")
        if got.shape != wanted.shape:
            shapes = f"expected {list(got.shape)}, as the graph gives; found {list(wanted.shape)}"
            raise RepositoryInvalid(file, f"output.{name[:60]}", shapes)
        differences.append(_largest(got, wanted))
    return worst(differences)


def worst(differences: Sequence[float]) -> float:
    """The largest; one that is not finite, if there is any."""
    return next((one for one in differences if not math.isfinite(one)), max(differences))


def nonfinite(outputs: Tensors) -> Counter[str]:
    """How many values are `nan` or `infinite`."""
    floating = [array for array in outputs.values() if np.issubdtype(array.dtype, np.floating)]
    nan = sum(int(np.count_nonzero(np.isnan(array))) for array in floating)
    return Counter(nan=nan, infinite=sum(int(np.count_nonzero(np.isinf(array))) for array in floating))


def spread(outputs: Tensors) -> float:
    """How far the rows lie apart, as the largest difference of any one value between two rows."""
    most = 0.0
    for array in outputs.values():
        if np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_:
            values = array.astype(np.float64)
            most = max(most, float(np.nan_to_num(values.max(axis=0) - values.min(axis=0)).max(initial=0.0)))
        elif any(row.tolist() != array[0].tolist() for row in array):
            most = float("inf")
    return most


def differing_rows(inputs: Tensors) -> int:
    """How many of the rows are not like any before them."""
    return len({tuple(_content(array[i]) for array in inputs.values()) for i in range(row_count(inputs))})


def _largest(found: Array, expected: Array) -> float:
    if not (np.issubdtype(found.dtype, np.number) or found.dtype == np.bool_):
        return 0.0 if (found == expected).all() else float("inf")
    return float(row_differences(found, expected).max(initial=0.0))


def _content(row: Array) -> bytes:
    return repr(np.asarray(row).tolist()).encode() if np.asarray(row).dtype == np.object_ else row.tobytes()


def _first(tensors: Tensors) -> Tensors:
    return {name: array[:MOST_ROWS] for name, array in tensors.items()}


def _plain(array: Array) -> Array:
    """Text is kept as fixed-width bytes, and is objects in tensors."""
    return array.astype(np.object_) if array.dtype.kind == "S" else array
