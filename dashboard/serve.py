"""`streamlit run` with what the views need imported first: no visitor waits for that.

    python -m dashboard.serve run dashboard/app.py [STREAMLIT'S OPTIONS] -- --db PATH

`streamlit run` alone shows the same; its first visitor waits a second longer. The dashboard's own
modules are left to Streamlit, whose caches belong to a running server.
"""

import altair  # noqa: F401
import duckdb  # noqa: F401
import pandas  # noqa: F401
from streamlit.web.cli import main

import suite.report.equal_cost  # noqa: F401

if __name__ == "__main__":
    main(prog_name="streamlit")
