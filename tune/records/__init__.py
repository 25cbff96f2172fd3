"""What a run writes, and how it is read again: no Ray, no torch."""

from tune.records.files import (
    LossRecords,
    RecordFile,
    checked_records,
    current_epochs,
    read_json,
    read_records,
    write_file,
    write_json,
)
from tune.records.schema import RecordError

__all__ = [
    "LossRecords",
    "RecordError",
    "RecordFile",
    "checked_records",
    "current_epochs",
    "read_json",
    "read_records",
    "write_file",
    "write_json",
]
