#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures vmxd against QEMU's TCG and against the bare processor, side by side in one run.

Needs a built tree (VMXD_BUILDDIR), guest kernels (VMXD_GUEST_DIR) and qemu-system-x86_64 for the
comparison. Every figure is a median; runs of the two sides alternate. Nothing here is a limit.
"""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

from bench_common import GUEST, INIT, KERNEL, Daemon, Rpc, qemu_command, run_guest, say, spread
from bench_io import bench_io
from bench_nested import bench_nested
from bench_vmlinux import vmlinux
from bench_work import bench_latency, bench_work


def boot_both(daemon, runs, have_qemu, what, machine, kernel, hint=''):
    """hint: for QEMU's kernel alone, on its command line."""
    initrd = os.path.join(GUEST, 'initramfs.cpio')
    cmdline = 'console=ttyS0 quiet vmxd.run="true"'
    times = {'vmxd': [], 'tcg': []}
    for _ in range(runs):
        command = daemon.run_command(initrd, cmdline, '256M', kernel=kernel)
        times['vmxd'].append(run_guest(command, daemon.env, INIT)[1])
        if have_qemu:
            command = qemu_command(initrd, cmdline + hint, '256M', machine=machine, kernel=kernel)
            times['tcg'].append(run_guest(command, None, INIT)[1])
    say('cold boot of %s to init (from the start of the command)' % what)
    say('  vmxd, software processor     ', spread(times['vmxd'], 's'))
    if have_qemu:
        say('  %-29s' % ('qemu -M %s -accel tcg' % machine), spread(times['tcg'], 's'))
        say('  TCG / vmxd                    %.2f' % (statistics.median(times['tcg']) /
                                                      statistics.median(times['vmxd'])))


def bench_boot(daemon, runs, have_qemu):
    boot_both(daemon, runs, have_qemu, 'the Debian cloud kernel', 'q35', KERNEL)
    kernel = vmlinux()
    if kernel:
        # microvm has nothing that Linux can measure the TSC by but an 8254, which it does not manage on a
        # busy host: it stops there.
        with open('/proc/cpuinfo') as f:
            mhz = float(re.search(r'cpu MHz\s*: (.*)', f.read()).group(1))
        boot_both(daemon, runs, have_qemu, 'the same kernel, uncompressed (PVH),', 'microvm', kernel,
                  ' tsc_early_khz=%d' % (mhz * 1000))
    else:
        say('no boot of the uncompressed kernel: it wants lz4 or zstd to be unpacked')


def bench_rpc(daemon):
    rpc = Rpc(daemon.socket)
    rpc.call('vm.create', name='rpc', kernel=KERNEL, memory='64M')
    times = []
    for _ in range(1000):
        t = time.perf_counter()
        rpc.call('vm.info', name='rpc')
        times.append(time.perf_counter() - t)
    say('RPC vm.info, round trip          ', spread(times, 'ms', 1000))
    times = []
    for _ in range(20):
        t = time.perf_counter()
        subprocess.run(daemon.ctl('list'), env=daemon.env, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - t)
    say('vmctl list                       ', spread(times, 'ms', 1000))
    rpc.call('vm.delete', name='rpc')


def resident(pid):
    """KiB resident: guest RAM, code cache, all else."""
    kinds = {'guest RAM': 0, 'code cache': 0, 'rest': 0}
    kind = 'rest'
    with open('/proc/%d/smaps' % pid) as f:
        for line in f:
            if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
                name = line[73:].strip()
                kind = 'rest'
                if 'memfd:' in name:
                    kind = 'code cache' if re.search(r'code|jit|cache', name) else 'guest RAM'
            elif line.startswith('Pss:'):  # pages that are mapped twice count once
                kinds[kind] += int(line.split()[1])
    return kinds


def bench_start(rpc, name):
    """Both counted from the request. The last start goes on."""
    answered, first = [], []
    for left in range(9, -1, -1):
        t = time.monotonic()
        rpc.call('vm.start', name=name)
        answered.append(time.monotonic() - t)
        while not (boot_ms := rpc.call('vm.info', name=name)['boot_ms']):
            time.sleep(0.001)
        first.append(boot_ms / 1000)
        if left:
            rpc.call('vm.kill', name=name)
            rpc.call('vm.wait', name=name)
    say('vm.start answered after          ', spread(answered, 'ms', 1000))
    say('first guest instruction after    ', spread(first, 'ms', 1000))


def bench_memory(daemon):
    initrd = os.path.join(GUEST, 'initramfs.cpio')
    rpc = Rpc(daemon.socket)
    rpc.call('vm.create', name='memory', kernel=KERNEL, initrd=initrd, memory='256M', engine='soft',
             cmdline='console=ttyS0 quiet vmxd.run="sleep 600"')
    bench_start(rpc, 'memory')
    time.sleep(8)
    info = rpc.call('vm.info', name='memory')
    kinds = resident(info['pid'])
    say('vmxd-machine, resident            guest RAM %.1f MiB, code cache %.1f MiB, the rest %.1f MiB' %
        tuple(kinds[k] / 1024 for k in ('guest RAM', 'code cache', 'rest')))
    with open('/proc/%d/stat' % info['pid']) as f:
        before = sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13])
    time.sleep(5)
    with open('/proc/%d/stat' % info['pid']) as f:
        after = sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13])
    say('idle guest, host processor        %.1f %%' % ((after - before) / os.sysconf('SC_CLK_TCK') / 5 * 100))
    rpc.call('vm.kill', name='memory')
    rpc.call('vm.wait', name='memory')
    rpc.call('vm.delete', name='memory')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=5, help='of each boot (workloads: at most 3)')
    parser.add_argument('--only', default='', help='workloads, or of io disk, direct, root, user, tap; separated by commas')
    parser.add_argument('parts', nargs='*', help='boot rpc memory latency io nested work; none: all')
    args = parser.parse_args()
    parts = args.parts or ['boot', 'rpc', 'memory', 'latency', 'io', 'nested', 'work']
    have_qemu = shutil.which('qemu-system-x86_64') is not None
    if not os.path.exists(KERNEL):
        say('bench: no guest kernel in %s: run ./bootstrap bench' % GUEST)
        return 1
    if not have_qemu:
        say('bench: no qemu-system-x86_64 here: no comparison with TCG')
    with open('/proc/cpuinfo') as f:
        model = re.search(r'model name\s*: (.*)', f.read()).group(1)
    say('%s, %d processors, load %.1f' % (model, os.cpu_count(), os.getloadavg()[0]))
    with Daemon() as daemon:
        if 'boot' in parts:
            bench_boot(daemon, args.runs, have_qemu)
        if 'rpc' in parts:
            bench_rpc(daemon)
        if 'memory' in parts:
            bench_memory(daemon)
        if 'latency' in parts:
            bench_latency(daemon, have_qemu)
        if 'io' in parts:
            bench_io(daemon, args.runs, have_qemu, args.only)
        if 'nested' in parts:
            bench_nested(min(args.runs, 3))
        if 'work' in parts:
            bench_work(daemon, min(args.runs, 3), have_qemu, args.only)
    return 0


if __name__ == '__main__':
    sys.exit(main())
