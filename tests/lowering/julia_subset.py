"""Runs lowered source in Python: a reader of the small part of Julia that it uses.

It lets the meaning of the emitted code be tested where there is no Julia. It shares
nothing with the emitter but the language, and knows one- from zero-based, column- from
row-major, and Julia's number types.
"""

import math
import re

import numpy as np
import scipy.special


class Array:
    """A column-major, one-based Julia array over flat storage."""

    def __init__(self, flat, dims, offset=0):
        self.storage, self.dims, self.offset = flat, tuple(dims), offset

    def _place(self, index):
        if not isinstance(index, tuple):
            place = int(index)
        else:
            assert len(index) == len(self.dims)
            place, stride = 1, 1
            for i, n in zip(index, self.dims, strict=True):
                assert 1 <= i <= n, (index, self.dims)
                place += (int(i) - 1) * stride
                stride *= n
        assert 1 <= place <= math.prod(self.dims), (index, self.dims)
        return self.offset + place - 1

    def __getitem__(self, index):
        place = self._place(index)
        if isinstance(self.storage, Array):
            return self.storage[place + 1]
        return self.storage[place]

    def __setitem__(self, index, value):
        place = self._place(index)
        if isinstance(self.storage, Array):
            self.storage[place + 1] = value
        else:
            self.storage[place] = value

    def matrix(self):
        count = math.prod(self.dims)
        flat = [self[k + 1] for k in range(count)]
        return np.array(flat).reshape(self.dims, order="F")

    def assign(self, matrix):
        for k, x in enumerate(np.asarray(matrix).reshape(-1, order="F")):
            self[k + 1] = x


class _Type:
    """A Julia number type: `Int32(x)` and `x % Int32`."""

    __array_ufunc__ = None

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, x):
        return self.kind(x)

    def __rmod__(self, x):
        return np.asarray(x).astype(self.kind)[()]


_TYPES = {
    name: _Type(getattr(np, name.lower()))
    for name in [
        "Float64",
        "Float32",
        "Float16",
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
    ]
} | {"Bool": _Type(np.bool_), "Int": _Type(int)}


def _choose(condition, yes, no):
    return yes if condition else no


def _product(out, a, b, turn_a, turn_b):
    a, b = a.matrix(), b.matrix()
    out.assign((a.T if turn_a else a) @ (b.T if turn_b else b))


def _cholesky(block):
    lower = np.linalg.cholesky(block.matrix().T)
    block.assign(lower.T)


def _lu(block, pivots, permutation):
    a = block.matrix().T.copy()
    m, n = a.shape
    order = np.arange(m)
    for k in range(min(m, n)):
        best = k + int(np.argmax(np.abs(a[k:, k])))
        pivots[k + 1] = best
        a[[k, best]], order[[k, best]] = a[[best, k]], order[[best, k]]
        a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    block.assign(a.T)
    permutation.assign(order)


def _pivots(permutation, pivots):
    order = list(range(permutation.dims[0]))
    for k in range(pivots.dims[0]):
        other = int(pivots[k + 1])
        order[k], order[other] = order[other], order[k]
    permutation.assign(order)


def _triangular(x, a, left, lower, turned, unit):
    matrix, right = a.matrix().T, x.matrix().T
    matrix = np.tril(matrix) if lower else np.triu(matrix)
    if unit:
        np.fill_diagonal(matrix, 1)
    matrix = matrix.T if turned else matrix
    solved = (
        np.linalg.solve(matrix, right) if left else np.linalg.solve(matrix.T, right.T).T
    )
    x.assign(solved.T)


def _sort(keys, arrays, starts, step, n):
    lines = [
        [a[s + k * step] for k in range(n)] for a, s in zip(arrays, starts, strict=True)
    ]
    order = sorted(range(n), key=lambda k: tuple(line[k] for line in lines[:keys]))
    for a, s, line in zip(arrays, starts, lines, strict=True):
        for k, origin in enumerate(order):
            a[s + k * step] = line[origin]


