"""What checks the package's annotations while tests run."""

from beartype import BeartypeConf, beartype

# A whole number is a float to type checkers, and so it is here.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
