"""What every other room may use; it uses none of them."""

from ._compile import QUICKLY as QUICKLY
from ._jacobian import (
    jacobian as jacobian,
    reverse_only as reverse_only,
    value_and_jacobian as value_and_jacobian,
)
from ._page import data_uri as data_uri, render_page as render_page
