"""A batch spread over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

# Pyright takes the class for a variable.
Devices = Mesh | Sequence[jax.Device] | None  # pyright: ignore


class Placement:
    """Where arrays live: each device has all parameters and its share of a batch.

    **Arguments:** a mesh, all axes of which split the batch; or devices; `None` leaves
    everything where it is.
    """

    def __init__(self, devices: Devices):
        if devices is not None and not isinstance(devices, Mesh):
            devices = list(devices)
            if not devices or not all(isinstance(d, jax.Device) for d in devices):
                raise TypeError(
                    "fit: `devices` must be a jax.sharding.Mesh or a sequence of JAX "
                    f"devices, such as jax.devices(), got {devices!r}."
                )
            devices = Mesh(np.array(devices), ("batch",))
        self.mesh = devices

    def check(self, size: int) -> None:
        """Refuse batches that cannot be split evenly."""
        if self.mesh is not None and size % self.mesh.size:
            raise ValueError(
                f"fit: {self.mesh.size} `devices` do not divide a batch of {size}. "
                f"Take batches of a multiple of {self.mesh.size}, or fewer devices."
            )

    def everywhere(self, tree: PyTree) -> PyTree:
        """Arrays copied to all devices."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def split(self, tree: PyTree) -> PyTree:
        """Arrays split along their first axis where that goes, copied where not."""
        if self.mesh is None:
            return tree
        even = all(x.shape[0] % self.mesh.size == 0 for x in jtu.tree_leaves(tree))
        return jax.device_put(tree, self._shares) if even else self.everywhere(tree)

    @property
    def spread(self) -> Callable[[PyTree], PyTree]:
        """What splits a traced batch."""
        if self.mesh is None:
            return lambda batch: batch
        return lambda batch: jax.lax.with_sharding_constraint(batch, self._shares)

    @property
    def _shares(self) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
