# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every margin that a verdict of the end-to-end tests leaves, and why. None is of a machine's speed.

What is compared is read from one account where there is one, before and after what the daemon
did in between: such a comparison needs no margin. What is left is here.
"""

# Ends a test that hangs; no verdict. A busy machine may take many times as long as an idle one.
PATIENCE_S = 300
