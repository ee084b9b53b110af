"""Stochastic differential equations: what to solve, and in which sense."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core import is_concrete, with_forward_rule
from ._checks import (
    VectorField,
    check_field,
    check_parameters,
    check_span,
    check_state,
    check_time,
)
from ._kind import Interpretation, Kind, NoiseKind, Term
from ._problem import Problem, check_kind


class SDEProblem(Problem):
    """The initial value problem $dy = f(t, y, a)\\,dt + g(t, y, a)\\,dW$,
    $y(t_0) = y_0$.

    The kind of noise says what `diffusion` returns, and what a solver may assume:

    - `"scalar"`: one Brownian motion drives every component; `diffusion` returns the
        structure of `y0`.
    - `"diagonal"`: each component has its own, and the diffusion of a component
        depends on no other; `diffusion` returns the structure of `y0`.
    - `"general"`: `m` Brownian motions; every leaf of what `diffusion` returns has a
        last axis of `m` more than that of `y0`: a matrix `(n, m)` for a vector state.
    - `"commutative"`: as general, with columns $g_j$ that commute,
        $Dg_j\\,g_k = Dg_k\\,g_j$ (Kloeden & Platen 1992, section 10.3).
    - `"additive"`: the diffusion does not depend on the state; `diffusion` returns
        either of the two shapes.

    **Arguments:**

    - `drift`: a callable `drift(t, y, args)` that returns the structure, shapes and
        dtypes of `y0`.
    - `diffusion`: a callable `diffusion(t, y, args)`, see above.
    - `y0`: the initial state, any pytree of real floating-point arrays of one dtype.
    - `t0`, `t1`: the span, in the problem's unit of time; finite, `t1 > t0`.
    - `args`: anything else both fields need; its arrays are parameters too.
    - `noise`: the kind of noise.
    - `interpretation`: of the stochastic integral, `"ito"` or `"stratonovich"`.

    **Raises:** `ValueError` or `TypeError`, naming the argument, for a state, span or
    field that makes no sense, a diffusion of another shape than its noise kind has, or
    one said to be additive that depends on the state.

    **Warns:** where noise said to be commutative or diagonal is not, at or near `y0`.
    """

    drift: VectorField
    diffusion: VectorField
    y0: PyTree[Array]
    t0: Float[Array, ""]
    t1: Float[Array, ""]
    args: PyTree
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)
    noise_dimension: int = eqx.field(static=True)
    matrix_noise: bool = eqx.field(static=True)

    def __init__(
        self,
        drift: VectorField,
        diffusion: VectorField,
        y0: PyTree[ArrayLike],
        t0: ArrayLike,
        t1: ArrayLike,
        args: PyTree = None,
        *,
        noise: NoiseKind = "diagonal",
        interpretation: Interpretation = "ito",
    ):
        for name, field in (("drift", drift), ("diffusion", diffusion)):
            if not callable(field):
                raise TypeError(
                    f"SDEProblem: `{name}` must be a callable {name}(t, y, args), got "
                    f"{type(field).__name__}."
                )
            check_parameters("SDEProblem", name, field)
        for name, value, known in (
            ("noise", noise, get_args(NoiseKind)),
            ("interpretation", interpretation, get_args(Interpretation)),
        ):
            if value not in known:
                raise ValueError(
                    f"SDEProblem: `{name}` must be one of {', '.join(known)}, got "
                    f"{value!r}."
                )
        check_parameters("SDEProblem", "args", args)
        self.drift, self.diffusion = drift, diffusion
        self.y0 = check_state("SDEProblem", y0)
        dtype = jtu.tree_leaves(self.y0)[0].dtype
        self.t0 = check_time("SDEProblem", "t0", t0, dtype, finite=True)
        self.t1 = check_time("SDEProblem", "t1", t1, dtype, finite=True)
        check_span("SDEProblem", t0, t1, dtype)
        backward = is_concrete(t0) and is_concrete(t1) and np.less(t1, t0)
        if backward:
            raise ValueError(
                "SDEProblem: `t1` must be later than `t0`, since noise has no backward "
                f"direction; got t0={t0} and t1={t1}."
            )
        self.args = args
        self.noise, self.interpretation = noise, interpretation
        check_field("SDEProblem", "drift", drift, self.t0, self.y0, args)
        self.matrix_noise, self.noise_dimension = _noise_shape(
            noise, diffusion, self.t0, self.y0, args
        )
        # The arrays as given: inside jit, those of `self` are traced.
        given = (drift, diffusion, y0, t0, args)
        if all(is_concrete(leaf) for leaf in jtu.tree_leaves(given)):
            _check_claim(self)

    @property
    def kind(self) -> Kind:
        return Kind(
            "sde",
            self.noise,
            self.interpretation,
            self.matrix_noise,
            langevin=getattr(self.drift, "langevin", False),
        )

    @property
    def terms(self) -> tuple[Term, ...]:
        columns = self.noise_dimension if self.matrix_noise else 0
        return Term("drift", self.drift), Term("diffusion", self.diffusion, columns)

    def flat_drift(self) -> Callable[[Any, Any], Array]:
        """The drift on flat states in the order of `ravel_pytree`: `(t, u) -> (n,)`."""
        state = self.flat_state
        return lambda t, u: state.flatten(self.drift(t, state.unflatten(u), self.args))

    def flat_diffusion(self) -> Callable[[Any, Any], Array]:
        """The diffusion on flat states: `(t, u) -> (n,)` for scalar and diagonal
        noise, `(n, m)` where `matrix_noise` holds."""
        state = self.flat_state

        def flat(t: Any, u: Any) -> Array:
            g = self.diffusion(t, state.unflatten(u), self.args)
            return _flatten_diffusion(g, self.matrix_noise, self.noise_dimension)

        return flat


def to_ito(problem: SDEProblem) -> SDEProblem:
    """The Itô equation with the same solutions.

    $f^\\text{Itô} = f^\\text{Strat} + \\tfrac12 \\sum_j Dg_j\\, g_j$ with $g_j$ the
    columns of the diffusion (Kloeden & Platen 1992, equation 4.9.11), by JAX's own
    derivatives.

    **Arguments:** `problem`, an [`SDEProblem`][hybrid_nds.SDEProblem].

    **Returns:** the problem with the other drift; `problem` itself if it is Itô's.
    """
    return _converted(problem, "ito")


def to_stratonovich(problem: SDEProblem) -> SDEProblem:
    """The Stratonovich equation with the same solutions.

    The converse of [`to_ito`][hybrid_nds.to_ito].

    **Arguments:** `problem`, an [`SDEProblem`][hybrid_nds.SDEProblem].

    **Returns:** the problem with the other drift; `problem` itself if it is
    Stratonovich's.
    """
    return _converted(problem, "stratonovich")


def _converted(problem: SDEProblem, target: Interpretation) -> SDEProblem:
    check_kind(f"to_{target}", problem, "sde")
    if problem.interpretation == target:
        return problem
    drift: Any = problem.drift
    if problem.noise != "additive":
        sign = 1 if target == "ito" else -1
        if (
            isinstance(drift, CorrectedDrift)
            and drift.sign == -sign
            and _identical(drift.diffusion, problem.diffusion)
        ):
            drift = drift.drift
        else:
            drift = CorrectedDrift(
                drift, problem.diffusion, problem.noise, problem.matrix_noise, sign
            )
    other = eqx.tree_at(
        lambda p: p.drift, problem, drift, is_leaf=lambda leaf: leaf is problem.drift
    )
    object.__setattr__(other, "interpretation", target)
    return other


def _identical(a: Any, b: Any) -> bool:
    """Whether two callables are one, or modules of one structure and the same leaves:
    each replacement in a problem makes its modules anew."""
    parts, others = jtu.tree_leaves(a), jtu.tree_leaves(b)
    return jtu.tree_structure(a) == jtu.tree_structure(b) and all(
        x is y for x, y in zip(parts, others, strict=True)
    )


class CorrectedDrift(eqx.Module):
    """A drift plus or minus the correction $\\tfrac12 \\sum_j Dg_j\\, g_j$."""

    drift: VectorField
    diffusion: VectorField
    noise: NoiseKind = eqx.field(static=True)
    matrix_noise: bool = eqx.field(static=True)
    sign: int = eqx.field(static=True)

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        correction = self._correction(t, y, args)
        return jtu.tree_map(
            lambda f, c: f + self.sign * 0.5 * c, self.drift(t, y, args), correction
        )

    def _correction(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        known = with_forward_rule(self.diffusion, t, y, args)

        def diffusion(y: PyTree[Array]) -> PyTree[Array]:
            return known(t, y, args)

        if self.matrix_noise:
            g = diffusion(y)
            count = jtu.tree_leaves(g)[0].shape[-1]

            def along(j: Any) -> PyTree[Array]:
                column = jtu.tree_map(lambda leaf: leaf[..., j], g)
                moved = jax.jvp(diffusion, (y,), (column,))[1]
                return jtu.tree_map(lambda leaf: leaf[..., j], moved)

            terms = jax.vmap(along)(jnp.arange(count))
            return jtu.tree_map(lambda leaf: jnp.sum(leaf, axis=0), terms)
        if self.noise == "scalar":
            return jax.jvp(diffusion, (y,), (diffusion(y),))[1]
        # Component i moves with its own Brownian motion only: of the Jacobian, the
        # diagonal counts, even where the diffusion depends on other components.
        flat, unravel = ravel_pytree(y)

        def flat_diffusion(u: Array) -> Array:
            return ravel_pytree(diffusion(unravel(u)))[0]

        jacobian = jax.jacfwd(flat_diffusion)(flat)
        return unravel(jnp.diagonal(jacobian) * flat_diffusion(flat))


def _flatten_diffusion(g: PyTree, matrix_noise: bool, noise_dimension: int) -> Array:
    if not matrix_noise:
        return ravel_pytree(g)[0]
    leaves = [leaf.reshape(-1, noise_dimension) for leaf in jtu.tree_leaves(g)]
    return jnp.concatenate(leaves)


def _noise_shape(
    noise: NoiseKind, diffusion: VectorField, t0: Array, y0: PyTree, args: PyTree
) -> tuple[bool, int]:
    """Whether the diffusion is a matrix, and how many Brownian motions there are."""
    try:
        g = eqx.filter_eval_shape(diffusion, t0, y0, args)
    except Exception as error:
        raise ValueError(
            "SDEProblem: `diffusion` could not be evaluated as diffusion(t, y, args) "
            f"at the initial state: {type(error).__name__}: {error}"
        ) from error
    expected, given = jtu.tree_structure(y0), jtu.tree_structure(g)
    if expected != given:
        raise ValueError(
            "SDEProblem: `diffusion` must return the structure of `y0`, expected "
            f"{expected}, got {given}."
        )
    states = jtu.tree_flatten_with_path(y0)[0]
    parts = jtu.tree_leaves(g)
    shapes = [getattr(part, "shape", None) for part in parts]
    same = all(s == y.shape for s, (_, y) in zip(shapes, states, strict=True))
    extended = (
        all(
            s is not None and len(s) == y.ndim + 1 and s[:-1] == y.shape and s[-1] > 0
            for s, (_, y) in zip(shapes, states, strict=True)
        )
        and len({s[-1] for s in shapes if s}) == 1
    )
    vector_kinds = ("scalar", "diagonal", "additive")
    matrix_kinds = ("general", "commutative", "additive")
    if not ((same and noise in vector_kinds) or (extended and noise in matrix_kinds)):
        expected = {
            "vector": "the shape of `y0`",
            "matrix": "the shape of `y0` with one more axis, of one entry a Brownian "
            "motion and of the same length in every leaf",
        }
        able = [
            expected[form]
            for form, kinds in (("vector", vector_kinds), ("matrix", matrix_kinds))
            if noise in kinds
        ]
        lines = ", ".join(
            f"y0{jtu.keystr(path)}: state {list(y.shape)}, diffusion "
            f"{list(s) if s is not None else type(part).__name__}"
            for (path, y), s, part in zip(states, shapes, parts, strict=True)
        )
        raise ValueError(
            f"SDEProblem: with {noise!r} noise `diffusion` must return "
            f"{' or '.join(able)}; got {lines}."
        )
    for (path, y), part in zip(states, parts, strict=True):
        if part.dtype != y.dtype:
            raise ValueError(
                "SDEProblem: `diffusion` must return the dtype of `y0`; at "
                f"y0{jtu.keystr(path)} expected {y.dtype}, got {part.dtype}."
            )
    if extended:
        return True, parts[0].shape[-1]
    return False, 1 if noise == "scalar" else sum(y.size for _, y in states)


def _check_claim(problem: SDEProblem) -> None:
    """Check at `y0`, and at a point beside it, what the noise kind claims."""
    if problem.noise in ("scalar", "general"):
        return
    # Also where the caller is traced: the problem itself is not.
    with jax.ensure_compile_time_eval():
        u0 = np.asarray(ravel_pytree(problem.y0)[0])
        # One point alone may be special: every linear diffusion commutes at zero.
        waves = np.cos(1.0 + np.arange(u0.size))
        beside = u0 + 0.1 * (1 + np.abs(u0)) * waves
        points = np.stack([u0, beside.astype(u0.dtype)])
        largest, asymmetry = np.asarray(_brackets(problem, points)).astype(float)
    limit = np.sqrt(np.finfo(problem.dtype).eps)
    if problem.noise == "additive":
        if not np.isfinite(largest):
            raise ValueError(
                "SDEProblem: with 'additive' noise `diffusion` must not depend on the "
                f"state, but its derivative there is {largest} at or near `y0`, which "
                "tells nothing; make it finite there, or say noise='diagonal' or "
                "'general'."
            )
        if largest > 0:
            raise ValueError(
                "SDEProblem: with 'additive' noise `diffusion` must not depend on the "
                f"state, but its derivative there is up to {largest:.3g} at or near "
                "`y0`; say noise='diagonal' or 'general'."
            )
    elif asymmetry > limit * largest:
        reason = (
            "the diffusion of one component depends on another"
            if problem.noise == "diagonal"
            else "the columns of the diffusion do not commute"
        )
        warnings.warn(
            f"SDEProblem: the noise is said to be {problem.noise!r}, but at or near "
            f"`y0` {reason}: solvers that rely on it lose their order. Say "
            "noise='general', with a matrix diffusion.",
            stacklevel=3,
        )


@eqx.filter_jit
def _brackets(problem: SDEProblem, points: Any) -> Array:
    """At its largest over the points: for additive noise the derivative of the
    diffusion, else $Dg_j g_k$ and its asymmetry in $j, k$."""
    t, diffusion = problem.t0, problem.diffusion
    known = with_forward_rule(diffusion, t, problem.y0, problem.args)
    if known is not diffusion:
        problem = eqx.tree_at(lambda p: p.diffusion, problem, known)
    flat = problem.flat_diffusion()

    def at(u: Array) -> Array:
        # Columns by NumPy: JAX would compute them here, each operation a program.
        columns = np.eye(u.size, dtype=u.dtype)
        push = lambda column: jax.jvp(lambda u: flat(t, u), (u,), (column,))[1]
        derivative = jax.vmap(push, out_axes=-1)(columns)
        if problem.noise == "additive":
            largest = jnp.max(jnp.abs(derivative))
            return jnp.stack([largest, jnp.zeros_like(largest)])
        g = flat(t, u)
        if not problem.matrix_noise:
            own = columns.astype(bool)
            g = jnp.where(own, g, 0)
            derivative = jnp.where(own[:, :, None], derivative[:, None], 0)
        products = jnp.einsum("ijl,lk->ijk", derivative, g)
        asymmetry = products - jnp.swapaxes(products, 1, 2)
        return jnp.stack([jnp.max(jnp.abs(products)), jnp.max(jnp.abs(asymmetry))])

    return jnp.max(jax.vmap(at)(points), axis=0)
