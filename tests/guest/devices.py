#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel with its drivers for the small virtio devices, through the daemon: consoles and ports."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from disks import GUEST, INITRD, KERNEL, Console, Failure, Vmxd


def check(what, good):
    if not good:
        raise Failure(what)


class Guest:
    """A shell in a guest, at the console."""

    def __init__(self, vmxd, name, device, append='', **config):
        self.vmxd, self.name = vmxd, name
        vmxd.rpc.call('vm.create', name=name, kernel=KERNEL, initrd=INITRD, memory='256M', engine='soft',
                      transient=True, **config,
                      cmdline='quiet console=%s %s vmxd.modules vmxd.run="exec sh </dev/%s >/dev/%s 2>&1"' %
                      (device, append, device, device))
        self.console = Console(vmxd.rpc.call('vm.start', name=name)['console_socket'])
        self.console.wait('/ # ')
        self.count = 0

    def run(self, commands, limit=60):
        """What the commands print."""
        self.count += 1
        # The echo of what is typed must not look like the answer.
        self.console.send('echo "[be""gin %d]"; %s; echo "[e""nd %d]"\n' % (self.count, commands, self.count))
        found = self.console.wait(r'(?s)\[begin %d\]\n(.*?)\[end %d\]' % (self.count, self.count), limit)
        return found.group(1)

    def close(self):
        self.console.send('exit\n')
        self.vmxd.rpc.call('vm.wait', name=self.name, timeout_s=60)


def expect(stream, wanted):
    got = b''
    while len(got) < len(wanted):
        data = stream.recv(65536)
        check('the stream ended after %r' % got, data)
        got += data
    check('%r instead of %r' % (got, wanted), got == wanted)


