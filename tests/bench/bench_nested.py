# SPDX-License-Identifier: Apache-2.0
"""VMX in the guest: what tests/guest/nested.sh measures, run by run."""
import os
import re
import statistics
import subprocess

from bench_common import BUILD, GUEST, SRC, say

# What nested.sh prints: name of the figure, pattern. The first of several is with EPT.
FIGURES = (
    ('call', re.compile(r'kvm-run: hypercall ns: (\d+)')),
    ('cpuid', re.compile(r'kvm-run: cpuid ns: (\d+)')),
    ('work', re.compile(r'kvm-run: work us: (\d+) here, (\d+) in the guest')),
    ('boot', re.compile(r'boot and self test: (\d+) ms, in the guest (\d+) ms')),
)


def figures(text):
    """The first match of each figure, as a list of numbers; absent if a step failed."""
    found = {}
    for name, pattern in FIGURES:
        match = pattern.search(text)
        if match:
            found[name] = [int(group) for group in match.groups()]
    return found


def middle(runs, name, index=0):
    return statistics.median(run[name][index] for run in runs)


def bench_nested(runs):
    if not os.path.exists(os.path.join(GUEST, 'kvm-cloud', 'order')):
        say('nested: no KVM modules in %s: run ./bootstrap bench' % GUEST)
        return
    done = []
    for _ in range(runs):
        p = subprocess.run(['bash', os.path.join(SRC, 'tests/guest/nested.sh')], cwd=BUILD, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        found = figures(p.stdout)
        if p.returncode or len(found) != len(FIGURES):
            say('nested: failed\n' + p.stdout)
            return
        done.append(found)
    say('a hypervisor in the guest: Debian\'s KVM, %d run(s)' % runs)
    say('  hypercall L2 -> L1 -> L2          %.2f us' % (middle(done, 'call') / 1000))
    say('  CPUID L2 -> L1 -> L2              %.2f us' % (middle(done, 'cpuid') / 1000))
    say('  work in L2 / in L1                %.2f' % (middle(done, 'work', 1) / middle(done, 'work')))
    say('  Debian boots in L2 / in L1        %.2f (%.2f s, %.2f s)' %
        (middle(done, 'boot', 1) / middle(done, 'boot'), middle(done, 'boot', 1) / 1000, middle(done, 'boot') / 1000))
