"""A continuous normalizing flow on the data of Diffrax's own example.

    python benchmarks/published_flow.py IMAGE [--steps N] [--output FOLDER]

IMAGE is `docs/imgs/cat.png` of Diffrax's repository: the darkness of its pixels is the
law to learn. The documentation prints the weighted negative log-likelihood of batches;
here the same loss, with noise of half a pixel, is brought down by `fit` on this
package's model, in fixed steps, and judged in the end with an adaptive solver. The
training may be cut off and goes on with the same command.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.image
import numpy as np
import optax

from hybrid_nds.models import ContinuousNormalizingFlow
from hybrid_nds.training import fit

# Mean of the losses printed in its last 2000 of 10000 steps, every hundredth.
PUBLISHED = 1.138
BATCH, LAST = 500, 500
TRAINING = {"solver": "Tsit5", "dt": 0.2}
JUDGE = {"solver": "Tsit5", "rtol": 1e-5, "atol": 1e-6}


def pixels(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardized places of pixels that are not white, how dark they are, and the
    deviation of places in pixels."""
    image = np.round(matplotlib.image.imread(path)[..., :3] * 255)
    grey = (image @ np.array([0.2989, 0.5870, 0.1140])).T[:, ::-1]
    places = np.stack(np.meshgrid(*map(np.arange, grey.shape), indexing="ij"), axis=-1)
    dark = grey < 254
    chosen = places[dark].astype(np.float32)
    deviation = chosen.std(axis=0)
    weights = (1 - grey / grey.max())[dark].astype(np.float32)
    return (chosen - chosen.mean(axis=0)) / deviation, weights, deviation


def main() -> None:
    """Train, judge, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--checkpoint", type=Path, default=Path("published_flow"))
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results"
    )
    options = parser.parse_args()
    places, weights, deviation = pixels(options.image)

    def loss(flow: Any, batch: Any, key: Any, solver: Any = TRAINING) -> Any:
        points, dark = batch
        points = points + 0.5 / deviation * jr.normal(key, points.shape, points.dtype)
        found = jax.vmap(lambda x: flow.log_prob(x, **solver))(points)
        return -jnp.mean(dark * found)

    began = time.monotonic()
    trained = fit(
        ContinuousNormalizingFlow(2, 64, 3, key=jr.key(1)),
        (places, weights),
        loss,
        optax.adamw(
            optax.cosine_decay_schedule(3e-3, options.steps), weight_decay=1e-5
        ),
        steps=options.steps,
        batch_size=BATCH,
        key=jr.key(2),
        checkpoint=options.checkpoint,
        checkpoint_every=250,
        progress=True,
    )
    seconds = time.monotonic() - began
    judged = jax.jit(lambda batch, key: loss(trained.model, batch, key, JUDGE))
    whole = float(judged((jnp.asarray(places), jnp.asarray(weights)), jr.key(3)))
    last = np.asarray(trained.history.loss[-LAST:])
    lines = [
        "# The continuous normalizing flow of Diffrax's documentation",
        "",
        "| weighted negative log-likelihood | |",
        "|---|---|",
        f"| its documentation, batches of its last 2000 steps | {PUBLISHED} |",
        f"| this package's model, batches of the last {LAST} of {options.steps} steps "
        f"| {last.mean():.4f} ± {last.std() / np.sqrt(LAST):.4f} |",
        f"| all pixels, adaptive solver | {whole:.4f} |",
        "",
        f"{options.steps} steps with batches of {BATCH}, "
        f"{seconds:.0f} s on {jax.devices()[0].device_kind}.",
        "",
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "published_flow.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
