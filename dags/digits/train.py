"""Train a classifier of handwritten digits, in SageMaker script mode, and leave it as ONNX.

SageMaker (through its training toolkit) puts the channel ``train`` into ``SM_CHANNEL_TRAIN``, passes the
hyperparameters as arguments, and packs what lies in ``SM_MODEL_DIR`` at the end into ``model.tar.gz``.
Each CSV row is one picture: its label, then 64 grey values from 0 to 16.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler


def main() -> None:
    """Read the channel, train, print the metrics that SageMaker picks up, write the model."""
    arguments = parse_arguments()
    rows = np.concatenate([np.loadtxt(path, delimiter=",") for path in sorted(arguments.train.glob("*.csv"))])
    labels, pixels = rows[:, 0].astype(np.int64), rows[:, 1:].astype(np.float32)
    print(f"read {len(rows)} rows of {pixels.shape[1]} values from {arguments.train}")

    train_x, valid_x, train_y, valid_y = train_test_split(
        pixels, labels, test_size=0.2, random_state=arguments.seed, stratify=labels
    )
    network = MLPClassifier(
        hidden_layer_sizes=(arguments.hidden,),
        learning_rate_init=arguments.learning_rate,
        random_state=arguments.seed,
    )
    scale = MinMaxScaler().fit(train_x)
    for epoch in range(1, arguments.epochs + 1):
        network.partial_fit(scale.transform(train_x), train_y, classes=np.arange(10))
        if epoch % 10 == 0 or epoch == arguments.epochs:
            accuracy = network.score(scale.transform(valid_x), valid_y)
            print(f"epoch {epoch}: loss={network.loss_:.4f}; validation:accuracy={accuracy:.4f};", flush=True)

    model = to_onnx(make_pipeline(scale, network), train_x[:1], options={"zipmap": False})
    model.ir_version = arguments.ir_version or model.ir_version
    model_dir = Path(os.environ["SM_MODEL_DIR"])
    (model_dir / "model.onnx").write_bytes(model.SerializeToString())
    metrics = {"validation:accuracy": accuracy, "rows": len(rows)}
    (model_dir / "metrics.json").write_text(json.dumps(metrics) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The hyperparameters, and the folders from SageMaker's environment."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--ir_version",
        type=int,
        default=0,
        help="ONNX IR version to write; 0 is the converter's own. A version that the hosts' runtime does "
        "not know yet trains well and does not load on-premises.",
    )
    parser.add_argument("--train", type=Path, default=os.environ.get("SM_CHANNEL_TRAIN"))
    arguments, _ = parser.parse_known_args()
    return arguments


if __name__ == "__main__":
    main()
