"""What every other room may use; it uses none of them."""

from ._compile import QUICKLY as QUICKLY
from ._page import data_uri as data_uri, render_page as render_page
