# Stochastic equations. Complex numbers are matrices of two by two that commute, so that
# dz = a z dt + Σ b z dW has the solution z₀ exp((a - Σ b²/2) t + Σ b W) in Itô's sense,
# and z₀ exp(a t + Σ b W) in Stratonovich's.

STEPS, PATHS = 256, 8
RATE, NOISE, Z0 = -0.5 + 1.0j, (0.7 + 0.3j, -0.3 + 0.6j), 1.0 + 0.5j
# Matrices that do not commute, for noise of no closed form but its moments.
DRIFT = np.array([[-0.5, 1.0], [-1.0, -0.5]])
COLUMNS = (np.array([[0.5, 0.0], [0.2, 0.1]]), np.array([[0.0, 0.6], [0.3, -0.2]]))


def as_matrix(z):
    return np.array([[z.real, -z.imag], [z.imag, z.real]])


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A problem, and its solution at the end from Brownian motions, if there is one."""

    problem: SDEProblem
    exact: Callable[[np.ndarray], np.ndarray] | None = None


def linear(matrices, noise, interpretation, y0, dtype=np.float64):
    """dy = A y dt + Σ B y dW."""
    drift, *columns = [jnp.asarray(m, dtype) for m in matrices]

    def diffusion(t, y, args):
        parts = [column @ y for column in columns]
        return parts[0] if noise == "scalar" else jnp.stack(parts, axis=-1)

    return SDEProblem(
        lambda t, y, args: drift @ y,
        diffusion,
        np.asarray(y0, dtype),
        0.0,
        1.0,
        noise=noise,
        interpretation=interpretation,
    )


def spiral(noise, interpretation, dtype: Any = np.float64) -> Noisy:
    columns = NOISE[:1] if noise == "scalar" else NOISE
    matrices = [as_matrix(z) for z in (RATE, *columns)]
    y0 = [Z0.real, Z0.imag]
    square = sum(b * b for b in columns) if interpretation == "ito" else 0.0

    def exact(w):
        z = Z0 * np.exp(RATE - square / 2 + sum(map(np.multiply, columns, w)))
        return np.array([z.real, z.imag])

    return Noisy(linear(matrices, noise, interpretation, y0, dtype), exact)


def general(noise, interpretation) -> Noisy:
    return Noisy(linear((DRIFT, *COLUMNS), noise, interpretation, [1.0, 0.5]))


def diagonal(noise, interpretation) -> Noisy:
    """dX = cos(t) X dt + b X dW, each component with a noise of its own."""
    b, y0 = np.array([0.8, -0.6]), np.array([1.0, 0.5])
    problem = SDEProblem(
        lambda t, y, args: jnp.cos(t) * y,
        lambda t, y, args: jnp.asarray(b) * y,
        y0,
        0.0,
        1.0,
        noise=noise,
        interpretation=interpretation,
    )
    square = b**2 if interpretation == "ito" else 0.0
    return Noisy(problem, lambda w: y0 * np.exp(math.sin(1.0) - square / 2 + b * w))


def additive(noise, interpretation, matrix=False) -> Noisy:
    """Kloeden & Platen (1992), equation 4.4.7: X = X₀/√(1+t) + β (t + α W)/√(1+t)."""
    alpha, beta = np.array([0.3, -0.5]), np.array([0.5, 1.0])

    def diffusion(t, y, args):
        own = jnp.asarray(alpha * beta) / jnp.sqrt(1 + t)
        return jnp.diag(own) if matrix else own

    problem = SDEProblem(
        lambda t, y, args: jnp.asarray(beta) / jnp.sqrt(1 + t) - y / (2 * (1 + t)),
        diffusion,
        np.ones(2),
        0.0,
        1.0,
        noise=noise,
        interpretation=interpretation,
    )
    return Noisy(problem, lambda w: (1 + beta * (1 + alpha * w)) / math.sqrt(2))


def langevin(noise, interpretation) -> Noisy:
    return Noisy(
        underdamped_langevin(
            lambda x, args: x,
            np.ones(1),
            np.zeros(1),
            0.0,
            1.0,
            interpretation=interpretation,
        )
    )


NOISY: dict[str, Callable[..., Noisy]] = {
    "additive": additive,
    "additive matrix": lambda *kind: additive(*kind, matrix=True),
    "scalar": spiral,
    "scalar float32": lambda *kind: spiral(*kind, dtype=np.float32),
    "diagonal": diagonal,
    "commutative": spiral,
    "general": general,
    "additive langevin": langevin,
}
SENSES = ("ito", "stratonovich")


def kinds(info: Method, stack: str) -> list[str]:
    asked = []
    for name, make in NOISY.items():
        for sense in SENSES:
            kind = make(name.split()[0], sense).problem.kind
            if info.suits(kind, stack) is None and (kind.langevin or not info.langevin):
                asked.append(f"{name}, {sense}")
    # It refuses several Brownian motions, of which its row says what it loses.
    if LOST_TERMS in info.faults:
        asked = [one for one in asked if one.startswith("scalar")]
    return asked


def strong_order(info: Method, kind: Any) -> float | None:
    """Of convergence along paths; none for one that converges in law alone, or draws
    random numbers beside the path."""
    if not info.strong_order or (info.samples_area and kind.matrix_noise):
        return None
    order = info.strong_order[kind.noise]
    biased = BIASED_DIFFERENCES in info.faults and kind.interpretation != "ito"
    return min(order, 0.5) if biased else order


@pytest.mark.parametrize(("name", "stack", "kind"), cells(SDE_METHODS, kinds))
def test_stochastic_equations(name, stack, kind, request):
    live(stack, request)
    which, sense = kind.split(", ")
    asked = NOISY[which](which.split()[0], sense)
    info = find_solver(name, stack, "sde")
    order = strong_order(info, asked.problem.kind)
    if asked.exact is None or order is None:
        check_law(asked.problem, name, stack)
    else:
        check_paths(asked, name, stack, order)


def check_paths(asked: Noisy, name: str, stack: str, order: float) -> None:
    """The root mean square error along some paths, against the closed form."""
    problem = asked.problem
    shape = (2, PATHS, STEPS, problem.noise_dimension)
    dw, area = np.random.default_rng(3).normal(size=shape)
    dw, area = dw / math.sqrt(STEPS), area / math.sqrt(12 * STEPS)
    third = "space-time-time" if needs_third(name, stack) else None

    def end(dw, area):
        path = StoredPath(dw, area, t0=0.0, t1=1.0)
        return solve(problem, stack, solver=name, path=path).ys[-1]

    dtype = problem.dtype
    drawn = dw.astype(dtype), area.astype(dtype)
    if stack == "diffrax":
        ends = jax.jit(jax.vmap(end))(*map(jnp.asarray, drawn))
    else:
        ends = [end(*one) for one in zip(*drawn, strict=True)]
    expected = np.stack([asked.exact(w) for w in dw.sum(axis=1)])
    error = np.sqrt(np.mean((np.asarray(ends) - expected) ** 2))
    # The leading terms have factors of at most two (b², b³ and b⁴ times states of about
    # two); the other interpretation is off by b²/2 of the state, some .4. In single
    # precision 256 steps add round-off of 6e-8 each.
    assert third is None
    assert error < 2 * STEPS**-order + (256 * 6e-7 if dtype == np.float32 else 0)


def check_law(problem: SDEProblem, name: str, stack: str) -> None:
    """Mean and second moments at the end against those of the equation."""
    n, steps = 4000, 64
    found = ensemble(
        problem,
        n,
        key=jax.random.key(5),
        backend=stack,
        solver=name,
        dt=1 / steps,
    )
    states = np.concatenate(
        [np.asarray(y)[:, -1].reshape(n, -1) for y in jax.tree.leaves(found.ys)], axis=1
    )
    first, second = moments(problem)
    products = np.einsum("ki,kj->kij", states, states)
    for values, expected in ((states, first), (products, second)):
        error = np.abs(values.mean(axis=0) - expected)
        # One comparison in 10⁷ fails by chance; weak order one leaves 1/64 times a
        # factor of about one. The other interpretation is off by a tenth and more.
        spread = 5.3 * values.std(axis=0) / math.sqrt(n)
        assert np.all(error < spread + 1 / steps), (error, spread)
