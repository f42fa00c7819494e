"""A package's report in a real browser: what it weighs, what it says on the console, whether its trial has the bits.

    python benchmarks/pages.py build/embbert-snips --data data/snips/test.tsv.xz --axe axe.min.js --shots build/shots

Needs Debian's chromium-headless-shell (or chromium), clang, lld and wasi-libc. --axe takes axe-core's script, which
`npm pack axe-core` fetches. The exit status is 1 where a label or a bit differs, or the console or axe complains.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device import webassembly
from embbert_tvm.device.package import Package
from embbert_tvm.device.places import open_place
from embbert_tvm.measuring import accuracy
from embbert_tvm.measuring.figures import read_figures
from embbert_tvm.report.html.page import page_of

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDTHS = (360, 1280)
_CONSOLE = re.compile(r'CONSOLE[:(]\d*\)?\] "(.*?)", source')
_PROBE = re.compile(r'<pre id="probe">(.*?)</pre>', re.DOTALL)
# A page's own classify() on each text, when it is ready; a bit pattern a logit.
TRIAL = """
const texts = %s, section = document.querySelector(".trial");
while (!section.classify) await new Promise((done) => setTimeout(done, 10));
const bits = (x) => new Uint32Array(new Float32Array([x]).buffer)[0];
return texts.map((text) => {
  const { status, ids, logits } = section.classify(text);
  return { status, ids, logits: logits.map(bits) };
});
"""
_AXE = """
const found = await axe.run(document, { resultTypes: ["violations"] });
return found.violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.map((n) => n.html).slice(0, 5) }));
"""  # noqa: E501
_MILLISECONDS = "return performance.getEntriesByType('navigation')[0].loadEventEnd;"


def browser() -> str:
    """The browser's program; FileNotFoundError without one."""
    for name in BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    raise FileNotFoundError(f"no browser: apt-get install {BROWSERS[0]}")


def visit(
    page: str, script: str, *, width: int = 1280, dark: bool = False, library: str = ""
) -> tuple[object, list[str]]:
    """What the body of an async function returns on a page, and what the console had to say."""
    probe = f"""<script>{library}</script><script>addEventListener("load", async () => {{
      await new Promise((done) => setTimeout(done, 50));
      const probe = document.createElement("pre");
      probe.textContent = JSON.stringify(await (async () => {{ {script} }})());
      probe.id = "probe";
      document.body.append(probe);
    }});</script>"""
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        path = Path(folder) / "page.html"
        path.write_text(page.replace("</body>", f"{probe}</body>"), encoding="utf-8")
        done = _run(path, ["--dump-dom"], width, dark, folder)
    found = _PROBE.search(done.stdout)
    said = _CONSOLE.findall(done.stderr)
    if found is None:
        raise RuntimeError(f"the page did not answer: {said or done.stderr[-500:]}")
    return json.loads(html.unescape(found[1])), said


def screenshot(page: str, to: Path, width: int, dark: bool) -> None:
    """The page from its top, 2,400 pixels of it, as PNG."""
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        path = Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        _run(path, [f"--screenshot={to.resolve()}"], width, dark, folder)


def _run(path: Path, options: Sequence[str], width: int, dark: bool, folder: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        "--virtual-time-budget=60000", f"--window-size={width},2400", f"--user-data-dir={folder}/profile",
        f"--blink-settings=preferredColorScheme={int(not dark)}", *options, path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def on_host(package: Package, texts: Sequence[str]) -> list[dict[str, object]]:
    """What the package's C says of texts on this machine, as a page's trial does."""
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    found = []
    with open_place("host", package) as device:
        for text in texts:
            answer = device.classify(text)
            bits = [int(x) for x in answer.run.logits.reshape(-1).view("uint32")]
            ids = tokenize(tokenizer, text, None, package.max_length).ids
            found.append({"status": answer.label, "ids": ids, "logits": bits})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--data", type=Path, help="labelled TSV, for the page's accuracy; its trial answers the texts")
    parser.add_argument("--axe", type=Path, help="axe-core's axe.min.js")
    parser.add_argument("--shots", type=Path, help="folder for screenshots, each width light and dark")
    arguments = parser.parse_args()
    figures = read_figures(arguments.package)
    module = webassembly.build(figures.package)
    measured = [] if arguments.data is None else [accuracy.measure(figures.package, arguments.data)]
    page = page_of([figures], measured, [module])
    print(f"page: {len(page.encode()):,} bytes, WebAssembly {len(module or b''):,}")
    wrong = False
    for width in WIDTHS:
        for dark in (False, True):
            said = visit(page, _MILLISECONDS, width=width, dark=dark)[1]
            line = f"{width} px, {'dark' if dark else 'light'}: {len(said)} console messages"
            if arguments.axe is not None:
                library = arguments.axe.read_text(encoding="utf-8").replace("</script", "<\\/script")
                found, _ = visit(page, _AXE, width=width, dark=dark, library=library)
                serious = [v for v in found if v["impact"] in ("serious", "critical")]
                line += f", axe: {len(serious)} serious of {len(found)}"
                wrong |= bool(serious)
                for violation in found:
                    line += f"\n  {violation['impact']} {violation['id']}: {violation['help']} {violation['nodes'][:1]}"
            print(line)
            wrong |= bool(said)
            if arguments.shots is not None:
                arguments.shots.mkdir(parents=True, exist_ok=True)
                screenshot(page, arguments.shots / f"{width}-{'dark' if dark else 'light'}.png", width, dark)
    print(f"opened in {visit(page, _MILLISECONDS)[0]:.0f} ms")
    if arguments.data is not None and module is not None:
        texts = [example.text for example in read_examples(arguments.data)]
        theirs, ours = visit(page, TRIAL % json.dumps(texts))[0], on_host(figures.package, texts)
        labels = sum(a["status"] == b["status"] for a, b in zip(theirs, ours, strict=True))
        bits = sum(a == b for a, b in zip(theirs, ours, strict=True))
        print(f"trial: labels equal on {labels} of {len(texts)}, ids and bits on {bits}")
        wrong |= bits < len(texts)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
