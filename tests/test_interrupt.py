"""Stopping the training cell, as the button of Jupyter and Colab does."""

import os
import re

import nbformat
from jupyter_client.manager import start_new_kernel

from helpers.files import ROOT

CELLS = {
    cell["id"]: cell.source
    for cell in nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells
}


def test_an_interrupted_training_cell_goes_on_when_run_again():
    manager, client = start_new_kernel(
        cwd=str(ROOT), env={**os.environ, "COURSE_MODE": "quick", "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    printed = []

    def run(cell, interrupt=False):
        def watch(message):
            text = message["content"].get("text", "")
            printed.append(text)
            if interrupt and "Epoch  1/" in text:
                manager.interrupt_kernel()  # the second epoch has begun

        return client.execute_interactive(CELLS[cell], output_hook=watch, timeout=300)["content"]

    try:
        for cell in ("setup", "imports", "configuration", "data-load", "training-recipe"):
            assert run(cell)["status"] == "ok", cell
        stopped = run("training", interrupt=True)
        assert stopped["ename"] == "KeyboardInterrupt" and "Epoch  2/" not in "".join(printed)
        printed.clear()
        assert run("training")["status"] == "ok"
        text = "".join(printed)
        assert "Going on after epoch 1" in text
        assert re.findall(r"^Epoch +(\d)/4", text, re.MULTILINE) == ["1", "2", "3", "4"]
        assert run("training-provenance")["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
