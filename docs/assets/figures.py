"""Makes the figures of the teaching notes anew: `python docs/assets/figures.py`.

Runs the examples of each page, as the tests do, and keeps what they draw beside it.
"""

import os
import re
import tempfile
from pathlib import Path

import jax
import matplotlib

NOTES = Path(__file__).resolve().parents[1] / "teaching"


def main() -> None:
    """Run every page that draws, in a folder of its own."""
    matplotlib.use("Agg")
    jax.config.update("jax_enable_x64", True)
    for page in sorted(NOTES.glob("*.md")):
        blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            exec("\n".join(blocks), {"__name__": page.stem})
            for drawn in Path(folder).glob("*.png"):
                (NOTES / "images" / drawn.name).write_bytes(drawn.read_bytes())
            os.chdir(NOTES)


if __name__ == "__main__":
    main()
