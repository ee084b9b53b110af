"""What checks the package's annotations while tests run."""

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

# A whole number is a float to type checkers, and so it is here; a whole number of NumPy
# is one, and what NumPy makes of an array without axes is an array.
check = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,
        hint_overrides=FrozenDict(
            {int: int | np.integer, np.ndarray: np.ndarray | np.generic}
        ),
    )
)
