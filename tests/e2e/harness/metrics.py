# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prometheus text, with the values as they were written: no microjoule is rounded."""

import re
from decimal import Decimal

from . import system

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Scraped:
    """Who has `metrics()`: the waits for what they tell."""

    def wait_metrics(self, condition, what="the metrics"):
        """Scrapes until condition(metrics) is true; returns that scrape."""

        def scrape():
            metrics = self.metrics()
            return metrics if condition(metrics) else None

        return system.wait_until(scrape, what, interval=0.1)

    def wait_ticks(self, n=2):
        """Waits until n more samples have been published; with two, the last was taken after the
        call: what was used before is counted."""
        def ticks(metrics):
            return metrics.value("virtjoule_tick_seconds_count")

        start = ticks(self.metrics())
        return self.wait_metrics(lambda metrics: ticks(metrics) >= start + n, what=f"{n} ticks")


class Metrics:
    """One scrape: `samples` lists (name, labels, value)."""

    def __init__(self, text):
        self.text = text
        self.samples = [_parse_line(line) for line in text.split("\n")
                        if line and not line.startswith("#")]

    def select(self, name, /, **labels):
        """[(labels, value)] of the samples that carry these labels."""
        return [(have, value) for sample, have, value in self.samples
                if sample == name and labels.items() <= have.items()]

    def sum(self, name, /, **labels):
        return sum((value for _, value in self.select(name, **labels)), Decimal(0))

    def value(self, name, /, **labels):
        """The one sample that carries these labels."""
        found = self.select(name, **labels)
        if len(found) != 1:
            raise LookupError(f"{len(found)} samples of {name} with {labels} in:\n{self.text}")
        return found[0][1]

    def vm_energy(self, uuid, part=""):
        """Energy of a VM over its packages, joules: the dynamic one, or part="static_"."""
        return sum((value for labels, value in
                    self.select(f"virtjoule_vm_{part}energy_joules_total", uuid=uuid)
                    if labels["zone"].startswith("package")), Decimal(0))

    def zones(self):
        return {labels["zone"] for labels, _ in self.select("virtjoule_source_energy_joules_total")}

    def balance(self, zone):
        """Measured energy less what it was divided into: 0, to the microjoule."""
        divided = sum(self.sum(f"virtjoule_{row}_energy_joules_total", zone=zone)
                      for row in ("vm", "host", "static", "unattributed"))
        return self.sum("virtjoule_source_energy_joules_total", zone=zone) - divided


def _parse_line(line):
    match = _SAMPLE.fullmatch(line)
    if not match:
        raise ValueError(f"not a metric: {line!r}")
    labels = {key: re.sub(r"\\.", lambda m: _ESCAPES[m[0]], value)
              for key, value in _LABEL.findall(match[2] or "")}
    return match[1], labels, Decimal(match[3].replace("+Inf", "Infinity"))
