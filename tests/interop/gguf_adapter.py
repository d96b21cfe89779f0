"""Compares adapters that `ftk convert` wrote with the PEFT folder they were made of, as the package gguf reads them.

    pip install gguf safetensors numpy
    python tests/interop/gguf_adapter.py FOLDER BASE    (FOLDER has out/, f32.gguf and f16.gguf)

Names are those of the package's own table of tensors, and rows of q and k are permuted by llama.cpp's rule for Llama:
(heads, 2, dim / 2) becomes (heads, dim / 2, 2).
"""

import json
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

folder, base = map(pathlib.Path, sys.argv[1:])
config = json.loads((base / "config.json").read_text())
adapter = json.loads((folder / "out/adapter_config.json").read_text())
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
expected = {}
for name, values in load_file(folder / "out/adapter_model.safetensors").items():
    site, half = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
    count = heads.get(site.rsplit(".", 1)[-1])
    if half == "B" and count:
        rows, rank = values.shape
        values = values.reshape(count, 2, rows // count // 2, rank).swapaxes(1, 2).reshape(rows, rank)
    expected[f"{names.get_name(site)}.weight.lora_{half.lower()}"] = values

for dtype, kind in [("f32", np.float32), ("f16", np.float16)]:
    reader = gguf.GGUFReader(folder / f"{dtype}.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items()}
    for key, value in [
        (gguf.Keys.General.ARCHITECTURE, "llama"),
        (gguf.Keys.General.TYPE, gguf.GGUFType.ADAPTER),
        (gguf.Keys.Adapter.TYPE, "lora"),
        (gguf.Keys.Adapter.LORA_ALPHA, float(adapter["lora_alpha"])),
    ]:
        assert fields[key] == value, (key, fields[key], value)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, values in expected.items():
        data = np.asarray(found[name].data)
        assert data.dtype == kind and data.shape == values.shape, (name, data.dtype, data.shape)
        assert np.array_equal(data, values.astype(kind)), name
print(len(expected), "tensors are the same")
