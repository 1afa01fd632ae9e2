"""The clock on the wall."""

import time


class SystemClock:
    """`Clock` of this machine."""

    def now(self) -> int:
        return time.time_ns() // 1000
