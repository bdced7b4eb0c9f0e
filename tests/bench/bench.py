#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures vmxd against QEMU's TCG and against the bare processor, side by side in one run.

Needs a built tree (VMXD_BUILDDIR), guest kernels (VMXD_GUEST_DIR) and qemu-system-x86_64 for the
comparison. Every figure is a median; runs of the two sides alternate. Nothing here is a limit.
"""
import argparse
import json
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SRC = os.environ.get('VMXD_SRCDIR') or os.path.abspath(os.path.join(os.path.dirname(__file__), '../..'))
BUILD = os.environ.get('VMXD_BUILDDIR') or os.path.join(SRC, 'build')
GUEST = os.environ.get('VMXD_GUEST_DIR') or os.path.join(BUILD, 'guest')
KERNEL = os.path.join(GUEST, 'vmlinuz-cloud')
INIT = 'vmxd-guest: init'
CLASSES = {
    'integer and memory': 'alu sort indirect call chase-cache chase-memory tree memcpy byte-loop hash compress',
    'whole programs': 'lua deflate inflate',
    'floating point and SIMD': 'double matrix x87 aes avx2 sha',
    'guest kernel': 'syscall page-fault fork exec pipe file switch',
    'several processors': 'atomics',
}


def say(*words):
    print(*words, flush=True)


class Daemon:
    """A private vmxd for the length of the run."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix='vmxd-bench.')
        self.socket = os.path.join(self.dir, 'vmxd.sock')
        self.env = dict(os.environ, VMXD_SOCKET=self.socket)
        self.log = open(os.path.join(self.dir, 'log'), 'w')
        self.process = subprocess.Popen(
            [os.path.join(BUILD, 'vmxd'), '--socket', self.socket, '--runtime-dir',
             os.path.join(self.dir, 'run'), '--state-dir', os.path.join(self.dir, 'state')],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for _ in range(100):
            if os.path.exists(self.socket):
                return self
            time.sleep(0.05)
        raise RuntimeError('vmxd did not start: ' + self.log.name)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def ctl(self, *args):
        return [os.path.join(BUILD, 'vmctl')] + list(args)

    def run_command(self, initrd, cmdline, memory='512M', cpus=1):
        return self.ctl('run', 'bench', '--rm', '--engine', 'soft', '--memory', memory, '--cpus', str(cpus),
                        '--kernel', KERNEL, '--initrd', initrd, '--cmdline', cmdline)


def qemu_command(initrd, cmdline, memory='512M', cpus=1):
    return ['qemu-system-x86_64', '-M', 'q35', '-accel', 'tcg', '-cpu', 'max', '-m', memory, '-smp', str(cpus),
            '-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio', '-kernel', KERNEL,
            '-initrd', initrd, '-append', cmdline]


def run_guest(command, env, until=None, limit=600):
    """Runs a guest; returns its console and the seconds until the line that contains `until`."""
    start = time.monotonic()
    seen, lines = None, []
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=env, text=True, errors='replace')
    try:
        for line in p.stdout:
            lines.append(line.rstrip())
            if until and seen is None and until in line:
                seen = time.monotonic() - start
            if time.monotonic() - start > limit:
                raise RuntimeError('guest takes too long: ' + ' '.join(command[:3]))
        p.wait(timeout=30)
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
    if p.returncode:
        raise RuntimeError('%s: exit %d\n%s\n%s' % (' '.join(command[:3]), p.returncode, '\n'.join(lines[-15:]),
                                                    p.stderr.read()))
    return lines, seen


def spread(values, unit, scale=1):
    return '%.2f %s (%.2f to %.2f, %d runs)' % (statistics.median(values) * scale, unit, min(values) * scale,
                                                max(values) * scale, len(values))


def bench_boot(daemon, runs, have_qemu):
    initrd = os.path.join(GUEST, 'initramfs.cpio')
    cmdline = 'console=ttyS0 quiet vmxd.run="true"'
    times = {'vmxd': [], 'tcg': []}
    for _ in range(runs):
        times['vmxd'].append(run_guest(daemon.run_command(initrd, cmdline, '256M'), daemon.env, INIT)[1])
        if have_qemu:
            times['tcg'].append(run_guest(qemu_command(initrd, cmdline, '256M'), None, INIT)[1])
    say('cold boot of the Debian cloud kernel to init (from the start of the command)')
    say('  vmxd, software processor     ', spread(times['vmxd'], 's'))
    if have_qemu:
        say('  qemu -M q35 -accel tcg       ', spread(times['tcg'], 's'))
        say('  TCG / vmxd                    %.2f' % (statistics.median(times['tcg']) /
                                                      statistics.median(times['vmxd'])))


