"""A GGUF model in several files, as llama-gguf-split cuts one: NAME-00001-of-00003.gguf and so on.

Each is a GGUF file with some of the tensors, and says which part it is of how many (`split.no`, from 0, and
`split.count`) and how many tensors there are in all. The first one has the model's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence

from .byte_source import ByteSource, FileFormatError, base_name
from .gguf import GgufFile, read_gguf
from .part_names import part_names
from .tensors import StoredTensor


async def read_parts(sources: Sequence[ByteSource]) -> GgufFile:
    """Read the headers of a model's GGUF file or files: the metadata of the first, the tensors of all.

    FileFormatError names every problem: a part that is missing, there twice, or of another model.
    """
    files = [await read_gguf(source) for source in sources]
    counts = [_number(file, "split.count", 1) for file in files]
    if len(files) == 1 and counts[0] <= 1:
        return files[0]
    whole = [file.source.name for file, count in zip(files, counts, strict=True) if count <= 1]
    if whole:
        names = ", ".join(file.source.name for file in files)
        raise FileFormatError(f"{len(files)} GGUF files: {names}; wanted one, or all parts of one that is split")
    problems = _mixed(files, counts) or _missing(files, counts[0])
    if problems:
        raise FileFormatError("\n".join(problems))
    files.sort(key=lambda file: _number(file, "split.no", 0))
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        problems += [
            f"{file.source.name}: the tensor {name} is in {tensors[name].source.name}, too"
            for name in file.tensors.keys() & tensors.keys()
        ]
        tensors |= file.tensors
    wanted = _number(files[0], "split.tensors.count", len(tensors))
    if len(tensors) != wanted and not problems:
        problems.append(f"the {len(files)} parts hold {len(tensors)} tensors; split.tensors.count says {wanted}")
    if problems:
        raise FileFormatError("\n".join(problems))
    return GgufFile(files[0].source, files[0].version, files[0].metadata, tensors, files[0].spans)


def _number(file: GgufFile, key: str, default: int) -> int:
    value = file.scalars.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FileFormatError(f"{file.source.name}: {key} is {value!r}; wanted a whole number")
    return value


def _mixed(files: Sequence[GgufFile], counts: Sequence[int]) -> list[str]:
    """Return how the first part that is of another model than the first file tells so."""
    first, name = files[0], base_name(files[0].source)
    for file, count in zip(files[1:], counts[1:], strict=True):
        other = base_name(file.source)
        totals = [_number(one, "split.tensors.count", -1) for one in (first, file)]
        if counts[0] != count:
            found = f"{name} is one of {counts[0]} parts, {other} one of {count}"
        elif totals[0] != totals[1]:
            found = f"{name} is of a model of {totals[0]} tensors, {other} of one of {totals[1]}"
        elif part_names(name) != part_names(other) and len(part_names(name)) == len(part_names(other)) == count:
            found = f"{name} and {other} have different names"
        else:
            continue
        return [f"{found}; wanted the parts of one model"]
    return []


def _missing(files: Sequence[GgufFile], count: int) -> list[str]:
    """Return every part that is not there, by its name where the others' names tell it, or that is there twice."""
    by_number: dict[int, str] = {}
    problems = []
    for file in files:
        number, name = _number(file, "split.no", 0), file.source.name
        if not 0 <= number < count:
            problems.append(f"{name}: split.no is {number}; wanted 0 to {count - 1}")
        elif number in by_number:
            problems.append(f"{by_number[number]} and {name} are both part {number + 1} of {count}")
        by_number[number] = name
    names = part_names(base_name(files[0].source))
    for number in range(count):
        if number not in by_number:
            missing = names[number] if len(names) == count else f"Part {number + 1} of {count}"
            problems.append(f"{missing} is missing: {files[0].source.name} is one of {count} parts of a split model")
        if len(problems) == 10:  # of thousands, as a damaged file may say
            break
    return problems
