"""What `gnn.rs` compares with: the same network on the same graph, trained with PyG in fp32 on the CPU.

    gnn_peer.py FOLDER FEATURES CLASSES HIDDEN LAYERS TRAIN EPOCHS

prints a JSON object with a `step` after each epoch. Features are given to the first layer as a sparse tensor where
most are zero, and messages pass over a sparse adjacency with cached coefficients: PyG's fastest form on a CPU.
"""
import json, sys

import numpy as np
import torch
from torch_geometric.nn import GCNConv

folder = sys.argv[1]
features, classes, hidden, layers, train, epochs = map(int, sys.argv[2:])
x = torch.from_numpy(np.fromfile(f"{folder}/x.bin", dtype="<f4").reshape(-1, features))
y = torch.from_numpy(np.fromfile(f"{folder}/y.bin", dtype="<i8"))[:train]
ends = torch.from_numpy(np.fromfile(f"{folder}/edges.bin", dtype="<i8").reshape(2, -1))
nodes = x.shape[0]
x = x / x.sum(1, keepdim=True).clamp(min=1e-9)
adjacency = torch.sparse_coo_tensor(ends.flip(0), torch.ones(ends.shape[1]), (nodes, nodes)).coalesce().to_sparse_csr()
sparse = (x != 0).float().mean() < 0.25


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        widths = [features] + [hidden] * (layers - 1) + [classes]
        self.convs = torch.nn.ModuleList(GCNConv(a, b, cached=True) for a, b in zip(widths, widths[1:]))

    def forward(self, x):
        for index, conv in enumerate(self.convs):
            if index:
                x = torch.nn.functional.dropout(x.relu(), 0.5, self.training)
            elif not x.is_sparse:
                x = torch.nn.functional.dropout(x, 0.5, self.training)
            x = conv(x, adjacency)
        return x


net = Net()
optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
inputs = x.to_sparse() if sparse else x
for step in range(epochs):
    optimiser.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(inputs)[:train], y)
    loss.backward()
    optimiser.step()
    print(json.dumps({"step": step + 1, "loss": loss.item()}), flush=True)
