# SPDX-License-Identifier: Apache-2.0
"""Disks and network cards: the same guest on vmxd's software processor and under QEMU's TCG, in turn."""
import math
import os
import re
import shutil
import statistics
import subprocess
import time

from bench_common import (BUILD, GUEST, SRC, children, cpu_seconds, make_initramfs, qemu_command, run_guest, say,
                          spread)

NET_TOOL = os.path.join(BUILD, 'tests/guest/net-tool')
GUEST_IO = os.path.join(BUILD, 'tests/bench/guest-io')
ROOTFS = os.path.join(GUEST, 'rootfs.img')
LOGIN = 'Debian GNU/Linux 12 vmxd-guest ttyS0'
TAP = 'vmbench0'
DISK_MIB = 256
DISK_SECONDS = 3

# What the guest does, what is shown of it, and whether each request counts or each byte.
DISK_STEPS = (('read', 'sequential read', 'MB/s'), ('write', 'sequential write', 'MB/s'),
              ('rand1', 'random read, 1 deep', 'kIO/s'), ('rand32', 'random read, 32 deep', 'kIO/s'),
              ('flush', 'write and flush', 'kIO/s'))
NET_STEPS = (('send', 'guest to host', 'MB/s'), ('receive', 'host to guest', 'MB/s'),
             ('echo', 'one byte and back', 'us'))
NET_COUNTS = {'send': 5, 'receive': 5, 'echo': 20}  # seconds, and hundreds of times


def run_steps(command, env):
    """Runs a guest that says `step NAME` and `result NAME OPERATIONS BYTES SECONDS [MEDIAN_US]`; by name a
    dictionary of these, and `cpu`, the processor time of the step: of both sides' processes and of what they talk
    to."""
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=env, text=True, errors='replace')
    results, lines, pids, before = {}, [], [], 0.0
    try:
        for line in p.stdout:
            lines.append(line.rstrip())
            if line.startswith('step '):
                pids = children(os.getpid())[1:]
                before = cpu_seconds(pids)
            m = re.match(r'result (\S+) (\d+) (\d+) ([0-9.]+)(?: ([0-9.]+))?', line)
            if m:
                results[m.group(1)] = {'ops': int(m.group(2)), 'bytes': int(m.group(3)),
                                       'seconds': float(m.group(4)), 'us': float(m.group(5) or 'nan'),
                                       'cpu': cpu_seconds(pids) - before}
        p.wait(timeout=60)
    finally:
        if p.poll() is None:
            p.kill()
        p.wait()
    if not results:
        raise RuntimeError('%s: nothing was measured:\n%s' % (' '.join(command[:3]), '\n'.join(lines[-15:])))
    return results


def figure(result, unit):
    """What the unit says, and the processor time: seconds a GiB, or microseconds a request."""
    if unit == 'MB/s':
        return result['bytes'] / result['seconds'] / 1e6, result['cpu'] / (result['bytes'] / 2**30)
    value = result['us'] if unit == 'us' else result['ops'] / result['seconds'] / 1e3
    return value, result['cpu'] / result['ops'] * 1e6


def middle(runs, name, unit):
    values = [figure(r[name], unit) for r in runs if name in r and r[name]['ops']]
    if not values:
        return math.nan, math.nan
    return statistics.median(v[0] for v in values), statistics.median(v[1] for v in values)


def show(title, steps, sides):
    say('  %-36s %12s %12s %8s %20s %14s' % (title, 'vmxd', 'tcg', 'ratio', 'processor: vmxd', 'tcg'))
    for name, text, unit in steps:
        ours, theirs = (middle(sides[side], name, unit) for side in ('vmxd', 'tcg'))
        ratio = theirs[0] / ours[0] if unit == 'us' else ours[0] / theirs[0]
        per = 's/GiB' if unit == 'MB/s' else 'us'
        say('    %-34s %7.1f %-5s %6.1f %-5s %7.2f %12.2f %-7s %6.2f %-5s' %
            (text, ours[0], unit, theirs[0], unit, ratio, ours[1], per, theirs[1], per))


def measure(runs, have_qemu, ours, theirs, env):
    """ours(), theirs(): the command lines; alternately."""
    sides = {'vmxd': [], 'tcg': []}
    for _ in range(runs):
        sides['vmxd'].append(run_steps(ours(), env))
        if have_qemu:
            sides['tcg'].append(run_steps(theirs(), None))
    return sides


# --- disks ------------------------------------------------------------------------------------------

def qemu_disk(image, cache):
    return ['-drive', 'file=%s,if=none,id=d,format=raw,%s' % (image, cache), '-device', 'virtio-blk-pci,drive=d']


def bench_disk(daemon, runs, have_qemu, direct):
    initrd = make_initramfs('initramfs-io.cpio', '--modules', os.path.join(GUEST, 'modules-cloud'),
                            '--add', GUEST_IO + '=bin/guest-io')
    verbs = ' '.join(name for name, _, _ in DISK_STEPS)
    cmdline = 'console=ttyS0 quiet vmxd.modules vmxd.run="guest-io /dev/vda %d %s; sleep 1"' % (DISK_SECONDS, verbs)
    image = os.path.join(daemon.dir, 'disk.img')
    with open(image, 'wb') as f:
        for _ in range(DISK_MIB):
            f.write(os.urandom(1 << 20))
        f.flush()
        os.fsync(f.fileno())
    cache = 'cache=none,aio=io_uring' if direct else 'cache=writeback,aio=threads'
    sides = measure(runs, have_qemu,
                    lambda: daemon.run_command(initrd, cmdline, '256M',
                                               more=['--disk', image + (',cache=none' if direct else '')]),
                    lambda: qemu_command(initrd, cmdline, '256M', more=qemu_disk(image, cache)), daemon.env)
    os.unlink(image)
    show('disk, past the host\'s page cache' if direct else 'disk, in the host\'s page cache', DISK_STEPS, sides)


