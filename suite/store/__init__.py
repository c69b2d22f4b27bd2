"""runs.db: everything that ever ran, in DuckDB; `connect` reads it, the `Store` alone writes it."""

from suite.store.store import BadSpool, NoDatabase, Store, connect

__all__ = ["BadSpool", "NoDatabase", "Store", "connect"]
