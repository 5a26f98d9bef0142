"""The files that an ONNX graph reads weights from, besides itself.

A graph may name any file. ONNX Runtime opens them by itself, so what it would open is found out
before. Nothing is loaded for that: protobuf gives the length of every field, so that names and
weights are stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from twil.core.errors import ModelError

# Per protobuf message of ONNX: the fields through which a tensor can be reached, and what they hold.
TENSOR_PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_LOCATION = b"location"


def external_files(graph: Path) -> set[str]:
    """List the files that a graph names as holding its weights.

    Raises:
        ModelError: The file cannot be read as protobuf.
    """
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return {name.decode(errors="replace") for name in _locations(data)}
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"{graph} is no ONNX graph ({error}): export the model again") from error


def _locations(data: mmap.mmap) -> Iterator[bytes]:
    ahead = [("ModelProto", 0, len(data))]  # a stack, as graphs may nest deeper than Python's calls may
    while ahead:
        message, start, end = ahead.pop()
        if message == "StringStringEntryProto":
            fields = [(number, data[begin:stop]) for number, begin, stop in _fields(data, start, end)]
            if (1, _LOCATION) in fields:
                yield from (value for number, value in fields if number == 2)
            continue
        paths = TENSOR_PATHS[message]
        ahead += [
            (paths[number], begin, stop)
            for number, begin, stop in _fields(data, start, end)
            if number in paths
        ]


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give number, start and end of the fields that have a length: messages, strings and bytes."""
    while start < end:
        tag, start = _varint(data, start)
        kind = tag & 7
        if kind == 0:
            _, start = _varint(data, start)
        elif kind == 1:
            start += 8
        elif kind == 2:
            length, start = _varint(data, start)
            yield tag >> 3, start, start + length
            start += length
        elif kind == 5:
            start += 4
        else:
            raise ValueError(f"byte {start} starts no field")
    if start != end:
        raise ValueError(f"a field ends at byte {start}, behind its message's end at {end}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