def bench_root(daemon, runs, have_qemu):
    if not os.path.exists(ROOTFS):
        say('  no root disk in %s (./bootstrap bench makes it)' % GUEST)
        return
    initrd = make_initramfs('initramfs-cloud.cpio', '--modules', os.path.join(GUEST, 'modules-cloud'))
    cmdline = 'console=ttyS0 quiet vmxd.modules vmxd.root=/dev/vda'
    image = os.path.join(daemon.dir, 'root.img')
    times = {'vmxd': [], 'tcg': []}

    def boot(side, command, env):
        shutil.copyfile(ROOTFS, image)
        times[side].append(run_guest(command, env, LOGIN, stop=True)[1])

    for _ in range(runs):
        boot('vmxd', daemon.run_command(initrd, cmdline, '384M', more=['--disk', image]), daemon.env)
        if have_qemu:
            boot('tcg', qemu_command(initrd, cmdline, '384M', more=qemu_disk(image, 'cache=writeback')), None)
    os.unlink(image)
    say('  Debian from a root disk to its login')
    say('    vmxd                              ', spread(times['vmxd'], 's'))
    if have_qemu:
        say('    qemu -M q35 -accel tcg            ', spread(times['tcg'], 's'))
        say('    TCG / vmxd                         %.2f' % (statistics.median(times['tcg']) /
                                                             statistics.median(times['vmxd'])))


# --- network cards ----------------------------------------------------------------------------------

class Servers:
    """One program for each step of a guest; each serves one connection."""

    def __init__(self, base):
        self.base = base
        self.list = []

    def __enter__(self):
        self.list = [subprocess.Popen([NET_TOOL, 'serve', str(self.base + i)], stdout=subprocess.DEVNULL)
                     for i in range(len(NET_STEPS))]
        return self

    def __exit__(self, *_):
        for p in self.list:
            p.kill()
            p.wait()


def bench_net(daemon, runs, have_qemu, kind):
    initrd = make_initramfs('initramfs-net.cpio', '--modules', os.path.join(GUEST, 'modules-cloud'), '--add',
                            os.path.join(SRC, 'tests/guest/udhcpc-script') + '=bin/udhcpc-script', '--add',
                            os.path.join(SRC, 'tests/guest/net-guest') + '=bin/net-guest', '--add',
                            NET_TOOL + '=bin/net-tool')
    title, host, setup, ours, theirs = kind
    sides = {'vmxd': [], 'tcg': []}
    base = 7100

    def run(side, make, env, more):
        nonlocal base
        base += 10
        steps = ''.join('net-tool %s %s %d %d; ' % (verb, host, base + i, NET_COUNTS[verb])
                        for i, (verb, _, _) in enumerate(NET_STEPS))
        cmdline = 'console=ttyS0 quiet vmxd.modules vmxd.run="net-guest %s; %s sleep 1"' % (setup, steps)
        with Servers(base):
            sides[side].append(run_steps(make(initrd, cmdline, '256M', more=more), env))

    for _ in range(runs):
        run('vmxd', daemon.run_command, daemon.env, ours)
        if have_qemu:
            run('tcg', qemu_command, None, [*theirs, '-device', 'virtio-net-pci,netdev=n'])
    show('TCP, ' + title, NET_STEPS, sides)


def bench_user(daemon, runs, have_qemu):
    bench_net(daemon, runs, have_qemu, ('user-mode networking', '10.0.2.2', 'dhcp', ['--net', 'user,host-access'],
                                        ['-netdev', 'user,id=n']))


def bench_tap(daemon, runs, have_qemu):
    if subprocess.run(['ip', 'tuntap', 'add', 'dev', TAP, 'mode', 'tap'], stderr=subprocess.DEVNULL).returncode:
        say('  no tap can be made here (root is needed)')
        return
    try:
        subprocess.run(['ip', 'addr', 'add', '10.66.0.1/24', 'dev', TAP], check=True)
        subprocess.run(['ip', 'link', 'set', TAP, 'up'], check=True)
        bench_net(daemon, runs, have_qemu,
                  ('tap', '10.66.0.1', 'ip=10.66.0.2', ['--net', 'tap,name=' + TAP],
                   ['-netdev', 'tap,id=n,ifname=%s,script=no,downscript=no' % TAP]))
    finally:
        subprocess.run(['ip', 'tuntap', 'del', 'dev', TAP, 'mode', 'tap'], stderr=subprocess.DEVNULL)


PARTS = {
    'disk': lambda *args: bench_disk(*args, direct=False),
    'direct': lambda *args: bench_disk(*args, direct=True),
    'root': bench_root,
    'user': bench_user,
    'tap': bench_tap,
}


def bench_io(daemon, runs, have_qemu, only):
    start = time.monotonic()
    say('disks and network cards, Debian cloud kernel, medians of %d runs a side; processor time of all processes' %
        runs)
    for name, part in PARTS.items():
        if not only or name in only.split(','):
            part(daemon, runs, have_qemu)
    say('  (%.0f s, load %.1f)' % (time.monotonic() - start, os.getloadavg()[0]))
