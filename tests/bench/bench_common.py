# SPDX-License-Identifier: Apache-2.0
"""What the parts of the benchmark share: the daemon, the two kinds of guest, processor time, medians."""
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

SRC = os.environ.get('VMXD_SRCDIR') or os.path.abspath(os.path.join(os.path.dirname(__file__), '../..'))
BUILD = os.environ.get('VMXD_BUILDDIR') or os.path.join(SRC, 'build')
GUEST = os.environ.get('VMXD_GUEST_DIR') or os.path.join(BUILD, 'guest')
KERNEL = os.path.join(GUEST, 'vmlinuz-cloud')
INIT = 'vmxd-guest: init'


def say(*words):
    print(*words, flush=True)


def make_initramfs(name, *options):
    """Packs one with tests/guest/initramfs; its path."""
    path = os.path.join(GUEST, name)
    subprocess.run([os.path.join(SRC, 'tests/guest/initramfs'), path, *options], check=True)
    return path


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

    def run_command(self, initrd, cmdline, memory='1G', cpus=1, more=(), kernel=KERNEL):
        return self.ctl('run', 'bench', '--rm', '--engine', 'soft', '--memory', memory, '--cpus', str(cpus),
                        '--kernel', kernel, '--initrd', initrd, '--cmdline', cmdline, *more)


def qemu_command(initrd, cmdline, memory='1G', cpus=1, more=(), machine='q35', kernel=KERNEL):
    return ['qemu-system-x86_64', '-M', machine, '-accel', 'tcg', '-cpu', 'max', '-m', memory, '-smp', str(cpus),
            '-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio', '-kernel', kernel,
            '-initrd', initrd, '-append', cmdline, *more]


def run_guest(command, env, until=None, limit=600, stop=False):
    """Runs a guest to its end, or with `stop` to the line that contains `until`; its console and the seconds
    until that line."""
    start = time.monotonic()
    seen, lines = None, []
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=env, text=True, errors='replace')
    try:
        for line in p.stdout:
            lines.append(line.rstrip())
            if until and seen is None and until in line:
                seen = time.monotonic() - start
                if stop:
                    p.terminate()
            if time.monotonic() - start > limit:
                raise RuntimeError('guest takes too long: ' + ' '.join(command[:3]))
        p.wait(timeout=30)
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
    if p.returncode and not (stop and seen):
        raise RuntimeError('%s: exit %d\n%s\n%s' % (' '.join(command[:3]), p.returncode, '\n'.join(lines[-15:]),
                                                    p.stderr.read()))
    return lines, seen


def spread(values, unit, scale=1):
    return '%.2f %s (%.2f to %.2f, %d runs)' % (statistics.median(values) * scale, unit, min(values) * scale,
                                                max(values) * scale, len(values))


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
