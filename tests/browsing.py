"""A real Chromium on a real dashboard, for the tests that look at it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

from playwright.sync_api import TimeoutError as PageTimeout

from suite.bootstrap import browser

# The script has ended, and nothing is shown in the place of a part that is being fetched.
READY = "[data-testid=stApp][data-test-script-state=notRunning]:not(:has([data-testid=stSkeleton]))"
VIEWS = ("", "compare", "entropy", "pass-at-k", "cost", "run", "sql")  # their addresses
# Resolves when a run of the page's script that began after this has ended.
_ANSWERED = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  let ran = false;
  window.answered = new Promise(resolve => new MutationObserver((_, observer) => {
    const running = app.dataset.testScriptState === 'running';
    if (ran && !running) { observer.disconnect(); resolve(); }
    ran = ran || running;
  }).observe(app, {attributes: true, attributeFilter: ['data-test-script-state']}));
}"""
# Streamlit looks for its server below the address of a deep link first, and is told 404.
EXPECTED = ("_stcore/health", "_stcore/host-config")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def dashboard(db, log, env=None):
    """The address of `suite dashboard` on a database; ended in the end."""
    port = free_port()
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "suite.cli", "dashboard", "--db", db, "--port", str(port)],
            stdout=output,
            stderr=output,
            cwd=db.parent if env else None,
            env=(env or os.environ) | {"OMP_NUM_THREADS": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health"):
            break
        time.sleep(0.2)
    try:
        yield address
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def chromium():
    """Headless, without a sandbox of its own: tests run as root in containers."""
    from playwright.sync_api import sync_playwright

    executable = browser()
    assert executable, "chromium is missing: apt-get install -y chromium fonts-dejavu-core"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield started
        started.close()


class Visitor:
    """One person's window: what they see, and what the console said."""

    def __init__(self, started, address, **settings):
        size = {"width": 1280, "height": 800}
        self.context = started.new_context(viewport=size, accept_downloads=True, **settings)
        self.page = self.context.new_page()
        self.address = address
        self.complaints = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message):
        expected = any(message.location.get("url", "").endswith(path) for path in EXPECTED)
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(message.text)

    def _request(self, request):
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"asked {request.url}")

    def open(self, path=""):
        """Go there and wait until the view is whole and nothing is being drawn."""
        self.page.goto(f"{self.address}/{path}")
        return self.settle()

    def settle(self, quiet=400):
        """Wait until nothing has been drawn for `quiet` milliseconds."""
        self.page.wait_for_selector("h1", timeout=60_000)
        patience = time.monotonic() + 60
        while time.monotonic() < patience:  # a fragment's own reruns are short, on a quiet machine
            with contextlib.suppress(PageTimeout):
                self.page.wait_for_selector(READY, timeout=10_000)
            self.page.wait_for_timeout(quiet)
            if self.page.query_selector(READY):
                break
        return self

    def text(self):
        return self.page.inner_text("[data-testid=stMainBlockContainer]")

    def heading(self):
        """The sentence that answers the view's question."""
        return self.page.locator("h3").first.inner_text()

    def tables(self):
        """Every table as rows of texts, header first."""
        rows = "[...table.rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
        return self.page.eval_on_selector_all(
            "[data-testid=stTable] table", f"tables => tables.map(table => {rows})"
        )

    def choose(self, label, option):
        """Pick an option of a select box by what people read."""
        self.page.get_by_role("combobox", name=label).first.click()
        return self.press("option", option)

    def drop(self, name):
        """Take an entry out of a multiple choice."""
        return self.press("button", f"Remove {name}")

    def press(self, role, name):
        """Click what is called so, and wait until it has been answered."""
        self.page.evaluate(_ANSWERED)
        self.page.get_by_role(role, name=name, exact=True).click()
        self.page.evaluate("window.answered")
        return self.settle(quiet=150)

    def ask(self, sql):
        """Run a statement on the SQL view; what its alerts say, once it has been answered."""
        self.page.get_by_role("textbox", name="One statement").fill(sql)
        self.press("button", "Run")
        return [e.inner_text() for e in self.page.query_selector_all("[data-testid=stAlert]")]

    def download(self, button, number=0):
        """The bytes of what a button of that name gives."""
        with self.page.expect_download(timeout=60_000) as caught:
            self.page.get_by_role("button", name=button, exact=True).nth(number).click()
        with open(caught.value.path(), "rb") as file:
            return file.read()

    def exceptions(self):
        return [e.inner_text() for e in self.page.query_selector_all("[data-testid=stException]")]

    def close(self):
        self.context.close()
