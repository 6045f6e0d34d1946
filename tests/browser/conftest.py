"""Headless Chromium and a real JupyterLab. Where there is no Chromium these tests are skipped.

The browser is open for one module: Playwright keeps an event loop running, in which nothing else can start its own
(papermill, nbclient).
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weeks():
    """The helpers of tests/reporting that make a root of invented scores."""
    file = Path(__file__).parents[1] / "reporting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("weeks", file)
    weeks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weeks)
    return weeks


@pytest.fixture(scope="module")
def browser():
    """Chromium from the system; sounds go to no device, clocks run all the same."""
    if CHROMIUM is None:
        pytest.skip(f"no Chromium ({', '.join(NAMES)}) on the PATH; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # root, as in a container, has no sandbox; Lab in software needs its memory outside /dev/shm
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """`page(colour_scheme, width)` -> a new page; in the end none may have logged an error or asked for the network."""
    problems: list[str] = []
    contexts = []

    def new(colour_scheme: str = "light", width: int = 1000, **options):
        context = browser.new_context(color_scheme=colour_scheme, viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("request", lambda request: request.url.startswith("http") and problems.append(request.url))
        return opened

    yield new
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    """(address, folder) of a JupyterLab with settings of its own; kernels import this checkout."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = folder / "jupyter" / "config" / "labconfig" / "page_config.json"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    own = {f"JUPYTER_{name}_DIR": str(folder / "jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    options = [f"--port={port}", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    options += ["--IdentityProvider.token=", "--expose-app-in-browser"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options],
            env={**os.environ, **own, "PYTHONPATH": path, "IPYTHONDIR": str(folder / "ipython")},
            stdout=log,
            stderr=log,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 120
            while not _answers(f"{address}/api/status"):
                assert server.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.2)
            yield address, folder
        finally:
            server.terminate()
            server.wait(30)


def _answers(address: str) -> bool:
    try:
        return urlopen(address, timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture
def lab(browser, lab_server):
    """`lab(notebook_path, run=True)` -> a page of JupyterLab with a copy of the notebook, its cells run if wanted.

    Returns when every cell has ended. Not run, an executed notebook is shown untrusted, as one from a mail would be.
    """
    address, folder = lab_server
    contexts = []

    def new(notebook: Path, *, run: bool = True, theme: str = "JupyterLab Light", timeout_s: float = 120):
        shutil.copy(notebook, folder)
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 1000}))
        opened = contexts[-1].new_page()
        opened.set_default_timeout(1000 * timeout_s)
        opened.goto(f"{address}/lab/tree/{Path(notebook).name}?reset")
        opened.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady")
        opened.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        opened.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        if run:
            opened.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")
            opened.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        return opened

    yield new
    for context in contexts:
        context.close()