class Rpc:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile('rw')
        self.id = 0

    def call(self, method, **params):
        self.id += 1
        self.file.write(json.dumps({'jsonrpc': '2.0', 'id': self.id, 'method': method, 'params': params}) + '\n')
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if answer.get('id') == self.id:
                break
        if 'error' in answer:
            raise RuntimeError('%s: %s' % (method, answer['error']))
        return answer['result']


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


def bench_memory(daemon):
    initrd = os.path.join(GUEST, 'initramfs.cpio')
    rpc = Rpc(daemon.socket)
    rpc.call('vm.create', name='memory', kernel=KERNEL, initrd=initrd, memory='256M', engine='soft',
             cmdline='console=ttyS0 quiet vmxd.run="sleep 600"')
    t = time.monotonic()
    rpc.call('vm.start', name='memory')
    say('vm.start answered after           %.1f ms, first guest instruction after %.1f ms' %
        ((time.monotonic() - t) * 1000, rpc.call('vm.info', name='memory')['boot_ms']))
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


def bench_work(daemon, runs, have_qemu, only):
    program = os.path.join(BUILD, 'tests/bench/guest-bench')
    initrd = os.path.join(GUEST, 'initramfs-bench.cpio')
    subprocess.run([os.path.join(SRC, 'tests/guest/initramfs'), initrd, '--add', program + '=bin/guest-bench'],
                   check=True)
    cmdline = 'console=ttyS0 quiet vmxd.bench' + ('=' + only if only else '')
    native, vmxd, tcg = {}, {}, {}
    for i in range(runs):
        say('  run %d of %d ...' % (i + 1, runs))
        collect(subprocess.run([program] + ([only] if only else []), stdout=subprocess.PIPE, text=True,
                               check=True).stdout.splitlines(), native)
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
        everything += rows
    if everything:
        say('  %-57s  %9.2f %9.2f %9.2f' % ('(geometric mean of all)',
                                            *[geometric([r[i] for r in everything]) for i in range(3)]))


def cpu_seconds(pids):
    """Host processor time of processes, their own and what was done for them."""
    ticks = 0
    for pid in pids:
        try:
            with open('/proc/%d/stat' % pid) as f:
                ticks += sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13])
        except OSError:
            pass
    return ticks / os.sysconf('SC_CLK_TCK')


def children(pid):
    out = subprocess.run(['ps', '-eo', 'pid=,ppid='], stdout=subprocess.PIPE, text=True, check=True).stdout
    tree = [tuple(map(int, line.split())) for line in out.splitlines()]
    found = [pid]
    for p in found:
        found += [c for c, parent in tree if parent == p and c not in found]
    return found


NET_TOOL = os.path.join(BUILD, 'tests/guest/net-tool')
NET_STEPS = (('send', 6), ('receive', 6), ('echo', 20))


def net_guest(command, env, host, base):
    """Runs one guest through NET_STEPS against servers here; MB/s, MB/s, us, and CPU seconds per GB."""
    servers = [subprocess.Popen([NET_TOOL, 'serve', str(base + i)], stdout=subprocess.DEVNULL)
               for i in range(len(NET_STEPS))]
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=env, text=True, errors='replace')
    result, cpu, marks = {}, {}, {}
    try:
        for line in p.stdout:
            m = re.search(r'net-step (\S+)', line)
            if m:  # what is used from here on is this step's
                marks[m.group(1)] = cpu_seconds(children(os.getpid())[1:])
            m = re.search(r'net-tool (send|receive) (\d+) ([0-9.]+)', line)
            if m and float(m.group(3)) > 0:
                used = cpu_seconds(children(os.getpid())[1:]) - marks.get(m.group(1), 0)
                result[m.group(1)] = float(m.group(2)) / float(m.group(3)) / 1e6
                cpu[m.group(1)] = used / (float(m.group(2)) / 1e9) if float(m.group(2)) else float('nan')
            m = re.search(r'net-tool echo ([0-9.]+)', line)
            if m:
                result['echo'] = float(m.group(1))
        p.wait(timeout=60)
    finally:
        for q in servers + [p]:
            if q.poll() is None:
                q.kill()
            q.wait()
    return result, cpu


