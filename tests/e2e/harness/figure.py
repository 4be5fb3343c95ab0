# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a power meter for tests tells."""

import time


class Figure:
    """Changed while its meter runs, by its attributes:

    watts        the power, or a function of the monotonic time
    lag          how old the figure is that it tells, seconds
    frozen       the figure stays what it is
    """

    def __init__(self):
        self.watts, self.lag = 291, 0
        self._frozen = None

    @property
    def frozen(self):
        return self._frozen is not None

    @frozen.setter
    def frozen(self, frozen):
        self._frozen = self.figure() if frozen else None

    def figure(self):
        if self._frozen is not None:
            return self._frozen
        return self.watts(time.monotonic() - self.lag) if callable(self.watts) else self.watts
