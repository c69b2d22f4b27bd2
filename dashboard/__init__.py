"""Reads runs.db and shows it; writes nothing."""
