# SPDX-License-Identifier: Apache-2.0
"""Workloads: one static program on the bare processor, in a vmxd guest and under QEMU's TCG."""
import math
import os
import re
import statistics
import subprocess

from bench_common import BUILD, make_initramfs, qemu_command, run_guest, say

CLASSES = {
    'integer and memory': 'alu sort indirect call chase-cache chase-memory tree memcpy byte-loop hash compress',
    'whole programs': 'mixed lua deflate inflate',
    'floating point and SIMD': 'double matrix x87 aes avx2 sha',
    'guest kernel': 'syscall page-fault fork exec pipe file switch',
    'several processors': 'atomics',
    '32-bit code': 'alu32 call32 byte-loop32 copy32 memcpy32 sort32 chase32 hash32 indirect32 long32 tls32 syscall32',
}


def collect(lines, into):
    for line in lines:
        m = re.match(r'bench (\S+) ([0-9.]+)$', line.strip())
        if m:
            into.setdefault(m.group(1), []).append(float(m.group(2)))


def geometric(values):
    values = [v for v in values if not math.isnan(v)]  # not there under TCG
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else float('nan')


def work_row(name, native, vmxd, tcg):
    n, v = statistics.median(native[name]), statistics.median(vmxd[name])
    q = statistics.median(tcg[name]) if name in tcg else float('nan')
    say('  %-14s %14.1f %14.1f %14.1f %9.2f %9.2f %9.2f' % (name, n, v, q, v / n, q / n, q / v))
    return v / n, q / n, q / v


PROGRAM = os.path.join(BUILD, 'tests/bench/guest-bench')
PROGRAM32 = PROGRAM + '32'


def bench_initramfs():
    return make_initramfs('initramfs-bench.cpio', '--add', PROGRAM + '=bin/guest-bench',
                          '--add', PROGRAM32 + '=bin/guest-bench32')


def run_natively(program, only):
    try:
        p = subprocess.run([program] + ([only] if only else []), stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        if program != PROGRAM32:
            raise
        say('  32-bit programs do not run here: %s' % e)
        return []
    return p.stdout.splitlines()


def bench_latency(daemon, have_qemu):
    initrd = bench_initramfs()
    cmdline = 'console=ttyS0 quiet vmxd.run="guest-bench --latency"'
    sides = [('native', subprocess.run([PROGRAM, '--latency'], stdout=subprocess.PIPE, text=True,
                                       check=True).stdout.splitlines()),
             ('vmxd', run_guest(daemon.run_command(initrd, cmdline), daemon.env)[0])]
    if have_qemu:
        sides.append(('tcg', run_guest(qemu_command(initrd, cmdline), None)[0]))
    say('microseconds from a deadline until the sleeper runs, 2000 of them, the processor idle in between')
    say('  %-18s %9s %9s %9s %9s %9s' % ('', '50 %', '90 %', '99 %', '99.9 %', 'worst'))
    for side, lines in sides:
        for line in lines:
            m = re.match(r'latency (\S+)((?: [0-9.]+){5})$', line.strip())
            if m:
                say('  %-18s %9s %9s %9s %9s %9s' % (side + ', ' + m.group(1), *m.group(2).split()))


def bench_work(daemon, runs, have_qemu, only):
    initrd = bench_initramfs()
    cmdline = 'console=ttyS0 quiet vmxd.bench' + ('=' + only if only else '')
    native, vmxd, tcg = {}, {}, {}
    for i in range(runs):
        say('  run %d of %d ...' % (i + 1, runs))
        for program in PROGRAM, PROGRAM32:
            collect(run_natively(program, only), native)
        collect(run_guest(daemon.run_command(initrd, cmdline), daemon.env)[0], vmxd)
        if have_qemu:
            collect(run_guest(qemu_command(initrd, cmdline), None)[0], tcg)
    say('nanoseconds an iteration; slowdown against native; how much faster than TCG')
    say('  %-14s %14s %14s %14s %9s %9s %9s' % ('', 'native', 'vmxd', 'tcg', 'vmxd/nat', 'tcg/nat', 'tcg/vmxd'))
    everything = []
    for title, names in CLASSES.items():
        rows = [work_row(n, native, vmxd, tcg) for n in names.split() if n in native and n in vmxd]
        if rows:
            say('  %-57s  %9.2f %9.2f %9.2f' % ('(geometric mean: ' + title + ')',
                                                *[geometric([r[i] for r in rows]) for i in range(3)]))
        if title != '32-bit code':  # so that the mean stays what it was
            everything += rows
    if everything:
        say('  %-57s  %9.2f %9.2f %9.2f' % ('(geometric mean of all)',
                                            *[geometric([r[i] for r in everything]) for i in range(3)]))
