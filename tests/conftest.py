"""Double precision throughout, and the live Julia where one is configured."""

import jax

jax.config.update("jax_enable_x64", True)
