"""Seconds a training step of torchdiffeq and torchsde, for `training.py`: run by a
Python that has torch and both. Prints the seconds of each round as JSON."""

import json
import os
import sys
import time

import numpy as np
import torch
import torchdiffeq
import torchsde

torch.set_num_threads(1)


def network(arrays, prefix):
    """A perceptron with softplus from the weights of the other side."""
    layers = []
    for k in range(sum(name.startswith(prefix + "weight") for name in arrays.files)):
        weight, bias = arrays[f"{prefix}weight{k}"], arrays[f"{prefix}bias{k}"]
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data = torch.tensor(weight)
        linear.bias.data = torch.tensor(bias)
        layers += [linear, torch.nn.Softplus()]
    return torch.nn.Sequential(*layers[:-1])


class Field(torch.nn.Module):
    def __init__(self, arrays):
        super().__init__()
        self.network = network(arrays, "ode/")

    def forward(self, t, y):
        return self.network(y)


class Stochastic(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, arrays):
        super().__init__()
        self.drift = network(arrays, "drift/")
        self.spread = torch.nn.Parameter(torch.tensor(arrays["spread"]))

    def f(self, t, y):
        return self.drift(y)

    def g(self, t, y):
        return torch.nn.functional.softplus(self.spread).expand_as(y)


def ode_step(arrays, solve):
    """One step of training on trajectories."""
    model = Field(arrays)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    times, paths = torch.tensor(arrays["times"]), torch.tensor(arrays["paths"])
    size = int(arrays["batch"])

    def step():
        batch = paths[torch.randperm(len(paths))[:size]]
        optimizer.zero_grad()
        found = solve(model, batch[:, 0], times, rtol=1e-3, atol=1e-6, method="dopri5")
        loss = ((found.transpose(0, 1) - batch) ** 2).mean()
        loss.backward()
        optimizer.step()

    return step


def sde_step(arrays):
    """One step of training on the moments at the end."""
    model = Stochastic(arrays)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    times = torch.tensor([0.0, 1.0])
    starts = torch.zeros(int(arrays["trajectories"]), 2)
    dt = 1 / int(arrays["steps"])

    def step():
        optimizer.zero_grad()
        end = torchsde.sdeint(model, starts, times, dt=dt, method="euler")[-1]
        loss = ((end.mean(0) - 1) ** 2).sum() + ((end.var(0) - 0.25) ** 2).sum()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    arrays = np.load(sys.argv[1])
    count, few, rounds, core = map(int, sys.argv[2:6])
    os.sched_setaffinity(0, {core})
    torch.manual_seed(0)
    ways = {
        "neural ODE": {
            "torchdiffeq, backpropagation": (
                ode_step(arrays, torchdiffeq.odeint),
                count,
            ),
            "torchdiffeq, adjoint": (
                ode_step(arrays, torchdiffeq.odeint_adjoint),
                few,
            ),
        },
        "neural SDE": {"torchsde, backpropagation": (sde_step(arrays), few)},
    }
    found = {}
    for name, steps in ways.items():
        seconds = {label: [] for label in steps}
        # The first round is not counted, as with the others.
        for turn in range(rounds + 1):
            for label, (step, times) in steps.items():
                began = time.process_time()
                for _ in range(times):
                    step()
                if turn:
                    seconds[label].append((time.process_time() - began) / times)
        found[name] = seconds
    print(json.dumps(found))


if __name__ == "__main__":
    main()
