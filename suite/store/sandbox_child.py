"""The child process of suite.store.sandbox: one statement, inside limits that it cannot lift.

    python -I sandbox_child.py DB ROWS SECONDS MEMORY SIZE < statement

Run by its path, so that it imports nothing of the suite. What holds a statement, from the inside
out: a read-only database without external access, its settings locked; DuckDB's own limits of time
and memory; no file that this process could make longer than zero bytes; an alarm that the kernel
rings when DuckDB does not listen (one long scalar call ignores every interrupt); an address space
of its own; and the parent, which kills it. Exit statuses are those of `ExitStatus`; the rows go to
stdout as an Arrow stream, a refusal goes to stderr as one line.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from enum import IntEnum

import duckdb
import pyarrow as pa

BATCH = 2048  # rows fetched at a time
SLACK = 256 << 20  # bytes of address space beside DuckDB's own: stacks, arenas, Arrow


class ExitStatus(IntEnum):
    """How it ended; anything else, a signal among it, is a process that was stopped."""

    COMPLETE = 0
    TRUNCATED = 10
    REFUSED = 11
    TOO_LONG = 12


def open_locked(db: str, seconds: float, memory: int) -> duckdb.DuckDBPyConnection:
    """A read-only connection that reaches nothing but this file, and cannot be told otherwise."""
    connection = duckdb.connect(
        db,
        read_only=True,
        config={
            "enable_external_access": "false",
            "memory_limit": f"{memory >> 20}MiB",
            "max_temp_directory_size": "0B",
            "threads": str(min(4, os.cpu_count() or 1)),
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
        },
    )
    for setting in (
        f"max_execution_time = {int(1000 * seconds)}",
        "python_enable_replacements = false",
        "disabled_filesystems = 'LocalFileSystem'",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def confine(memory: int) -> None:
    """Bound what this process may take: address space, files, core dumps."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for bound, limit in (
        (resource.RLIMIT_AS, used + memory + SLACK),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(bound, (limit, limit))


def answer(
    connection: duckdb.DuckDBPyConnection, sql: str, rows: int, limit: int
) -> tuple[pa.Table, bool]:
    """The first `rows` rows of one statement, and whether there were more.

    Raises:
        ValueError: not one statement, nothing to show, or more than `limit` bytes.
        duckdb.Error, pa.ArrowException: what the database says to it.
    """
    if (statements := len(connection.extract_statements(sql))) != 1:
        raise ValueError(f"one statement, please, not {statements}")
    relation = connection.sql(sql)
    if relation is None:
        raise ValueError("it asks for nothing")
    reader = relation.to_arrow_reader(BATCH)
    batches: list[pa.RecordBatch] = []
    count = size = 0
    for batch in reader:
        batches.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        if size > limit:
            raise ValueError(f"the result is over {limit >> 20} MiB: ask for fewer rows or columns")
        if count > rows:
            break
    return pa.Table.from_batches(batches, reader.schema).slice(0, rows), count > rows


def main() -> ExitStatus:
    """Answer the statement on stdin; stdout is for the rows alone, whatever a library prints."""
    db, seconds = sys.argv[1], float(sys.argv[3])
    rows, memory, size = (int(sys.argv[place]) for place in (2, 4, 5))
    sql, output = sys.stdin.buffer.read().decode(), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        connection = open_locked(db, seconds, memory)
        confine(memory)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + 1)
        table, more = answer(connection, sql, rows, size)
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(output, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return ExitStatus.TRUNCATED if more else ExitStatus.COMPLETE
    except duckdb.InterruptException:
        return ExitStatus.TOO_LONG
    except (duckdb.Error, pa.ArrowException, ValueError, MemoryError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or ["it needs more memory than it may have"]
        hints = [line for line in lines[1:] if line.startswith(("Candidate", "Did you mean"))]
        print(" ".join([lines[0], *hints])[:1000], file=sys.stderr, flush=True)
        return ExitStatus.REFUSED


if __name__ == "__main__":
    os._exit(main())  # at once: what a statement left behind is not worth a tidy end