def net_cmdline(host, setup, base):
    steps = ''.join('echo net-step %s; net-tool %s %s %d %d; ' % (verb, verb, host, base + i, n)
                    for i, (verb, n) in enumerate(NET_STEPS))
    return 'console=ttyS0 quiet vmxd.modules vmxd.run="net-guest %s; %s"' % (setup, steps)


def bench_net(daemon, runs, have_qemu):
    initrd = os.path.join(GUEST, 'initramfs-net.cpio')
    subprocess.run([os.path.join(SRC, 'tests/guest/initramfs'), initrd, '--modules',
                    os.path.join(GUEST, 'modules-cloud'), '--add',
                    os.path.join(SRC, 'tests/guest/udhcpc-script') + '=bin/udhcpc-script', '--add',
                    os.path.join(SRC, 'tests/guest/net-guest') + '=bin/net-guest', '--add',
                    NET_TOOL + '=bin/net-tool'], check=True)
    kinds = [('user-mode networking', '10.0.2.2', 'dhcp', ['--net', 'user,host-access'],
              ['-netdev', 'user,id=n'])]
    if subprocess.run(['ip', 'tuntap', 'add', 'dev', 'vmbench0', 'mode', 'tap'],
                      stderr=subprocess.DEVNULL).returncode == 0:
        subprocess.run(['ip', 'addr', 'add', '10.66.0.1/24', 'dev', 'vmbench0'], check=True)
        subprocess.run(['ip', 'link', 'set', 'vmbench0', 'up'], check=True)
        kinds.append(('tap', '10.66.0.1', 'ip=10.66.0.2', ['--net', 'tap,name=vmbench0'],
                      ['-netdev', 'tap,id=n,ifname=vmbench0,script=no,downscript=no']))
    else:
        say('  no tap can be made here (root is needed)')
    base = 7100
    try:
        for title, host, setup, ours, theirs in kinds:
            sides = {'vmxd': [], 'tcg': []}
            for _ in range(runs):
                base += 10
                sides['vmxd'].append(net_guest(
                    daemon.run_command(initrd, net_cmdline(host, setup, base), '256M') + ours, daemon.env, host, base))
                if have_qemu:
                    base += 10
                    sides['tcg'].append(net_guest(
                        qemu_command(initrd, net_cmdline(host, setup, base), '256M') +
                        theirs + ['-device', 'virtio-net-pci,netdev=n'], None, host, base))
            net_rows(title, sides)
    finally:
        subprocess.run(['ip', 'tuntap', 'del', 'dev', 'vmbench0', 'mode', 'tap'], stderr=subprocess.DEVNULL)


def net_rows(title, sides):
    say('TCP over %s, Debian cloud kernel, one connection' % title)
    say('  %-22s %12s %12s %10s' % ('', 'vmxd', 'tcg', 'ratio'))
    for verb, text, unit in (('send', 'guest to host', 'MB/s'), ('receive', 'host to guest', 'MB/s'),
                             ('echo', 'one byte and back', 'us')):
        def middle(side, which):
            values = [r[which][verb] for r in sides[side] if verb in r[which]]
            return statistics.median(values) if values else float('nan')
        v, t = middle('vmxd', 0), middle('tcg', 0)
        say('  %-22s %7.1f %4s %7.1f %4s %10.2f' % (text, v, unit, t, unit, t / v if verb == 'echo' else v / t))
        if verb != 'echo':
            say('  %-22s %7.2f %4s %7.2f %4s' % ('  processor, all sides', middle('vmxd', 1), 's/GB',
                                                 middle('tcg', 1), 's/GB'))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=5, help='of each boot (workloads: at most 3)')
    parser.add_argument('--only', default='', help='workloads, separated by commas')
    parser.add_argument('parts', nargs='*', help='boot rpc memory net work; none: all')
    args = parser.parse_args()
    parts = args.parts or ['boot', 'rpc', 'memory', 'net', 'work']
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
        if 'net' in parts:
            bench_net(daemon, min(args.runs, 3), have_qemu)
        if 'work' in parts:
            bench_work(daemon, min(args.runs, 3), have_qemu, args.only)
    return 0


if __name__ == '__main__':
    sys.exit(main())
