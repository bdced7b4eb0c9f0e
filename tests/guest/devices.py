#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel with its drivers for the small virtio devices, through the daemon: consoles and ports."""
import os
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from disks import BUILD, GUEST, INITRD, KERNEL, PATIENCE, Console, Failure, run_cases


def check(what, good):
    if not good:
        raise Failure(what)


class Guest:
    """A shell in a guest, at the console."""

    def __init__(self, vmxd, name, device, append='', kernel=KERNEL, initrd=INITRD, **config):
        self.vmxd, self.name = vmxd, name
        vmxd.rpc.call('vm.create', name=name, kernel=kernel, initrd=initrd, memory='256M', engine='soft',
                      transient=True, **config,
                      cmdline='quiet console=%s %s vmxd.modules vmxd.run="exec sh </dev/%s >/dev/%s 2>&1"' %
                      (device, append, device, device))
        self.console = Console(vmxd.rpc.call('vm.start', name=name)['console_socket'])
        self.console.wait('/ # ')
        self.count = 0

    def run(self, commands, limit=PATIENCE):
        """What the commands print."""
        self.count += 1
        # The echo of what is typed must not look like the answer.
        self.console.send('echo "[be""gin %d]"; %s; echo "[e""nd %d]"\n' % (self.count, commands, self.count))
        found = self.console.wait(r'(?s)\[begin %d\]\n(.*?)\[end %d\]' % (self.count, self.count), limit)
        return found.group(1)

    def resize(self, columns, rows):
        self.vmxd.rpc.call('vm.resize', name=self.name, columns=columns, rows=rows)
        self.run('until [ "$(stty size)" = "%d %d" ]; do usleep 100000; done' % (rows, columns))

    def close(self):
        self.console.send('exit\n')
        self.vmxd.rpc.call('vm.wait', name=self.name, timeout_s=PATIENCE)


def expect(stream, wanted):
    got = b''
    while len(got) < len(wanted):
        data = stream.recv(65536)
        check('the stream ended after %r' % got, data)
        got += data
    check('%r instead of %r' % (got, wanted), got == wanted)


