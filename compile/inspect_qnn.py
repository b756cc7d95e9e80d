"""What a QNN context binary says about itself. Belongs here: the C structures of libQnnSystem, and reading them.

Never here: building or running a binary, judging what is found. ``snapdragon`` calls it in a process of its own: it follows
pointers that the library hands out, and a wrong guess about their layout must not take the caller down.

The layout is that of QnnSystemContext.h, QnnTypes.h and HTP/QnnHtpSystemContext.h in QAIRT 2.51: binary and graph
information of version 3, HTP blobs of version 1. Any other version is refused, never guessed.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int32, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TypedDict

from drivelake.errors import DrivelakeError, ToolMissing

__all__ = ["Inspection", "TensorInfo", "inspect_binary"]

INFO_VERSION = 3  # QnnSystemContext_BinaryInfo_t and QnnSystemContext_GraphInfo_t
HTP_BLOB_VERSION = 1  # QnnHtpSystemContext_GraphBlobInfo_t and QnnHtpSystemContext_ContextBlobInfo_t
TENSOR_BYTES = 144  # sizeof(Qnn_Tensor_t), the stride of the tensor lists
UPGRADE = "install the onnxruntime-qnn version that pyproject.toml names: make snapdragon"
SCALE_OFFSET = (1, 0)  # QNN_DEFINITION_DEFINED, QNN_QUANTIZATION_ENCODING_SCALE_OFFSET

# Qnn_DataType_t of what a graph of ours can have at its ends
DTYPES = {0x0008: "int8", 0x0016: "int16", 0x0032: "int32", 0x0108: "uint8", 0x0116: "uint16", 0x0132: "uint32"}
DTYPES |= {0x0216: "float16", 0x0232: "float32", 0x0308: "sfixed8", 0x0316: "sfixed16", 0x0408: "ufixed8", 0x0416: "ufixed16"}


class TensorInfo(TypedDict):
    """One end of the graph. value = (stored + offset) * scale, in QNN's sign; both None where it is not quantised."""

    name: str
    dtype: str
    shape: list[int]
    scale: float | None
    offset: int | None


class Inspection(TypedDict):
    """What the binary carries; ``dsp_arch`` is the HTP architecture, e.g. 73."""

    qairt: str
    soc_model: int
    dsp_arch: int
    vtcm_bytes: int
    optimisation_level: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class Version(Structure):
    """Qnn_Version_t."""

    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("patch", c_uint32)]


class Quantisation(Structure):
    """Qnn_QuantizeParams_t: 40 bytes, of which the scale-offset member of the union is named."""

    _fields_ = [
        ("definition", c_uint32),
        ("encoding", c_uint32),
        ("scale", c_float),
        ("offset", c_int32),
        ("rest", c_uint64 * 3),
    ]


class Tensor(Structure):
    """The head of Qnn_Tensor_t, which its versions 1 and 2 share."""

    _fields_ = [
        ("version", c_uint32),
        ("id", c_uint64),  # a 32-bit id, after the padding of the union
        ("name", c_char_p),
        ("type", c_uint32),
        ("format", c_uint32),
        ("dtype", c_uint32),
        ("quantisation", Quantisation),
        ("rank", c_uint32),
        ("shape", POINTER(c_uint32)),
    ]


class HtpGraphBlob(Structure):
    """QnnHtpSystemContext_GraphBlobInfo_t version 1."""

    _fields_ = [("version", c_uint32), ("spill_fill_bytes", c_uint64), ("vtcm_bytes", c_uint32), ("optimisation_level", c_uint32)]


class HtpContextBlob(Structure):
    """QnnHtpSystemContext_ContextBlobInfo_t version 1."""

    _fields_ = [("version", c_uint32), ("dsp_arch", c_uint32)]


class Graph(Structure):
    """QnnSystemContext_GraphInfoV3_t."""

    _fields_ = [
        ("name", c_char_p),
        ("inputs_count", c_uint32),
        ("inputs", c_void_p),
        ("outputs_count", c_uint32),
        ("outputs", c_void_p),
        ("updateable_count", c_uint32),
        ("updateable", c_void_p),
        ("blob_bytes", c_uint32),
        ("blob", POINTER(HtpGraphBlob)),
        ("start", c_uint32),
        ("end", c_uint32),
    ]


class VersionedGraph(Structure):
    """QnnSystemContext_GraphInfo_t."""

    _fields_ = [("version", c_uint32), ("info", Graph)]


class Binary(Structure):
    """QnnSystemContext_BinaryInfoV3_t."""

    _fields_ = [
        ("backend", c_uint32),
        ("build", c_char_p),
        ("core_version", Version),
        ("backend_version", Version),
        ("soc", c_char_p),
        ("blob_version", Version),
        ("blob_bytes", c_uint64),
        ("tensors_count", c_uint32),
        ("tensors", c_void_p),
        ("graphs_count", c_uint32),
        ("graphs", POINTER(VersionedGraph)),
        ("platform", c_void_p),
        ("context_bytes", c_uint32),
        ("context", POINTER(HtpContextBlob)),
        ("soc_model", c_uint32),
    ]


