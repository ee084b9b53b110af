"""Nanoseconds a step of torchsde, batched, for `ensemble.py`: run by a Python that has
torch and torchsde. Prints one number a problem as JSON."""

import json
import os
import sys
import time

import torch
import torchsde

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


class Geometric(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return 0.05 * y

    def g(self, t, y):
        return 0.2 * y


class Neural(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()

        def network(size, width):
            tanh = torch.nn.Tanh()
            sizes = [(size, width), (width, width), (width, size)]
            first, second, third = (torch.nn.Linear(*size) for size in sizes)
            return torch.nn.Sequential(first, tanh, second, tanh, third)

        self.drift, self.diffusion = network(2, 16), network(1, 8)

    def f(self, t, y):
        return self.drift(y)

    def g(self, t, y):
        return 0.3 * torch.sigmoid(self.diffusion(y[..., None]))[..., 0]


def main() -> None:
    steps, trajectories, rounds = (int(a) for a in sys.argv[1:4])
    os.sched_setaffinity(0, {int(sys.argv[4])})
    found = {}
    for name, sde, start in (
        ("GBM", Geometric(), torch.ones(trajectories, 1)),
        ("neural SDE", Neural(), torch.tensor([1.0, 0.5]).repeat(trajectories, 1)),
    ):
        times = torch.tensor([0.0, 1.0])
        seconds = []
        for _ in range(rounds):
            began = time.process_time()
            with torch.no_grad():
                torchsde.sdeint(sde, start, times, dt=1 / steps, method="euler")
            seconds.append(time.process_time() - began)
        found[name] = [s / steps / trajectories * 1e9 for s in seconds]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
