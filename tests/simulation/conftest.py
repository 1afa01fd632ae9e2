"""What the simulations share lies beside them, in `shop.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
