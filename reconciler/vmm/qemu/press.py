"""The former path of `power_button.py`: units and scripts of guests that an older version started call this one.

They are not written again while the guest lives, and then the host's shutdown would end it without asking.
"""

from __future__ import annotations

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("power_button.py")), run_name="__main__")
