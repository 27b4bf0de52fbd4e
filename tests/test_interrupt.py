"""Stopping the training cell, as the button of Jupyter and Colab does."""

import re

import nbformat
from jupyter_client.manager import KernelManager

from helpers.files import ROOT

CELLS = {
    cell["id"]: cell.source
    for cell in nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells
}
# A few pictures, and a second epoch that waits in its second batch the first time it is trained.
PREPARE = """
import functools, time
data.synthetic = functools.partial(data.synthetic, 100, 50)

class Waiting(trainer._Progress):
    waits = True

    def on_train_batch_begin(self, batch, logs=None):
        if Waiting.waits and self.title == "Epoch 2/3" and batch == 1:
            Waiting.waits = False
            print("in the second epoch", flush=True)
            time.sleep(1200)

trainer._Progress = Waiting
"""


def test_an_interrupted_training_cell_goes_on_when_run_again(sockets):
    manager = KernelManager(transport="ipc", connection_file=f"{sockets}/kernel.json")
    manager.start_kernel(cwd=str(ROOT))
    client = manager.client()
    printed, drawn = [], []

    def run(code, interrupt=False):
        def watch(message):
            text = message["content"].get("text", "")
            printed.append(text)
            drawn.extend(message["content"].get("data", {}).keys() & {"image/jpeg", "image/png"})
            if interrupt and "in the second epoch" in text:
                manager.interrupt_kernel()

        return client.execute_interactive(code, output_hook=watch, timeout=1200)["content"]

    try:
        client.start_channels()
        client.wait_for_ready(timeout=1200)
        for cell in ("setup", "imports", "configuration"):
            assert run(CELLS[cell])["status"] == "ok", cell
        assert run(PREPARE)["status"] == "ok"
        assert run(CELLS["data-load"])["status"] == "ok"
        stopped = run(CELLS["training"], interrupt=True)
        assert stopped["ename"] == "KeyboardInterrupt" and "Epoch  2/" not in "".join(printed)
        assert len(drawn) == 1  # the curves after the first epoch
        printed.clear()
        assert run(CELLS["training"])["status"] == "ok"
        text = "".join(printed)
        assert "Going on after epoch 1" in text
        assert re.findall(r"^Epoch +(\d)/3 - ", text, re.MULTILINE) == ["1", "2", "3"]
        assert len(drawn) == 3
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