class VersionedBinary(Structure):
    """QnnSystemContext_BinaryInfo_t."""

    _fields_ = [("version", c_uint32), ("info", Binary)]


class Provider(Structure):
    """QnnSystemInterface_t; the functions are create, getBinaryInfo, getMetadata, free, ..."""

    _fields_ = [("backend", c_uint32), ("name", c_char_p), ("version", Version), ("functions", c_void_p * 4)]


CREATE = ctypes.CFUNCTYPE(c_uint64, POINTER(c_void_p))
GET_INFO = ctypes.CFUNCTYPE(c_uint64, c_void_p, c_void_p, c_uint64, POINTER(POINTER(VersionedBinary)), POINTER(c_uint64))
FREE = ctypes.CFUNCTYPE(c_uint64, c_void_p)


def inspect_binary(path: Path) -> Inspection:
    """Read a context binary's own metadata with libQnnSystem from the onnxruntime-qnn wheel.

    Args:
        path: a context binary with one graph, for HTP.

    Returns:
        The toolchain version, the SoC and the architecture it was built for, and the ends of its graph.

    Raises:
        ToolMissing: onnxruntime-qnn is not installed.
        DrivelakeError: the file is not a context binary, or of a version with another layout.
    """
    functions = _system_functions()
    create, get_info, free = CREATE(functions[0]), GET_INFO(functions[1]), FREE(functions[3])
    handle = c_void_p()
    _expect("the return code of QnnSystemContext_create", create(byref(handle)), 0)
    try:
        data = path.read_bytes()
        found, found_bytes = POINTER(VersionedBinary)(), c_uint64()
        code = get_info(handle, ctypes.cast(c_char_p(data), c_void_p), len(data), byref(found), byref(found_bytes))
        if code:
            raise DrivelakeError(
                f"{path.name} ({len(data)} bytes) is not a QNN context binary: libQnnSystem returned {code}.",
                next_step="compile the checkpoint again",
            )
        return _read(found.contents)
    finally:
        free(handle)


def _system_functions() -> list[int]:
    """Addresses of the first four functions of the System interface."""
    spec = importlib.util.find_spec("onnxruntime_qnn")
    if spec is None or spec.origin is None:
        raise ToolMissing("onnxruntime-qnn is not installed.", next_step="make snapdragon")
    library = ctypes.CDLL(str(Path(spec.origin).with_name("libQnnSystem.so")))
    providers, count = POINTER(POINTER(Provider))(), c_uint32()
    _expect(
        "the return code of QnnSystemInterface_getProviders",
        library.QnnSystemInterface_getProviders(byref(providers), byref(count)),
        0,
    )
    _expect("the number of System interfaces", count.value, 1)
    return [address or 0 for address in providers[0].contents.functions]


def _read(found: VersionedBinary) -> Inspection:
    _expect("the version of the binary's information", found.version, INFO_VERSION)
    binary = found.info
    _expect("the number of graphs", binary.graphs_count, 1)
    _expect("the version of the graph's information", binary.graphs[0].version, INFO_VERSION)
    graph = binary.graphs[0].info
    for what, size, blob, kind in (
        ("HTP graph", graph.blob_bytes, graph.blob, HtpGraphBlob),
        ("HTP context", binary.context_bytes, binary.context, HtpContextBlob),
    ):
        if size < ctypes.sizeof(kind):
            raise DrivelakeError(
                f"the {what} information has {size} bytes, expected at least {ctypes.sizeof(kind)}.", next_step=UPGRADE
            )
        _expect(f"the version of the {what} information", blob.contents.version, HTP_BLOB_VERSION)
    return {
        "qairt": binary.build.decode(),
        "soc_model": binary.soc_model,
        "dsp_arch": binary.context.contents.dsp_arch,
        "vtcm_bytes": graph.blob.contents.vtcm_bytes,
        "optimisation_level": graph.blob.contents.optimisation_level,
        "inputs": _tensors(graph.inputs, graph.inputs_count),
        "outputs": _tensors(graph.outputs, graph.outputs_count),
    }


def _tensors(address: int, count: int) -> list[TensorInfo]:
    tensors: list[TensorInfo] = []
    for index in range(count):
        tensor = Tensor.from_address(address + index * TENSOR_BYTES)
        scaled = (tensor.quantisation.definition, tensor.quantisation.encoding) == SCALE_OFFSET
        tensors.append(
            {
                "name": tensor.name.decode(),
                "dtype": DTYPES.get(tensor.dtype, hex(tensor.dtype)),
                "shape": [tensor.shape[axis] for axis in range(tensor.rank)],
                "scale": tensor.quantisation.scale if scaled else None,
                "offset": tensor.quantisation.offset if scaled else None,
            }
        )
    return tensors


def _expect(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise DrivelakeError(f"{what} is {found}, expected {expected}: libQnnSystem has another layout.", next_step=UPGRADE)
