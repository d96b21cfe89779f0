"""Numbers of `src/train/outer/tests.rs`: DiLoCo's outer step (arXiv:2311.08105, algorithm 1, with the Nesterov momentum of
torch.optim.SGD) in 32-bit floats, each operation rounded once. Needs numpy; prints the bits of all values after each round.
"""

import numpy as np

f = np.float32


def brought(round, worker, entry):
    """Where a worker has come to: any numbers that need all their bits."""
    return f(f(1 + entry * entry - worker) / f(3 + 7 * worker + 31 * round))


def rounds(lr, momentum, workers, entries=3, count=3):
    lr, momentum = f(lr), f(momentum)
    values = [f(entry) / f(3) for entry in range(entries)]
    buffer = [f(0)] * entries
    for round in range(count):
        for entry in range(entries):
            total = brought(round, 0, entry)
            for worker in range(1, workers):
                total = f(total + brought(round, worker, entry))
            gradient = f(values[entry] - f(total / f(workers)))
            buffer[entry] = f(f(momentum * buffer[entry]) + gradient)
            step = f(gradient + f(momentum * buffer[entry]))
            values[entry] = f(values[entry] - f(lr * step))
        yield [f"{value.view(np.uint32):08x}" for value in values]


for lr, momentum, workers in [(0.7, 0.9, 1), (0.7, 0.9, 3), (0.5, 0.0, 2)]:
    print(lr, momentum, workers, list(rounds(lr, momentum, workers)))
