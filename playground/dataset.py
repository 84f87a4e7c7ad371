"""The data of the demo: scikit-learn's handwritten digits as CSV files, and rows held back to judge by.

Each row is a label and 64 grey values. The last 360 rows are never uploaded.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

HELD_OUT_ROWS = 360
SMALL_ROWS = 240


@dataclass(frozen=True)
class HeldOut:
    """Rows that no training has seen: ``pixels`` is (rows, 64), ``labels`` is (rows,)."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]


def held_out() -> HeldOut:
    """The rows to judge a served model by."""
    rows = _rows()[-HELD_OUT_ROWS:]
    return HeldOut(pixels=rows[:, 1:].astype(np.float32), labels=rows[:, 0].astype(np.int64))


def upload(s3: Any, bucket: str) -> None:  # noqa: ANN401 - a boto3 client has no class to name
    """Put two training channels into ``bucket``: a small one, and the full one that came in since."""
    known = _rows()[:-HELD_OUT_ROWS]
    for name, rows in (("small", known[:SMALL_ROWS]), ("full", known)):
        s3.put_object(Bucket=bucket, Key=f"digits/data/{name}/digits.csv", Body=_csv(rows))


def _rows() -> NDArray[np.float64]:
    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([labels, pixels])


def _csv(rows: NDArray[np.float64]) -> bytes:
    text = io.StringIO()
    np.savetxt(text, rows, fmt="%g", delimiter=",")
    return text.getvalue().encode()
