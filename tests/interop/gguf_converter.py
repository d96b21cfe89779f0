"""Holds an adapter that `ftk convert` wrote against the one that llama.cpp's own converter writes of the same folder: names,
shapes, types and numbers of all tensors, and every key but those that describe the file.

    gguf_converter.py LLAMA_CPP BASE ADAPTER OURS.gguf

LLAMA_CPP is a folder with convert_lora_to_gguf.py and gguf-py, such as vendor/llama.cpp in the source package of
llama-cpp-python; BASE and ADAPTER are Hugging Face folders.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

llama, base, adapter, ours = map(Path, sys.argv[1:])
sys.path.insert(0, str(llama / "gguf-py"))

import numpy  # noqa: E402
from gguf import GGUFReader  # noqa: E402

# What a file is called and says of itself; the type of a file of adapters, which llama.cpp does not read.
ABOUT = {"general.name", "general.tags", "general.file_type"}

with tempfile.TemporaryDirectory() as place:
    theirs = Path(place) / "theirs.gguf"
    script = [sys.executable, llama / "convert_lora_to_gguf.py", "--base", base, "--outtype", "f32"]
    subprocess.run([*script, "--outfile", theirs, adapter], check=True)
    readers = [GGUFReader(path) for path in (theirs, ours)]
    tensors = [{tensor.name: tensor for tensor in reader.tensors} for reader in readers]
    assert tensors[0] and tensors[0].keys() == tensors[1].keys(), tensors[0].keys() ^ tensors[1].keys()
    for name, their in tensors[0].items():
        our = tensors[1][name]
        assert list(their.shape) == list(our.shape) and their.tensor_type == our.tensor_type, name
        assert numpy.array_equal(their.data, our.data), name
    keys = [
        {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
        for reader in readers
    ]
    for key in sorted((keys[0].keys() | keys[1].keys()) - ABOUT):
        assert keys[0].get(key) == keys[1].get(key), f"{key}: {keys[0].get(key)} instead of {keys[1].get(key)}"

print(f"the same {len(tensors[0])} tensors")
