"""A headless Chromium, if there is one."""

import os
import shutil
import subprocess
from pathlib import Path

FLAGS = [
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        "--virtual-time-budget=2000",
    ),
]


def browser() -> str | None:
    """Its program."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def dump(file: Path, folder: Path) -> tuple[str, str]:
    """Open a page and let its script run  ->  the document as it then is, what the browser said."""
    own = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [
        browser() or "",
        *FLAGS,
        *own,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "ERR_" in line]
    return done.stdout, "\n".join(said)
