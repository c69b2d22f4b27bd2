"""SQL: a question of one's own, in a process that can read this snapshot and nothing else."""

from __future__ import annotations

import streamlit as st


def show() -> None:
    """Draw it."""
    st.info("soon")
