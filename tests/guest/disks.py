#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A stock Debian on a virtio disk: to a login on the console, packages, power-off; and machines that are
killed at any moment, after which nothing that was synced may be missing and the file system is whole."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ['VMXD_BUILDDIR']
GUEST = os.environ['VMXD_GUEST_DIR']
KERNEL = GUEST + '/vmlinuz-cloud'
INITRD = GUEST + '/initramfs-cloud.cpio'
ROOTFS = GUEST + '/rootfs.img'
os.environ['PATH'] += ':/sbin:/usr/sbin'


class Failure(Exception):
    pass


class Rpc:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.file = self.socket.makefile('rw')

    def call(self, method, **params):
        self.file.write(json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': method, 'params': params}) + '\n')
        self.file.flush()
        answer = json.loads(self.file.readline())
        if 'error' in answer:
            raise Failure('%s: %s' % (method, answer['error']['message']))
        return answer['result']


class Console:
    """Everything that is said, and what was said since the last wait."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.text, self.seen = '', 0
        self.changed = threading.Condition()
        self.over = False
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while data := self.socket.recv(65536):
            with self.changed:
                self.text += data.decode(errors='replace').replace('\r', '')
                self.changed.notify()
        with self.changed:
            self.over = True
            self.changed.notify()

    def send(self, text):
        self.socket.sendall(text.encode())

    def wait(self, pattern, limit=90):
        end = time.monotonic() + limit
        with self.changed:
            while True:
                found = re.compile(pattern).search(self.text, self.seen)
                if found:
                    self.seen = found.end()
                    return found
                if self.over or not self.changed.wait(end - time.monotonic()):
                    raise Failure('the console never said /%s/; its end:\n%s' % (pattern, self.text[-1500:]))


class Vmxd:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='vmxd-disks.', dir=BUILD)
        self.log = open(self.dir + '/log', 'w')
        self.process = subprocess.Popen(
            [BUILD + '/vmxd', '--socket', self.dir + '/s', '--runtime-dir', self.dir + '/run', '--state-dir',
             self.dir + '/state'], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for _ in range(100):
            if os.path.exists(self.dir + '/s'):
                break
            time.sleep(0.05)
        self.rpc = Rpc(self.dir + '/s')

    def close(self):
        for vm in self.rpc.call('vm.list')['vms']:
            if vm['pid']:
                self.rpc.call('vm.kill', name=vm['name'])
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir)

    def start(self, name, disk, cmdline, **config):
        """Makes the VM if there is none, starts it; its console."""
        if name not in [vm['name'] for vm in self.rpc.call('vm.list')['vms']]:
            self.rpc.call('vm.create', name=name, kernel=KERNEL, initrd=INITRD, memory='384M', engine='soft',
                          cmdline='console=ttyS0 vmxd.modules ' + cmdline, disks=[disk], **config)
        return Console(self.rpc.call('vm.start', name=name)['console_socket'])


def command(*words, ok=(0,)):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors='replace')
    if done.returncode not in ok:
        raise Failure('%s: exit %d\n%s' % (' '.join(words), done.returncode, done.stdout[-2000:]))
    return done.stdout


def raw_copy(disk, path):
    """The disk's content as a raw image."""
    if disk.get('format', 'raw') == 'raw':
        command('cp', '--sparse=always', disk['path'], path)
        return
    checked = subprocess.run(['qemu-img', 'check', '--output=json', disk['path']], stdout=subprocess.PIPE)
    report = json.loads(checked.stdout)
    if checked.returncode not in (0, 3) or report.get('corruptions') or report.get('check-errors'):
        raise Failure('qemu-img check: ' + checked.stdout.decode())
    command('qemu-img', 'convert', '-O', 'raw', disk['path'], path)


def file_of(image, path, scratch):
    if os.path.exists(scratch):
        os.unlink(scratch)
    command('debugfs', '-R', 'dump %s %s' % (path, scratch), image)
    with open(scratch, 'rb') as f:
        return f.read()


def login(vmxd, disk):
    console = vmxd.start('debian', disk, 'quiet vmxd.root=/dev/vda')
    console.wait(r'vmxd-guest login: ')
    console.send('root\n')
    console.wait(r'root@vmxd-guest:~# ')
    # What apt does: unpacks, syncs file by file, renames.
    console.send('mkdir -p p/DEBIAN p/opt && cp -a /usr/lib/systemd p/opt && printf "Package: load\\nVersion: 1\\n'
                 'Architecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n" >p/DEBIAN/control && '
                 'dpkg-deb -Znone -b p load.deb && dpkg -i load.deb && echo in""stalled\n')
    console.wait(r'\ninstalled')
    console.send('systemctl poweroff\n')
    vmxd.rpc.call('vm.wait', name='debian', timeout_s=60)
    info = vmxd.rpc.call('vm.info', name='debian')
    if info['reason'] != 'guest-poweroff':
        raise Failure('ended by %s' % info['reason'])
    image = vmxd.dir + '/raw'
    raw_copy(disk, image)
    command('e2fsck', '-f', '-n', image)
    if b'Package: load\nStatus: install ok installed' not in file_of(image, '/var/lib/dpkg/status',
                                                                     vmxd.dir + '/scratch'):
        raise Failure('the package is not there')


WRITER = ('mkdir -p /r; mount -t ext4 /dev/vda /r; mkdir -p /r/kept; '
          'while :; do rm -rf /r/noise; cp -a /r/usr/lib/systemd /r/noise; done & '
          'n=$(ls /r/kept | wc -l); while :; do n=$((n+1)); '
          'dd if=/dev/urandom of=/r/kept/$n bs=50k count=1 conv=fsync 2>/dev/null; sync; '
          'echo kept $n $(sha256sum /r/kept/$n); done')


def kill(vmxd, name, when):
    """SIGKILL to the machine; returns when the daemon has seen its end."""
    time.sleep(when)
    os.kill(vmxd.rpc.call('vm.info', name=name)['pid'], signal.SIGKILL)
    vmxd.rpc.call('vm.wait', name=name)


def killed(vmxd, disk, rounds):
    rng = random.Random(os.environ.get('VMXD_TEST_SEED', str(time.time())))
    kept = {}
    image = vmxd.dir + '/raw'
    for _ in range(rounds):
        console = vmxd.start('writer', disk, 'quiet vmxd.run="%s"' % WRITER)
        console.wait(r'kept \d+ [0-9a-f]{64}')
        kill(vmxd, 'writer', rng.uniform(0, 2))
        for number, digest in re.findall(r'kept (\d+) ([0-9a-f]{64}) ', console.text):
            kept[number] = digest
        raw_copy(disk, image)
        command('e2fsck', '-E', 'journal_only', '-y', image, ok=(0, 1))
        command('e2fsck', '-f', '-n', image)
        for number in list(kept)[-40:]:
            data = file_of(image, '/kept/' + number, vmxd.dir + '/scratch')
            if hashlib.sha256(data).hexdigest() != kept[number]:
                raise Failure('file %s was synced and is not there as it was' % number)
    vmxd.rpc.call('vm.delete', name='writer')
    print('    %d files were synced in %d rounds, and all are there' % (len(kept), rounds))
    if len(kept) < 2 * rounds:
        raise Failure('too few')


def new_raw(vmxd):
    path = vmxd.dir + '/disk.raw'
    command('cp', '--sparse=always', ROOTFS, path)
    return {'path': path}


CASES = [
    ('Debian to the login, a package, power-off; raw', lambda v: login(v, new_raw(v))),
    ('killed; raw', lambda v: killed(v, new_raw(v), 4)),
]


def main():
    for path in KERNEL, INITRD, ROOTFS:
        if not os.path.exists(path):
            print('skip: %s is not there: ./bootstrap check fetches it' % path)
            print('0 passed, 0 failed, 1 skipped')
            return 77
    for program in 'e2fsck', 'debugfs', 'qemu-img':
        if not shutil.which(program):
            print('skip: %s is not installed' % program)
            print('0 passed, 0 failed, 1 skipped')
            return 77
    passed = failed = 0
    vmxd = Vmxd()
    try:
        for name, case in CASES:
            start = time.monotonic()
            try:
                if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                    continue
                case(vmxd)
                passed += 1
                print('ok: %s (%.0f s)' % (name, time.monotonic() - start), flush=True)
            except (Failure, OSError) as e:
                failed += 1
                print('FAIL: %s: %s' % (name, e), flush=True)
                with open(vmxd.dir + '/log') as log:
                    print(''.join(log.readlines()[-10:]))
    finally:
        vmxd.close()
    print('%d passed, %d failed, 0 skipped' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
