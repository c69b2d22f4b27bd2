"""How the dashboard is started: Streamlit with settings that are safe on a shared machine.

The suite does not import the dashboard; it runs it. Streamlit by itself binds to all interfaces
without a login, answers to any host name and reports usage: none of that is wanted.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from suite.workspace import ROOT

APP = ROOT / "dashboard" / "app.py"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
ACCENT = "#0072B2"


def command(db: Path, host: str, port: int) -> list[str]:
    """The command line of the dashboard's server.

    Raises ValueError when Streamlit is not installed.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ValueError("Streamlit is not installed: pip install -e '.[dashboard]'")
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "type",
        "client.toolbarMode": "minimal",
        "theme.light.primaryColor": ACCENT,
        "theme.dark.primaryColor": ACCENT,
    }
    line = [sys.executable, "-P", "-m", "dashboard.serve", "run", str(APP)]
    line += [f"--{name}={value}" for name, value in options.items()]
    for name in () if host in EVERYWHERE else {host, *(LOOPBACK if host in LOOPBACK else ())}:
        line.append(f"--server.allowedHosts={name}")
    return [*line, "--", "--db", str(db.absolute())]
