"""The dashboard on the committed history: it says what RESULTS.md says, in a real browser.

The pictures of the pages (docs/images) are those that these tests leave in report/readme.
"""

import io
import itertools
import re
from urllib.parse import quote_plus

import pandas as pd
import pytest
from typer.testing import CliRunner

from suite.cli.app import app
from tests.browsing import Visitor, dashboard

TRACED = ("grpo", "entreg", "aent", "aepo", "clip-higher", "clip-low")  # as many as one can read


@pytest.fixture(scope="module")
def visitor(repo, tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("committed")
    db = folder / "runs.db"
    ran = CliRunner().invoke(
        app, ["db", "import", str(repo / "results/miniature"), "--db", str(db)]
    )
    assert ran.exit_code == 0, ran.output
    with dashboard(db, folder / "log") as address:
        visitor = Visitor(browser, address)
        yield visitor
        assert visitor.complaints == [] and visitor.exceptions() == []


@pytest.fixture(scope="module")
def pictures(repo):
    folder = repo / "report" / "readme"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def page_table(repo, title):
    """The first table below a heading of RESULTS.md, header first."""
    section = (repo / "RESULTS.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = section[section.index("|") :].splitlines()
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (rows[0], *rows[2:])]


def numbers(text):
    """An estimate and its interval."""
    return re.match(r"[+-]?[\d.]+ \[.*?\]", text)[0]


def test_the_overview_has_the_differences_of_the_page(visitor, pictures, repo):
    visitor.open()
    visitor.page.screenshot(path=pictures / "overview.png")
    header, *rows = page_table(repo, "Against GRPO")
    shown_header, *shown = visitor.tables()[0]
    assert shown_header == header and len(shown) == len(rows) >= 25
    expected = {arm: [numbers(cell) for cell in cells] for arm, *cells in rows}
    assert {arm: [numbers(cell) for cell in cells] for arm, *cells in shown} == expected
    assert visitor.heading() in (repo / "RESULTS.md").read_text()


def test_the_entropy_of_some_arms_is_a_link(visitor, pictures):
    visitor.open("entropy?" + "&".join(f"traced={arm}" for arm in TRACED))
    for arm in TRACED:
        assert visitor.page.get_by_role("button", name=f"Remove {arm}", exact=True).count() == 1
    assert visitor.page.get_by_role("button", name="Remove dapo", exact=True).count() == 0
    visitor.page.get_by_text("Arms", exact=True).scroll_into_view_if_needed()
    visitor.page.wait_for_timeout(1000)
    visitor.page.screenshot(path=pictures / "entropy.png")


def test_every_arm_has_a_curve_over_k(visitor, pictures, repo):
    curves = ("base model", *TRACED)
    visitor.open("pass-at-k?" + "&".join(f"curves={quote_plus(arm)}" for arm in curves))
    visitor.page.screenshot(path=pictures / "pass-at-k.png")
    data = pd.read_csv(io.BytesIO(visitor.download("CSV")))
    assert set(data.arm) == set(curves) and data.k.max() == 256
    assert (data.low <= data.score).all() and (data.score <= data.high).all()
