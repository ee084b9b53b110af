"""The benchmark's problems as one would write them in NumPy, with their Jacobians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Field = Callable[[float, np.ndarray], np.ndarray]
Parts = tuple[Field, Field]


def robertson(parameters: Mapping[str, Any]) -> Parts:
    """Plain numbers: three components are too few for arrays to pay."""
    k1, k2, k3 = (parameters[name] for name in ("k1", "k2", "k3"))

    def field(t, y):
        y1, y2, y3 = y.tolist()
        slow, back, fast = k1 * y1, k3 * y2 * y3, k2 * y2 * y2
        return np.array([back - slow, slow - back - fast, fast])

    def jacobian(t, y):
        _, y2, y3 = y.tolist()
        return np.array(
            [
                [-k1, k3 * y3, k3 * y2],
                [k1, -k3 * y3 - 2 * k2 * y2, -k3 * y2],
                [0.0, 2 * k2 * y2, 0.0],
            ]
        )

    return field, jacobian


# POLLU's reactions, reactants > products, species numbered from 1.
POLLU = (
    "1>2 3; 2 4>1; 5 2>6 1; 7>5 5 8; 7>8; 7 6>5 8; 9>10 5 8; 9 6>11; 11 2>10 1 12; "
    "11 1>13; 13>11 1; 10 2>14 1; 14>7 5; 1 6>15; 3>4; 4>16; 4>3; 16>6 6; 16>3; "
    "17 6>5 18; 19>2; 19>1 3; 1 4>19; 19 1>20; 20>19 1"
)


def pollution(parameters: Mapping[str, Any]) -> Parts:
    """Rates and stoichiometry; the second factor of a lone reactant is one."""
    k = np.array([parameters[f"k{i}"] for i in range(1, 26)])
    reactions = np.arange(25)
    first, second = np.zeros(25, int), np.full(25, 20)
    matrix = np.zeros((20, 25))
    for r, reaction in enumerate(POLLU.split(";")):
        reactants, products = (side.split() for side in reaction.split(">"))
        first[r] = int(reactants[0]) - 1
        if len(reactants) == 2:
            second[r] = int(reactants[1]) - 1
        for side, sign in ((reactants, -1.0), (products, 1.0)):
            for species in side:
                matrix[int(species) - 1, r] += sign
    factors = np.ones(21)
    pairs = np.flatnonzero(second < 20)

    def field(t, y):
        factors[:20] = y
        return matrix @ (k * factors[first] * factors[second])

    def jacobian(t, y):
        factors[:20] = y
        slopes = np.zeros((25, 20))
        slopes[reactions, first] = k * factors[second]
        slopes[pairs, second[pairs]] += k[pairs] * factors[first[pairs]]
        return matrix @ slopes

    return field, jacobian


def brusselator(parameters: Mapping[str, Any]) -> Parts:
    """Slices for the Laplacian; the constant part of the Jacobian is kept."""
    a, b, diffusivity = (parameters[name] for name in ("a", "b", "diffusivity"))
    n = 64
    gamma = diffusivity * (n + 1) ** 2
    line = gamma * (np.eye(n, k=1) + np.eye(n, k=-1) - 2 * np.eye(n))
    constant = np.kron(np.eye(2), line)
    i = np.arange(n)
    constant[i, i] -= b + 1
    constant[n + i, i] += b

    def field(t, y):
        u, v = y[:n], y[n:]
        rate = u * u * v
        out = np.empty(2 * n)
        du, dv = out[:n], out[n:]
        du[:] = a + rate - (b + 1 + 2 * gamma) * u
        dv[:] = b * u - rate - 2 * gamma * v
        du[1:] += gamma * u[:-1]
        du[:-1] += gamma * u[1:]
        dv[1:] += gamma * v[:-1]
        dv[:-1] += gamma * v[1:]
        du[0] += gamma * a
        du[-1] += gamma * a
        dv[0] += gamma * b / a
        dv[-1] += gamma * b / a
        return out

    def jacobian(t, y):
        u, v = y[:n], y[n:]
        out = constant.copy()
        out[i, i] += 2 * u * v
        out[i, n + i] += u * u
        out[n + i, i] -= 2 * u * v
        out[n + i, n + i] -= u * u
        return out

    return field, jacobian


def network(parameters: Mapping[str, Any]) -> Parts:
    """Products of matrices, with tanh between them."""
    weights = [np.array(layer["weight"]) for layer in parameters["layers"]]
    biases = [np.array(layer["bias"]) for layer in parameters["layers"]]

    def field(t, y):
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            y = np.tanh(weight @ y + bias)
        return weights[-1] @ y + biases[-1]

    def jacobian(t, y):
        product = np.eye(len(y))
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            y = np.tanh(weight @ y + bias)
            product = (1 - y * y)[:, None] * (weight @ product)
        return weights[-1] @ product

    return field, jacobian


NUMPY_FIELDS: Mapping[str, Callable[[Mapping[str, Any]], Parts]] = {
    "robertson": robertson,
    "pollu": pollution,
    "brusselator_1d": brusselator,
    "neural_ode": network,
}
