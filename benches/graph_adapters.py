"""Published ways to adapt a frozen GCN to a few labels, beside a head alone: rows of recipes/gnn/README.md.

python benches/graph_adapters.py BASE ARCHIVE LABELS SEEDS [WAY:RATE ...]

BASE is the folder base/ of a run of the recipe cora-contrast, ARCHIVE what it was trained on, LABELS how many of each
class are learnt from, drawn anew by each seed. For every way, over seeds: test accuracy in % of the step with the best
validation accuracy (the first of equals; every second of 200 steps of Adam is looked at), that validation accuracy, and
by how much the test lies above that of the first way with the same labels. As in ftk's recipe half of the entries are
dropped before the second convolution, and the head's rate is 0.01; RATE is that of what is put into the base, by
default the one with the best validation accuracy of two seeds of three labels among 0.01, 0.001 and, of gpf, 0.0001.
Needs numpy, scipy and autograd.

head     a linear layer on what the rectified convolutions say
gpf      the same, and one vector added to the features of every node (Fang et al. 2023, GPF)
adapter  the same, and at both convolutions two bottlenecks of 15, before and after messages pass, each scaled by a number
         that is learnt (Li et al. 2024, AdapterGNN; without its normalisation of batches)
"""

import json
import statistics
import struct
import sys

import autograd.numpy as np
import numpy
import scipy.sparse as sparse
from autograd import grad
from autograd.extend import defvjp, primitive

BOTTLENECK, STEPS, EVERY, DROPPED = 15, 200, 2, 0.5
HEAD_RATE = 0.01