def _truncate(kind, x):
    return kind.kind(0 if np.isnan(x) else np.trunc(x))


def _logical_shift(x, n):
    width = np.asarray(x).dtype.itemsize * 8
    unsigned = np.asarray(x).astype(f"uint{width}")
    return (unsigned >> np.asarray(n).astype(unsigned.dtype)).astype(
        np.asarray(x).dtype
    )[()]


def _round(x, mode=None):
    if mode is None:
        return np.round(x)
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


_FUNCTIONS = {
    "choose": _choose,
    "product_": _product,
    "cholesky_lower_": _cholesky,
    "lu_factors_": _lu,
    "pivots_to_permutation_": _pivots,
    "triangular_solve_": _triangular,
    "sort_lines_": _sort,
    "truncate": _truncate,
    "Block": lambda parent, offset, dims: Array(parent, dims, offset),
    "scratch": lambda kind, dims: Array(np.zeros(math.prod(dims), kind.kind), dims),
    "fill_": lambda a, x: a.assign(np.full(a.dims, x)),
    "convert": lambda kind, x: kind(x),
    "zero": lambda kind: kind(0),
    "narrow": lambda kind, x: kind(x),
    "reinterpret": lambda kind, x: np.asarray(x).view(kind.kind)[()],
    "Val": lambda x: x,
    "Tuple": lambda a: [a[k + 1] for k in range(math.prod(a.dims))],
    "inv": lambda x: 1 / x,
    "clamp": lambda x, low, high: min(max(x, low), high),
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "sign": np.sign,
    "rem": np.fmod,
    "power": np.power,
    "square_root": np.sqrt,
    "cbrt": np.cbrt,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "logarithm": np.log,
    "logarithm1p": np.log1p,
    "logistic": scipy.special.expit,
    "sine": np.sin,
    "cosine": np.cos,
    "tangent": np.tan,
    "arcsine": np.arcsin,
    "arccosine": np.arccos,
    "atan": lambda *x: np.arctan(*x) if len(x) == 1 else np.arctan2(*x),
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "area_cosine": np.arccosh,
    "area_tangent": np.arctanh,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "inverse_erf": scipy.special.erfinv,
    "log_abs_gamma": scipy.special.gammaln,
    "digamma": scipy.special.digamma,
    "polygamma_real": lambda m, x: scipy.special.polygamma(int(m), x)[()],
    "hurwitz_zeta": scipy.special.zeta,
    "lower_gamma": scipy.special.gammainc,
    "upper_gamma": scipy.special.gammaincc,
    "incomplete_beta": scipy.special.betainc,
    "bessel_i0e": scipy.special.i0e,
    "bessel_i1e": scipy.special.i1e,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": _round,
    "next_after": np.nextafter,
    "isfinite": np.isfinite,
    "isless": lambda x, y: x < y,
    "exceeds": lambda x, y: x > y or (x != x and y == y),
    "falls_below": lambda x, y: x < y or (x != x and y == y),
    "xor": lambda x, y: x ^ y,
    "shift_left": lambda x, n: x << n,
    "shift_right_logical": _logical_shift,
    "shift_right_arithmetic": lambda x, n: x >> n,
    "integer_divide": lambda x, y: type(x)(math.trunc(x / y)) if y else type(x)(-1),
    "integer_remainder": lambda x, y: np.fmod(x, y) if y else x,
    "population_count": lambda x: type(x)(int(x).bit_count()),
    "log_add_exp": np.logaddexp,
    "promote_type": lambda *kinds: kinds[0],
    "Inf": np.inf,
    "NaN": np.nan,
    "Inf32": np.float32(np.inf),
    "NaN32": np.float32(np.nan),
    "true": np.True_,
    "false": np.False_,
    "RoundNearestTiesAway": "away",
    "nothing": None,
}


