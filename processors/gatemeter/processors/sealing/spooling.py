"""Rows that wait for their seal's id: in memory while they are few, in a temporary file while they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Final

import pyarrow as pa

MEMORY_BYTES: Final = 64 << 20


class Spool:
    """Blocks of Arrow rows of one schema, written once and read in order. The file is gone with the process."""

    def __init__(self) -> None:
        self.rows = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, prefix="gatemeter-seal-")  # noqa: SIM115
        self._writer: pa.RecordBatchStreamWriter | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Forgets the rows."""
        self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Keeps a block."""
        if rows.num_rows == 0:
            return
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), rows.schema, options=options)
        self._writer.write_table(rows)
        self.rows += rows.num_rows

    def blocks(self) -> Iterator[pa.Table]:
        """The blocks in order; nothing can be added afterwards."""
        if self._writer is None:
            return
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(pa.PythonFile(self._file, "r")):
            yield pa.Table.from_batches([batch])
