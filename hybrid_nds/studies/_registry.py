"""Which studies there are: the package's own, and those of installed packages."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Mapping

from ._study import Study

GROUP = "hybrid_nds.studies"
"""The entry points under which other packages register studies."""

OWN = (
    "depth_limit",
    "random_resnet",
    "hidden_width",
    "strong_weak_order",
    "linear_stochastic_stability",
    "noise_destabilised_oscillator",
    "shear_induced_chaos",
    "follmer_sampler",
    "mean_field_langevin",
    "attention_clustering",
    "attention_metastability",
    "noisy_attention",
    "contracting_rnn",
    "controllability",
    "chen_fliess",
    "mirror_flow",
    "bures_wasserstein",
    "stiff_neural",
    "stiff_gradients",
)


def study_names() -> tuple[str, ...]:
    """The names of all studies: the package's own, then those of other packages."""
    return (*OWN, *_others())


def find_study(name: str) -> Study:
    """A study by its name.

    **Raises:** `ValueError` for a name that no study has; `TypeError` for an entry
    point of a package that is no study.
    """
    if name in OWN:
        module = importlib.import_module(f"._{name}", __package__)
        return getattr(module, name)
    others = _others()
    if name not in others:
        raise ValueError(
            f"no study {name!r}; there are {', '.join(study_names())}. A package adds "
            f'its own by an entry point in the group "{GROUP}".'
        )
    found = others[name].load()
    if not isinstance(found, Study):
        raise TypeError(
            f"the entry point {name!r} of the group {GROUP!r} must be a Study (a "
            f"function decorated with @study), got {type(found).__name__}."
        )
    if found.name != name:
        raise TypeError(
            f"the entry point {name!r} of the group {GROUP!r} leads to the study "
            f"{found.name!r}; give both the same name."
        )
    return found


@functools.cache
def _others() -> Mapping[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=GROUP)
    return {point.name: point for point in found if point.name not in OWN}
