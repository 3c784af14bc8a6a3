"""Files of tiny transformers as other programs store them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file


def write_gguf(folder: Path, file: Path, *, leave_out: str = "") -> None:
    """The transformer of a pipeline's folder as a GGUF file: matrices in Q8_0 where their rows allow it.

    `leave_out`: a weight that the file is to lack.
    """
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(str(file), "tiny")
    for name, tensor in load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors").items():
        if name == leave_out:
            continue
        values = tensor.float().numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