def tensors(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        values = numpy.frombuffer(data[8 + length + first : 8 + length + last], "<f4")
        found[name] = values.reshape(entry["shape"]).astype(numpy.float64)
    return found


def by(matrix):
    """The product of a sparse matrix, which is given, with whatever is behind it."""
    back = matrix.T.tocsr()
    product = primitive(lambda x: matrix @ x)
    defvjp(product, lambda ans, x: lambda g: back @ g)
    return product


def messages(edges, nodes):
    rows, columns = numpy.concatenate([edges, edges[::-1]], 1)
    adjacent = sparse.coo_matrix((numpy.ones(len(rows)), (rows, columns)), (nodes, nodes)).tocsr()
    adjacent.data[:] = 1.0
    adjacent.setdiag(1.0)
    root = sparse.diags(1.0 / numpy.sqrt(numpy.asarray(adjacent.sum(1)).ravel()))
    return (root @ adjacent @ root).tocsr()


class Frozen:
    """The base on a graph, with what of it is the same in every step."""

    def __init__(self, base, archive):
        weights, data = tensors(f"{base}/model.safetensors"), numpy.load(archive)
        x = data["x"].astype(numpy.float64)
        x /= numpy.maximum(x.sum(1, keepdims=True), 1e-12)
        self.messages, self.x = messages(data["edge_index"], len(x)), sparse.csr_matrix(x)
        self.px = (self.messages @ self.x).tocsr()
        self.y, self.masks = data["y"], [data[f"{name}_mask"] for name in ("train", "val", "test")]
        self.w, self.b = [[weights[f"conv{at}.lin.{kind}"] for at in (1, 2)] for kind in ("weight", "bias")]
        self.first = self.px @ self.w[0].T + self.b[0]
        self.ones = numpy.asarray(self.messages.sum(1)).reshape(-1, 1)
        self.classes = int(self.y.max()) + 1


class View:
    """What some nodes hear, through both convolutions."""

    def __init__(self, frozen, nodes):
        self.frozen, over = frozen, frozen.messages[nodes]
        heard = numpy.unique(over.indices)
        self.pass_on, self.own = by(over[:, heard].tocsr()), numpy.searchsorted(heard, nodes)
        self.x, self.px = by(frozen.x[heard]), by(frozen.px[heard])
        self.first, self.ones = frozen.first[heard], frozen.ones[heard]

    def embed(self, way, p, kept):
        frozen, one = self.frozen, self.first
        if way == "gpf":
            one = one + self.ones * np.dot(frozen.w[0], p["prompt"])
        if way == "adapter":
            one = one + p["s"][0] * bottleneck(self.x, p, "a") + p["s"][1] * bottleneck(self.px, p, "b")
        one = np.maximum(one, 0.0)
        one = one if kept is None else one * kept / (1.0 - DROPPED)
        over = self.pass_on(one)
        two = np.dot(over, frozen.w[1].T) + frozen.b[1]
        if way == "adapter":
            own = one[self.own]
            two = two + p["s"][2] * bottleneck(lambda m: np.dot(own, m), p, "c")
            two = two + p["s"][3] * bottleneck(lambda m: np.dot(over, m), p, "d")
        return np.maximum(two, 0.0)


def bottleneck(times, p, name):
    return np.dot(np.maximum(times(p[name + "1"]) + p[name + "2"], 0.0), p[name + "3"])


def parameters(frozen, way, lots):
    glorot = lambda a, b: lots.uniform(-1, 1, (a, b)) * numpy.sqrt(6 / (a + b))
    (hidden, width), out = frozen.w[0].shape, frozen.w[1].shape[0]
    p = {"head": glorot(out, frozen.classes), "bias": numpy.zeros(frozen.classes)}
    if way == "gpf":
        p["prompt"] = numpy.zeros(width)
    if way == "adapter":
        for name, d_in, d_out in (("a", width, hidden), ("b", width, hidden), ("c", hidden, out), ("d", hidden, out)):
            p[name + "1"], p[name + "2"] = glorot(d_in, BOTTLENECK), numpy.zeros(BOTTLENECK)
            p[name + "3"] = numpy.zeros((BOTTLENECK, d_out))
        p["s"] = numpy.full(4, 1.0)
    return p


def run(frozen, way, labels, seed, inner):
    lots = numpy.random.default_rng(seed)
    train = numpy.flatnonzero(frozen.masks[0])
    train = numpy.concatenate([lots.permutation(train[frozen.y[train] == c])[:labels] for c in range(frozen.classes)])
    p = parameters(frozen, way, lots)
    trained = sum(value.size for value in p.values())
    learnt, all_nodes = View(frozen, train), View(frozen, numpy.arange(len(frozen.y)))

    def logits(view, p, kept):
        return np.dot(view.embed(way, p, kept), p["head"]) + p["bias"]

    def loss(p, kept):
        of = logits(learnt, p, kept)
        top = np.max(of, axis=1, keepdims=True)
        total = np.log(np.sum(np.exp(of - top), axis=1)) + top[:, 0]
        return np.mean(total - of[numpy.arange(len(train)), frozen.y[train]])

    slopes, best = grad(loss), (-1.0, 0.0)
    moments = {name: [numpy.zeros_like(value), numpy.zeros_like(value)] for name, value in p.items()}
    for step in range(1, STEPS + 1):
        kept = (lots.random(learnt.first.shape) >= DROPPED).astype(float)
        found = slopes(p, kept)
        for name, g in found.items():
            m, v = moments[name]
            m[...] = 0.9 * m + 0.1 * g
            v[...] = 0.999 * v + 0.001 * g * g
            rate = HEAD_RATE if name in ("head", "bias") else inner
            p[name] = p[name] - rate * (m / (1 - 0.9**step)) / (numpy.sqrt(v / (1 - 0.999**step)) + 1e-8)
        if step % EVERY == 0:
            told = logits(all_nodes, p, None).argmax(1) == frozen.y
            validation = told[frozen.masks[1]].mean()
            if validation > best[0]:
                best = (validation, told[frozen.masks[2]].mean())
    return 100.0 * best[1], 100.0 * best[0], trained


if __name__ == "__main__":
    base, archive, labels, seeds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    frozen, first = Frozen(base, archive), None
    for asked in sys.argv[5:] or ["head:0", "gpf:0.001", "adapter:0.001"]:
        way, inner = asked.split(":")
        runs = [run(frozen, way, labels, seed, float(inner)) for seed in range(1, seeds + 1)]
        test, validation, trained = zip(*runs)
        told = [f"{statistics.mean(of):.1f} ± {statistics.stdev(of):.1f}" for of in (test, validation)]
        first = first or test
        ahead = [one - other for one, other in zip(test, first)]
        told.append(f"{statistics.mean(ahead):.1f} ± {statistics.stdev(ahead):.1f}")
        print(f"{labels} labels, {asked}, {trained[0]} trained: {told[0]}, validation {told[1]}, above the first way {told[2]}", flush=True)