def _expression(text):
    text = re.sub(r"S(?:Vector|Matrix)\{[^}]*\}\(", "_vector(", text)
    text = re.sub(r"(\w)!(?=\()", r"\1_", text)
    text = re.sub(r"(?<![\w])!(?!=)", " not ", text)
    text = re.sub(r"\b(\d+\.?\d*)f(-?\d+)\b", r"Float32(\1e\2)", text)
    # Julia's integers and floats are NumPy's here: no bignums, division as IEEE.
    text = re.sub(r"(?<![\w.])(\d+\.\d+(?:e[-+]?\d+)?)", r"Float64(\1)", text)
    return (
        text.replace("^", "**")
        .replace("÷", "//")
        .replace("||", " or ")
        .replace("&&", " and ")
    )


def _statement(line):
    loop = re.fullmatch(r"(?:@simd )?for (\w+) in 1:(\d+)", line)
    if loop:
        return f"for {loop[1]} in range(1, {int(loop[2]) + 1}):", 1
    if line == "@inbounds begin":
        return "if True:", 1
    if line == "while true":
        return "while True:", 1
    if line.startswith("function "):
        return f"def {_expression(line.removeprefix('function '))}:", 1
    if line.startswith("elseif "):
        return f"elif {_expression(line.removeprefix('elseif '))}:", 0
    if line.startswith("if "):
        return f"{_expression(line)}:", 1
    if line == "else":
        return "else:", 0
    if line == "end":
        return None, -1
    if line.endswith(" || break"):
        return f"if not ({_expression(line.removesuffix(' || break'))}): break", None
    guarded = re.fullmatch(r"(.*) && \(([^=]*\S = .*)\)", line)
    if guarded:
        return f"if {_expression(guarded[1])}: {_expression(guarded[2])}", None
    return _expression(line), None


def translate(source):
    """The Python text of a lowered Julia function."""
    lines, depth = [], 0
    for raw in source.splitlines():
        line = raw.strip()
        if not line:
            continue
        text, change = _statement(line)
        if change == -1:
            depth -= 1
            continue
        level = depth - 1 if change == 0 else depth
        lines.append("    " * level + text.strip())
        if change == 1:
            depth += 1
            lines.append("    " * depth + "pass")
        if change == 0:
            lines.append("    " * depth + "pass")
    return "\n".join(lines)


def evaluate(lowered, u, p, t):
    """Call a `LoweredFunction` in Python; an array of `output_shape`."""
    kind = _Type(lowered.dtype.type)
    names = dict(_FUNCTIONS) | dict(_TYPES)
    names |= {"T": kind, "eltype": lambda x: kind, "typeof": lambda x: kind}
    names["_vector"] = lambda *x: list(x[0]) if isinstance(x[0], list) else list(x)
    exec(translate(lowered.source), names)
    fn = names[lowered.name.replace("!", "_")]
    u, p = (np.asarray(x, lowered.dtype) for x in (u, p))
    vectors = [Array(u, u.shape), Array(p, p.shape)]
    constants = [Array(c.reshape(-1), c.shape[::-1]) for c in lowered.constants]
    constants = Array(constants, (len(constants),))
    with np.errstate(all="ignore"):
        if lowered.form == "scalar":
            flat = fn(*vectors, lowered.dtype.type(t), constants)
        else:
            work = []
            for element, dims in lowered.workspace:
                dtype = lowered.dtype if element == "float" else np.dtype(element)
                # Whatever was there before must not matter.
                filler = np.nan if dtype.kind == "f" else 77 % 2
                work.append(Array(np.full(math.prod(dims), filler, dtype), dims))
            work = Array(work, (len(work),))
            out = Array(
                np.full(lowered.output_size, np.nan, lowered.dtype),
                lowered.output_shape,
            )
            fn(out, *vectors, lowered.dtype.type(t), work, constants)
            flat = out.storage
    return np.asarray(flat, lowered.dtype).reshape(lowered.output_shape, order="F")
