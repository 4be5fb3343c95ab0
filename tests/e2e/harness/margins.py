# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every margin that a verdict of the end-to-end tests leaves, and why; none is a machine's speed.

What is compared is read from one account where there is one, before and after what the daemon
did in between: such a comparison needs no margin. What is left is here.
"""

# Ends a test that hangs; no verdict. A busy machine may take many times as long as an idle one.
PATIENCE_S = 300

# What the kernel's account of CPU time and the daemon's differ by at one moment: a look at a task
# that runs is as old as the kernel's last look at it, at most a scheduler's tick of 4 ms for each
# CPU; metrics are cut to microseconds. (/proc, with the procfs provider, has ticks of 10 ms.)
CPU_S = 0.02
# Of tasks that do not run. Between the looks at them are some milliseconds, as they are asked.
AT_REST_S = 0.001

# CPU time that libvirt's child uses in a domain's control group before it becomes QEMU: work of a
# constant amount, some milliseconds.
PREPARE_S = 0.05

# By how much a VM's energy may be off that of its CPU time. Energy is drawn by what the kernel
# calls not idle, and divided by what it charged tasks with: interrupts and steal time are in one
# and not in the other; and counters and CPU times are not read at the same instant of a tick.
ENERGY = 0.05
ENERGY_SHORT = 0.1  # over some ticks
ENERGY_PINNED = 0.03  # of VMs that each have a package of their own
ENERGY_LONG = 0.04  # over half a minute and more, killed again and again
ENERGY_WANDERS = 0.02  # of long loads, where the edges of intervals are many and cancel out

# What part of the idle power a VM may be charged for while the host's static power is learned: the
# drift, a twentieth either way, and as much for readings of the counter that came late.
STATIC_DRIFT = 0.2

# Metrics are in whole microjoules; a row for each zone and source is added.
CUT_J = 1e-4

# How many ticks an emulated machine may miss for each that it makes, on a machine that gives it so
# small a part of a CPU. A daemon that waited for what is silent would miss ten and more.
LATE_TICKS = 5

# What the end of a process costs beyond its last look at its own clock.
END_S = 0.02
