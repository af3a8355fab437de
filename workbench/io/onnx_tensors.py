"""Weights of an ONNX file, read as data: its constants, and the names of the nodes that use them. Nothing is run.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, of which only the fields below are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UntrustedModel

if TYPE_CHECKING:
    import numpy as np

#: Message → its fields: name, number, type (``[]`` for repeated ones).
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "Tensor": [
        ("dims", 1, "int64[]"),
        ("data_type", 2, "int32"),
        ("name", 8, "string"),
        ("raw_data", 9, "bytes"),
        ("data_location", 14, "int32"),
    ],
    "Node": [("input", 1, "string[]"), ("output", 2, "string[]"), ("name", 3, "string"), ("op_type", 4, "string")],
    "Graph": [("node", 1, "Node[]"), ("initializer", 5, "Tensor[]")],
    "Model": [("graph", 7, "Graph")],
}
_FLOAT = 1


@dataclass(frozen=True)
class Onnx:
    """The constants of a graph in float32 by name, and by the name of each matrix product its constant's name."""

    tensors: dict[str, np.ndarray]
    products: dict[str, str]


def read(path: Path) -> Onnx:
    """The constants in float32 of an ONNX file; others are left out.

    Raises:
        UntrustedModel: no ONNX file, a constant whose bytes lie elsewhere, or of another size than it says.
    """
    import numpy as np
    from google.protobuf.message import DecodeError

    try:
        graph = model_class().FromString(path.read_bytes()).graph
    except DecodeError as error:
        raise UntrustedModel(f"{path} is not a readable ONNX file: {error}.") from None
    if not graph.initializer:
        raise UntrustedModel(f"{path} is not a readable ONNX file: it holds no constants.")
    tensors = {}
    for tensor in graph.initializer:
        if tensor.data_location:
            raise UntrustedModel(f"{path}: the bytes of {tensor.name!r} lie in another file.")
        if tensor.data_type != _FLOAT:
            continue
        shape = tuple(tensor.dims)
        if min(shape, default=1) < 0 or len(tensor.raw_data) != 4 * math.prod(shape):
            raise UntrustedModel(f"{path}: {tensor.name!r} {list(shape)} has {len(tensor.raw_data):,} bytes.")
        tensors[tensor.name] = np.frombuffer(tensor.raw_data, "<f4").reshape(shape)
    products = {
        node.name: name
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input
        if name in tensors and tensors[name].ndim == 2
    }
    return Onnx(tensors, products)


@cache
def model_class() -> Any:
    """The message class of a model."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    kinds = {
        "int64": field.TYPE_INT64,
        "int32": field.TYPE_INT32,
        "string": field.TYPE_STRING,
        "bytes": field.TYPE_BYTES,
    }
    file = descriptor_pb2.FileDescriptorProto(name="onnx_tensors.proto", package="onnx_tensors", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for label, number, kind in fields:
            of = kind.removesuffix("[]")
            added = message.field.add(name=label, number=number)
            added.label = field.LABEL_REPEATED if kind.endswith("[]") else field.LABEL_OPTIONAL
            added.type = kinds.get(of, field.TYPE_MESSAGE)
            if of not in kinds:
                added.type_name = f".onnx_tensors.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx_tensors.Model"))
