"""Memory that nobody has written: a kernel that reads some goes unnoticed where a host hands it out zeroed.

WebGPU demands zeros. Browsers see to that; wgpu-native leaves in workgroup memory what the last kernel wrote there.
`dirty_workgroup_memory` and `fill_with_nan` put NaN there instead: one that is read reaches the result, also through a
product with zero. It is done at each kernel's own beginning, so that no host can undo it in between.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np

from lora_lab.gpu import Pool, Tensor
from lora_lab.gpu.kernel import Kernel
from lora_lab.gpu.plan import Trace

_VARIABLE = re.compile(r"^var<workgroup>\s+(\w+)\s*:\s*([^;]+);", re.M)
_VALUES = {"f32": "nan", "vec2f": "vec2f(nan)", "vec4f": "vec4f(nan)", "u32": "bitcast<u32>(nan)"}
_ARRAY = re.compile(r"array<\s*(f32|vec2f|vec4f|u32)\s*,\s*(.+)>")


def dirty_workgroup_memory(trace: Trace) -> None:
    """Let every kernel of a trace begin with NaN in all of its workgroup memory."""
    trace.dispatches[:] = [replace(dispatch, kernel=dirtied(dispatch.kernel)) for dispatch in trace.dispatches]


@cache
def dirtied(kernel: Kernel) -> Kernel:
    """Return the kernel with NaN written to its workgroup variables first. ValueError for what that cannot be done to.

    One without any is returned as it is.
    """
    variables = _VARIABLE.findall(kernel.source)
    if not variables:
        return kernel
    begin = re.search(rf"fn {kernel.entry}\(([^{{]*)\)\s*\{{", kernel.source)
    lane = begin and re.search(r"@builtin\(local_invocation_index\)\s+(\w+)", begin[1])
    if not begin or not lane:
        raise ValueError(f"{kernel.name}.{kernel.entry} does not say which invocation it is")
    # Not a constant: those must not be NaN. An index of an invocation has no bit as high as 16.
    lines = [f"if ({lane[1]} == 0u) {{", f"    let nan = bitcast<f32>(0x7fc00000u + ({lane[1]} >> 16u));"]
    for name, kind in variables:
        array = _ARRAY.fullmatch(kind.strip())
        if array:
            value = _VALUES[array[1]]
            lines.append(f"    for (var i = 0u; i < u32({array[2]}); i++) {{ {name}[i] = {value}; }}")
        elif kind.strip() in _VALUES:
            lines.append(f"    {name} = {_VALUES[kind.strip()]};")
        else:
            raise ValueError(f"{kernel.name}.{kernel.entry}: {name} is {kind}; wanted one of {[*_VALUES]} or an array")
    added = "\n" + "\n".join([*lines, "}", "workgroupBarrier();"]) + "\n"
    source = kernel.source[: begin.end()] + added + kernel.source[begin.end() :]
    return replace(kernel, name=f"{kernel.name} dirtied", source=source)


def fill_with_nan(*places: Pool | Tensor) -> None:
    """Write NaN to all memory of pools and to tensors' buffers."""
    for place in places:
        for buffer in place.buffers if isinstance(place, Pool) else [place.buffer]:
            buffer.device.write(buffer, 0, np.full(buffer.size_bytes // 4, np.nan, np.float32))
