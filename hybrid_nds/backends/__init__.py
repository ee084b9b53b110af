"""The solver stacks behind `solve`."""
