"""Tests: tests/test_X.py covers X."""
