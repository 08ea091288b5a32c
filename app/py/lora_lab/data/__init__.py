"""From the bytes of any dataset file to examples: tokens, and which of them are trained. See docs/data.md."""

from __future__ import annotations

from lora_lab.data.dataset import Dataset, EncodedTable, encode_rows, encode_table, read_dataset
from lora_lab.data.files.source import DataSource
from lora_lab.data.problems import Problem, ProblemGroup
from lora_lab.data.report import DatasetReport, TokenReport, build_report
from lora_lab.data.rows.mapping import ColumnMapping, guess_mapping
from lora_lab.data.rows.read import read_table
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.tokens.examples import Example, Examples
from lora_lab.settings import MASKINGS, Masking, OnLong

__all__ = [
    "MASKINGS",
    "ColumnMapping",
    "DataSource",
    "Dataset",
    "DatasetReport",
    "EncodedTable",
    "Example",
    "Examples",
    "Masking",
    "OnLong",
    "Problem",
    "ProblemGroup",
    "RowTable",
    "TokenReport",
    "build_report",
    "encode_rows",
    "encode_table",
    "guess_mapping",
    "read_dataset",
    "read_table",
]
