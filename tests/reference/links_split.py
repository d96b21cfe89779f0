"""A split of links as the Open Graph Benchmark publishes them: NumPy's arrays in what torch.save wrote before 1.6, which
of such arrays is pickles alone. Made with Python 3.11 and NumPy 2.4; writes recipes/gnn/src/tests/valid.pt."""

import io
import pathlib
import pickle

import numpy as np

split = {
    "edge": np.array([[0, 3], [1, 2]]),
    "edge_neg": np.array([[0, 1]]),
    "weight": np.array([2, 200]),
    "year": np.array([2018, 2018]),
}
system = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
out = io.BytesIO()
for part in (0x1950A86A20F9469CFC6C, 1001, system, split, []):
    pickle.dump(part, out, protocol=2)
root = pathlib.Path(__file__).parents[2]
(root / "recipes/gnn/src/tests/valid.pt").write_bytes(out.getvalue())