def dial(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(PATIENCE)
    stream.connect(path)
    return stream


def terminal(vmxd):
    """The console alone, as hvc0, with its size."""
    guest = Guest(vmxd, 'terminal', 'hvc0', console='virtio')
    size = guest.run('stty size')
    check('the size is not 25 80 but ' + size, '25 80' in size)
    guest.resize(132, 43)
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
    guest.resize(132, 43)
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


def refused(vmxd, why, method, **params):
    try:
        vmxd.rpc.call(method, **params)
    except Failure as e:
        check('%s: %s' % (params, e), why in str(e))
    else:
        raise Failure('%s was taken' % params)


def stats(vmxd, name):
    return vmxd.rpc.call('vm.info', name=name, stats=True)['stats']


def until(what, condition, limit=PATIENCE):
    end = time.monotonic() + limit
    while not condition():
        check('in vain waited for: ' + what, time.monotonic() < end)
        time.sleep(0.2)


def resident(vmxd, name, what='guest-ram'):
    """Guest memory that the host really has for it, in bytes. Of its mappings the largest one has all: single
    pages are mapped a second time elsewhere (vmx-driver/soft/alias.h)."""
    with open('/proc/%d/smaps' % vmxd.rpc.call('vm.info', name=name)['pid']) as f:
        parts = f.read().split(what)[1:]
    mappings = [[int(part.split(field, 1)[1].split()[0]) for field in ('Size:', 'Rss:')] for part in parts]
    return max(mappings)[1] * 1024


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
    # More than is there with the balloon full: rather than that anything dies, memory comes out of it.
    guest.run('rm /tmp/fill')
    vmxd.rpc.call('vm.balloon', name='balloon', memory='96M')
    until('the balloon is full again', lambda: stats(vmxd, 'balloon')['balloon_actual_bytes'] == 160 * mib)
    said = guest.run('dd if=/dev/zero of=/dev/null bs=120M count=1 2>&1; dmesg | grep -c "Out of memory"', 120)
    check('no memory came out of the balloon: ' + said, '1+0 records out' in said and said.split()[-1] == '0' and
          stats(vmxd, 'balloon')['balloon_actual_bytes'] < 140 * mib)
    refused(vmxd, 'more than', 'vm.balloon', name='balloon', memory='257M')
    guest.close()


def whole(stream, limit=64 << 20):
    """Everything up to the end of the file."""
    got = b''
    while len(got) < limit and (data := stream.recv(65536)):
        got += data
    return got


def vsock_dial(path, port):
    stream = dial(path)
    stream.sendall(b'CONNECT %d\n' % port)
    line = b''
    while not line.endswith(b'\n'):
        byte = stream.recv(1)
        if not byte:
            return None
        line += byte
    check('%r is no OK' % line, line.startswith(b'OK '))
    return stream


def exchange(stream, data):
    """Sends all, says that it was all, and returns what comes back."""
    def send():
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    got = whole(stream)
    sender.join()
    stream.close()
    return got


def echo_back(listener, count):
    """A server on the host: gives back what each of its clients sends."""
    for _ in range(count):
        stream = listener.accept()[0]
        stream.sendall(whole(stream))
        stream.close()


def vsock(vmxd):
    """AF_VSOCK streams of Linux's own driver, both ways: much data, many at once, refusals, a pause."""
    path, initrd = vmxd.dir + '/vsock.sock', vmxd.dir + '/vsock.cpio'
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([here + '/initramfs', initrd, '--modules', GUEST + '/modules-cloud',
                    '--add', BUILD + '/tests/guest/vsock-tool=bin/vsock-tool'], check=True)
    guest = Guest(vmxd, 'vsock', 'ttyS0', initrd=initrd, vsock={'path': path, 'cid': 1234})
    check('the guest does not know its address', '1234' in guest.run('vsock-tool cid'))
    guest.run('vsock-tool echo 1024 & true')
    until('an echo', lambda: (one := vsock_dial(path, 1024)) and exchange(one, b'hello') == b'hello')
    data = os.urandom(3 << 20)
    check('3 MiB came back otherwise', exchange(vsock_dial(path, 1024), data) == data)
    streams = [vsock_dial(path, 1024) for _ in range(40)]
    for n, stream in enumerate(streams):
        check('stream %d says other things' % n, exchange(stream, b'%d ' % n * 1000) == b'%d ' % n * 1000)
    check('nobody listens there, and it was accepted', vsock_dial(path, 1025) is None)
    stream = vsock_dial(path, 1024)
    stream.sendall(b'before')
    expect(stream, b'before')
    vmxd.rpc.call('vm.pause', name='vsock')
    stream.sendall(b'meanwhile')
    vmxd.rpc.call('vm.resume', name='vsock')
    expect(stream, b'meanwhile')
    stream.close()
    # From the guest: a program of the host listens at PATH_PORT.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + '_5000')
        listener.listen()
        server = threading.Thread(target=echo_back, args=(listener, 2))
        server.start()
        said = guest.run('head -c 2000000 /dev/urandom >/tmp/f; md5sum </tmp/f;'
                         'vsock-tool call 5000 </tmp/f | md5sum; echo short | vsock-tool call 5000')
        server.join()
    sums = [line.split()[0] for line in said.splitlines()]
    check('it came back otherwise: ' + said, len(sums) == 3 and sums[0] == sums[1] and sums[2] == 'short')
    check('a port without a program', 'reset' in guest.run('vsock-tool call 5001 </dev/null 2>&1'))
    held = vsock_dial(path, 1024)
    guest.close()
    check('a stream outlives its guest', held.recv(1) == b'')
    check('the socket is left', not os.path.lexists(path))


CASES = [terminal, ports, refusals, balloon, vsock]


if __name__ == '__main__':
    sys.exit(run_cases([(case.__name__, case) for case in CASES]))
