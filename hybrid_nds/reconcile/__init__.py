"""How far two solver stacks agree on one problem, rung by rung."""

import lazy_loader

# What is exported stands in __init__.pyi: the command line names problems and rungs
# without JAX, which its worker processes import.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
