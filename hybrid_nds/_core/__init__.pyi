from ._compile import QUICKLY as QUICKLY
from ._forward_mode import (
    ForwardField as ForwardField,
    has_forward_rule as has_forward_rule,
    takes_tangents as takes_tangents,
    with_forward_rule as with_forward_rule,
)
from ._page import data_uri as data_uri, render_page as render_page
