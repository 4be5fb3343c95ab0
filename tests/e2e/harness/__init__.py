# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the end-to-end tests and the demo are made of.

    libvirtd.py   a running libvirtd: the system's, or one of our own
    guest.py      real QEMU guests and the commands they obey
    guest_host.py one of them as the hypervisor
    daemon.py     virtjouled under a configuration of the test's
    doctor.py     a host that virtjoule doctor finds nothing wrong with
    metrics.py    Prometheus text, to the microjoule
    audit.py      what must hold at every scrape
    accounts.py   what was used, beside what the daemon has counted of it
    margins.py    what verdicts leave open, and why
    powercap.py   a simulated host with energy counters
    fake_qemu.py  processes under QEMU's name with a known CPU time
    system.py     temporary directories, processes, waiting
"""
