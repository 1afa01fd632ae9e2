"""What unit tests share lies beside them, in modules without `test_` in their name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
