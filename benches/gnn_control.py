"""Accuracy of the same networks written with PyG, in the settings their published rows name: a control of ftk's figures.

python benches/gnn_control.py sage-gcn|sage|gat SEEDS ARCHIVE...
Prints, for every archive, mean and standard deviation over seeds of the test accuracy in %: of the last epoch, and of
the one with the best validation accuracy (the first of equals).
"""

import statistics
import sys

import numpy as np
import torch
from torch.nn import functional as F
from torch_geometric.nn import GATConv, SAGEConv
from torch_geometric.utils import add_self_loops


class ClosedMean(torch.nn.Module):
    """DGL's SAGEConv with aggregator "gcn": one weight on the mean over a node and its neighbours."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(d_out, d_in))
        torch.nn.init.xavier_uniform_(self.weight, gain=torch.nn.init.calculate_gain("relu"))
        self.bias = torch.nn.Parameter(torch.zeros(d_out))

    def forward(self, x, means):
        return means @ (x @ self.weight.T) + self.bias


class Network(torch.nn.Module):
    def __init__(self, kind, d_in, classes, citations):
        super().__init__()
        self.kind, self.rate = kind, 0.6 if kind == "gat" else 0.5
        if kind == "gat":
            # Velickovic et al.: PubMed has eight heads at the end.
            last = 8 if citations == "pubmed" else 1
            self.first = GATConv(d_in, 8, heads=8, dropout=0.6)
            self.second = GATConv(64, classes, heads=last, concat=False, dropout=0.6)
        else:
            layer = ClosedMean if kind == "sage-gcn" else SAGEConv
            self.first, self.second = layer(d_in, 16), layer(16, classes)

    def forward(self, x, edges):
        x = self.first(F.dropout(x, self.rate, self.training), edges)
        x = F.elu(x) if self.kind == "gat" else F.relu(x)
        return self.second(F.dropout(x, self.rate, self.training), edges)


def accuracy(logits, y, mask):
    return 100.0 * (logits[mask].argmax(1) == y[mask]).float().mean().item()


def run(kind, seed, data, citations):
    torch.manual_seed(seed)
    x, edges, y, train, val, test = data
    network = Network(kind, x.shape[1], int(y.max()) + 1, citations)
    pubmed = citations == "pubmed"
    rate, decay = (0.01 if pubmed else 0.005, 1e-3 if pubmed else 5e-4) if kind == "gat" else (0.01, 5e-4)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
    best = (-1.0, 0.0)
    for _ in range(200):
        network.train()
        optimizer.zero_grad()
        F.cross_entropy(network(x, edges)[train], y[train]).backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = network(x, edges)
        at = accuracy(logits, y, val)
        if at > best[0]:
            best = (at, accuracy(logits, y, test))
    return accuracy(logits, y, test), best[1]


def main():
    kind, seeds = sys.argv[1], int(sys.argv[2])
    for path in sys.argv[3:]:
        archive = np.load(path)
        x, edges, y, *masks = (
            torch.from_numpy(archive[key]) for key in ["x", "edge_index", "y", "train_mask", "val_mask", "test_mask"]
        )
        x = x / x.sum(1, keepdim=True).clamp(min=1e-12)
        if kind == "sage-gcn":
            nodes = x.shape[0]
            loops = add_self_loops(edges, num_nodes=nodes)[0].unique(dim=1)
            counts = torch.bincount(loops[1], minlength=nodes).float()
            edges = torch.sparse_coo_tensor(loops.flip(0), 1.0 / counts[loops[1]], (nodes, nodes)).coalesce()
        citations = path.rsplit("/", 1)[-1].removesuffix(".npz")
        results = [run(kind, seed, (x, edges, y, *masks), citations) for seed in range(1, seeds + 1)]
        for name, values in zip(["last", "best"], zip(*results)):
            deviation = statistics.stdev(values) if seeds > 1 else 0.0
            print(f"{kind}\t{citations}\t{name}\t{statistics.mean(values):.2f} ± {deviation:.2f}", flush=True)


main()
