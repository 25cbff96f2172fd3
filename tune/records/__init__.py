"""What a run writes, and how it is read again: no Ray, no torch."""

from tune.records.files import (
    LossRecords,
    RecordError,
    RecordFile,
    current_epochs,
    read_json,
    read_records,
    write_file,
    write_json,
)

__all__ = [
    "LossRecords",
    "RecordError",
    "RecordFile",
    "current_epochs",
    "read_json",
    "read_records",
    "write_file",
    "write_json",
]