def dial(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(30)
    stream.connect(path)
    return stream


def terminal(vmxd):
    """The console alone, as hvc0, with its size."""
    guest = Guest(vmxd, 'terminal', 'hvc0', console='virtio')
    size = guest.run('stty size')
    check('the size is not 25 80 but ' + size, '25 80' in size)
    vmxd.rpc.call('vm.resize', name='terminal', columns=132, rows=43)
    check('the new size is not 43 132', '43 132' in guest.run('sleep 1; stty size'))
    text = guest.run('seq 1 20000')
    check('not all lines came', [int(n) for n in text.split()] == list(range(1, 20001)))
    guest.close()


def ports(vmxd):
    """Named streams at a socket and at a terminal, beside the console."""
    path, link = vmxd.dir + '/agent.sock', vmxd.dir + '/tty'
    guest = Guest(vmxd, 'ports', 'hvc0', console='virtio',
                  ports=[{'name': 'org.example.agent', 'socket': path}, {'name': 'line', 'pty': link}])
    names = guest.run('cat /sys/class/virtio-ports/*/name').split()
    check('names are %s' % names, sorted(names) == ['line', 'org.example.agent'])
    guest.run('grep -l org.example.agent /sys/class/virtio-ports/*/name | cut -d / -f 5 >/tmp/agent;'
              'grep -l line /sys/class/virtio-ports/*/name | cut -d / -f 5 >/tmp/line')
    vmxd.rpc.call('vm.resize', name='ports', columns=132, rows=43)
    size = guest.run('sleep 1; stty size')
    check('the size is not 43 132 but ' + size, '43 132' in size)
    # A port can be open once. It reads the end when the program on the host leaves.
    guest.run('(while :; do while read -r line; do echo "got $line"; done; sleep 1; done) '
              '<>/dev/$(cat /tmp/agent) >&0 & true')
    for turn in (1, 2):  # whoever comes later finds it as well
        stream = dial(path)
        stream.sendall(b'hello %d\n' % turn)
        expect(stream, b'got hello %d\n' % turn)
        other = dial(path)
        check('two at a time', other.recv(1) == b'')
        other.close()
        stream.close()
    with open(link, 'r+b', buffering=0) as tty:
        os.system('stty raw -echo <%s' % link)
        guest.run('echo to the host >/dev/$(cat /tmp/line)')
        check('the terminal says nothing', tty.read(64) == b'to the host\n')
    guest.close()
    check('sockets are left', not os.path.lexists(path) and not os.path.lexists(link))


def refusals(vmxd):
    """Bad places for sockets are refused when the VM is made, and nothing is touched."""
    there = vmxd.dir + '/file'
    with open(there, 'w') as f:
        f.write('precious')
    busy = socket.socket(socket.AF_UNIX)
    busy.bind(vmxd.dir + '/busy')
    busy.listen()
    for ports, why in (([{'name': 'a', 'socket': there}], 'is no socket'),
                       ([{'name': 'a', 'pty': there}], 'is no link'),
                       ([{'name': 'a', 'socket': vmxd.dir + '/busy'}], 'another program listens'),
                       ([{'name': 'a'}], 'either'),
                       ([{'name': 'a', 'socket': vmxd.dir + '/1', 'pty': vmxd.dir + '/2'}], 'either'),
                       ([{'name': 'a', 'socket': vmxd.dir + '/1'}] * 2, 'two are called'),
                       ([{'name': str(i), 'socket': vmxd.dir + '/1'} for i in range(9)], 'ports')):
        try:
            vmxd.rpc.call('vm.create', name='bad', kernel=KERNEL, ports=ports)
        except Failure as e:
            check('%s: %s' % (ports, e), why in str(e))
            continue
        raise Failure('%s was taken' % ports)
    with open(there) as f:
        check('the file was touched', f.read() == 'precious')


def stats(vmxd, name):
    return vmxd.rpc.call('vm.info', name=name, stats=True)['stats']


def until(what, condition, limit=60):
    end = time.monotonic() + limit
    while not condition():
        check('in vain waited for: ' + what, time.monotonic() < end)
        time.sleep(0.2)


def resident(vmxd, name, what='guest-ram'):
    """Guest memory that the host really has for it, in bytes."""
    with open('/proc/%d/smaps' % vmxd.rpc.call('vm.info', name=name)['pid']) as f:
        text = f.read().split(what, 1)[1]
    return int(text.split('Rss:', 1)[1].split()[0]) * 1024


def balloon(vmxd):
    """Memory goes and comes, programs run from it before and after; free memory goes by itself."""
    mib = 1 << 20
    guest = Guest(vmxd, 'balloon', 'ttyS0', balloon=True)
    until('statistics', lambda: stats(vmxd, 'balloon').get('guest_total_bytes', 0) > 100 * mib)
    guest.run('dd if=/dev/urandom of=/tmp/kept bs=1M count=8 2>/dev/null; sha256sum /tmp/kept >/tmp/sum')
    guest.run('dd if=/dev/zero of=/tmp/fill bs=1M count=100 2>/dev/null')
    full = resident(vmxd, 'balloon')
    check('only %d MiB are there' % (full / mib), full > 110 * mib)
    guest.run('rm /tmp/fill')
    # Linux reports what is free after a while, in blocks of some MiB.
    until('free memory returned', lambda: resident(vmxd, 'balloon') < full - 60 * mib)
    vmxd.rpc.call('vm.balloon', name='balloon', memory='96M')
    until('the balloon is full', lambda: stats(vmxd, 'balloon')['balloon_actual_bytes'] == 160 * mib)
    check('too much is there', resident(vmxd, 'balloon') < 100 * mib)
    until('statistics that know it', lambda: stats(vmxd, 'balloon')['guest_free_bytes'] < 90 * mib)
    check('what was kept is spoilt', 'OK' in guest.run('sha256sum -c /tmp/sum'))
    vmxd.rpc.call('vm.balloon', name='balloon', memory='256M')
    until('the balloon is empty', lambda: stats(vmxd, 'balloon')['balloon_actual_bytes'] == 0)
    guest.run('dd if=/dev/zero of=/tmp/fill bs=1M count=90 2>/dev/null')
    check('memory that came back is bad', '94371840' in guest.run('cmp -n 94371840 /tmp/fill /dev/zero '
                                                                   '&& stat -c %s /tmp/fill'))
    check('what was kept is spoilt', 'OK' in guest.run('sha256sum -c /tmp/sum'))
    try:
        vmxd.rpc.call('vm.balloon', name='balloon', memory='257M')
    except Failure as e:
        check(str(e), 'more than' in str(e))
    else:
        raise Failure('more memory than there is was promised')
    guest.close()


CASES = [terminal, ports, refusals, balloon]


def main(cases):
    for path in (KERNEL, INITRD):
        if not os.path.exists(path):
            print('skip: %s is not there: ./bootstrap build fetches it' % path)
            print('0 passed, 0 failed, 1 skipped')
            return 77
    passed = failed = 0
    vmxd = Vmxd()
    try:
        for case in cases:
            if len(sys.argv) > 1 and case.__name__ not in sys.argv[1:]:
                continue
            try:
                case(vmxd)
                passed += 1
                print('ok   %s' % case.__name__, flush=True)
            except Exception as e:
                failed += 1
                print('FAIL %s: %s: %s' % (case.__name__, type(e).__name__, e), flush=True)
    finally:
        vmxd.close()
    print('%d passed, %d failed, 0 skipped' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(CASES))
