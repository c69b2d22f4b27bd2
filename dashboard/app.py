"""The dashboard: `suite dashboard`, or `streamlit run dashboard/app.py -- --db runs.db`.

It reads published snapshots and writes nothing. Each view is a file of `dashboard/views`.
"""

import streamlit as st

from dashboard import state
from dashboard.views import compare, cost, entropy, overview, pass_at_k, run, sql

VIEWS = {
    "Overview": overview,
    "Compare": compare,
    "Entropy": entropy,
    "pass@k": pass_at_k,
    "Cost": cost,
    "Run": run,
    "SQL": sql,
}


# While a view is drawn anew Streamlit fades what it has not come to. What is there is whole and
# true until its successor takes its place: it stays as it is. A laptop is narrow: less margin.
STYLE = """<style>
[data-stale='true'] {opacity: 1 !important; transition: none !important}
[data-testid=stMainBlockContainer] {padding: 3rem 2.5rem 3rem 2.5rem}
</style>"""


def main() -> None:
    """Choose, then draw the view that the address names."""
    st.set_page_config(page_title="entropy-suite", layout="wide", initial_sidebar_state=220)
    pages = [
        st.Page(view.show, title=title, url_path=title.lower().replace("@", "-at-"))
        for title, view in VIEWS.items()
    ]
    page = st.navigation(pages)
    st.html(STYLE)
    state.choose()
    st.title(page.title)
    page.run()


main()
