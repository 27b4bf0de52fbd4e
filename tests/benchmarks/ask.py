"""How long the page "Ask it where it looked" takes in Chromium, and how large it is.

Run by hand: python -m tests.benchmarks.ask
"""

import functools
import http.server
import statistics
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import BROWSER, FLAGS
from tools import ask

ONE_ANSWER = """async () => {
    const { forward } = await import("./network.js");
    const { account } = await import("./evidence.js");
    const numbers = new Float32Array(await (await fetch("network.bin")).arrayBuffer());
    const pixels = new Uint8Array(await (await fetch("pictures.bin")).arrayBuffer());
    return Array.from({ length: 60 }, () => {
        const started = performance.now();
        account(forward(numbers, pixels.subarray(0, 3072)), 0, null);
        return performance.now() - started;
    });
}"""


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        ask.write(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            print(f"{path.name:14} {path.stat().st_size:10,} bytes")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        handler.func.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        first = []
        for _ in range(5):
            page = browser.new_context().new_page()  # nothing is cached
            started = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            page.wait_for_selector("main:not([hidden])")
            first.append(time.perf_counter() - started)
        later = page.evaluate(ONE_ANSWER)[20:]
        print(f"first answer   {statistics.median(first):.2f} s after opening, median of 5")
        print(f"every further  {statistics.median(later):.0f} ms, median of {len(later)}")
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
