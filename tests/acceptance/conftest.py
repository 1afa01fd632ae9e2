"""What the acceptance tests share lies beside them, in `working_loop.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
