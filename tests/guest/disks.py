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
PATIENCE = 300  # seconds, for what surely comes: a host with too much to do boots a guest in minutes
os.environ['PATH'] += ':/sbin:/usr/sbin'


class Failure(Exception):
    pass


class Skip(Exception):
    pass


class Rpc:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE + 30)
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

    def wait(self, pattern, limit=PATIENCE):
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
    def __init__(self, *options):
        self.dir = tempfile.mkdtemp(prefix='vmxd-disks.', dir=BUILD)
        self.log = open(self.dir + '/log', 'w')
        self.process = subprocess.Popen(
            [BUILD + '/vmxd', '--socket', self.dir + '/s', '--runtime-dir', self.dir + '/run', '--state-dir',
             self.dir + '/state', *options], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for _ in range(600):
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
    vmxd.rpc.call('vm.wait', name='debian', timeout_s=PATIENCE)
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
    os.unlink(disk['path'])
    print('    %d files were synced in %d rounds, and all are there' % (len(kept), rounds))
    if len(kept) < 2 * rounds:
        raise Failure('too few')


def new_raw(vmxd):
    path = vmxd.dir + '/disk.raw'
    command('cp', '--sparse=always', ROOTFS, path)
    return {'path': path}


def new_qcow2(vmxd, **more):
    """On top of the root file system as it came, so that next to nothing is copied."""
    path = vmxd.dir + '/disk.qcow2'
    command('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', ROOTFS, '-F', 'raw', path)
    return dict(more, path=path, format='qcow2', backing=[{'path': ROOTFS}])


def start_script(vmxd, name, disks, script, **config):
    vmxd.rpc.call('vm.create', name=name, kernel=KERNEL, initrd=INITRD, memory='256M', engine='soft',
                  cmdline='console=ttyS0 quiet vmxd.modules vmxd.run="%s"' % script, disks=disks, **config)
    return Console(vmxd.rpc.call('vm.start', name=name)['console_socket'])


def finish(vmxd, name):
    vmxd.rpc.call('vm.wait', name=name, timeout_s=PATIENCE)
    info = vmxd.rpc.call('vm.info', name=name)
    if info['reason'] != 'guest-poweroff':
        raise Failure('%s ended by %s: %s' % (name, info['reason'], info['detail']))
    vmxd.rpc.call('vm.delete', name=name)


COPY = ('tr AB BC </dev/%s >/tmp/x; dd if=/tmp/x of=/dev/%s bs=4k conv=fsync 2>/dev/null; '
        'echo 3 >/proc/sys/vm/drop_caches; cmp /tmp/x /dev/%s && echo same; ls /sys/block/%s/mq | wc -l')


def ways(vmxd):
    """The same bytes through every way that a disk can go, and several queues."""
    disks, script = [], ''
    for i, options in enumerate([{}, {'io': 'threads'}, {'cache': 'none'}, {'cache': 'none', 'io': 'threads'},
                                 {'format': 'qcow2'}, {'format': 'qcow2', 'cache': 'none'}]):
        path = '%s/way%d' % (vmxd.dir, i)
        with open(path, 'wb') as f:
            f.write(b'A' * (3 << 20))
        if options.get('format') == 'qcow2':
            os.rename(path, path + '.raw')
            command('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', path + '.raw', path)
        disks.append(dict(options, path=path, queues=3))
        script += COPY.replace('%s', 'vd' + 'abcdef'[i]) + '; '
    console = start_script(vmxd, 'ways', disks, script + 'echo done', cpus=2)
    console.wait(r'\ndone')
    if console.text.count('same\n2\n') != len(disks):  # Linux wants no more queues than processors
        raise Failure('not all the same, or not two queues:\n' + console.text[-600:])
    finish(vmxd, 'ways')
    for disk in disks:
        raw_copy(disk, vmxd.dir + '/raw')
        with open(vmxd.dir + '/raw', 'rb') as f:
            if f.read() != b'B' * (3 << 20):
                raise Failure('what the guest wrote is not there: %s' % disk)


def limits(vmxd):
    paths = [vmxd.dir + '/limited%d' % i for i in range(2)]
    for path in paths:
        with open(path, 'wb') as f:
            f.truncate(64 << 20)
    console = start_script(vmxd, 'limits', [{'path': paths[0], 'bytes_per_second': '2M'},
                                            {'path': paths[1], 'readonly': True, 'ops_per_second': 50}],
                           'at() { read up idle </proc/uptime; echo at $up; }; '
                           'at; head -c 6291456 /dev/vda | wc -c; at; for i in $(seq 100); do '
                           'dd if=/dev/vdb of=/dev/null bs=4k count=1 skip=$((i*32)) iflag=direct 2>/dev/null; '
                           'done; at')
    # By the guest's clock: here a busy host may hear of the first late.
    start, middle, end = [float(console.wait(r'\nat ([0-9.]+)').group(1)) for _ in range(3)]
    finish(vmxd, 'limits')
    if middle - start < 2 or end - middle < 1.5:
        raise Failure('6 MiB took %.1f s at 2 MiB/s, 100 operations %.1f s at 50/s' % (middle - start, end - middle))


def resize(vmxd):
    raw, qcow2 = vmxd.dir + '/grow.raw', vmxd.dir + '/grow.qcow2'
    with open(raw, 'wb') as f:
        f.truncate(4 << 20)
    command('qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '4M')
    console = start_script(vmxd, 'resize', [{'path': raw}, {'path': qcow2, 'format': 'qcow2'}],
                           'echo ready; while [ $(cat /sys/block/vda/size) != 16384 ] || '
                           '[ $(cat /sys/block/vdb/size) != 24576 ]; do sleep 0.1; done; '
                           'echo end | dd of=/dev/vdb bs=1 seek=12582000 conv=fsync 2>/dev/null; '
                           'dd if=/dev/vdb bs=1 skip=12582000 count=3')
    console.wait(r'ready')
    for disk, size, said in ('disk0', '1M', 'smaller'), ('disk9', '8M', 'no such disk'), \
            ('disk0', 1000, '512'):
        try:
            vmxd.rpc.call('vm.disk_resize', name='resize', disk=disk, size=size)
        except Failure as e:
            if said not in str(e):
                raise
            continue
        raise Failure('%s to %s was done' % (disk, size))
    os.truncate(raw, 8 << 20)
    if vmxd.rpc.call('vm.disk_resize', name='resize', disk='disk0')['size'] != 8 << 20:
        raise Failure('not the size of the file')
    command(BUILD + '/vmctl', '--socket', vmxd.dir + '/s', 'disk', 'resize', 'resize', 'disk1', '12M')
    console.wait(r'end')
    finish(vmxd, 'resize')
    raw_copy({'path': qcow2, 'format': 'qcow2'}, vmxd.dir + '/raw')


def full(vmxd):
    """No room on the host: the VM pauses, says why, goes on where it was. A small tmpfs of our own. Without threads the
    vCPU and io_uring write."""
    folder = vmxd.dir + '/small'
    os.mkdir(folder)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=6M', 'small', folder],
                      stderr=subprocess.DEVNULL).returncode:
        raise Skip('no small file system can be mounted here')
    try:
        for i, options in enumerate([{}, {'format': 'qcow2'}, {'io': 'threads'}, {'format': 'qcow2', 'io': 'threads'}]):
            disk = dict(options, path='%s/disk%d' % (folder, i))
            command('qemu-img', 'create', '-q', '-f', options.get('format', 'raw'), disk['path'], '16M')
            full_once(vmxd, 'full%d' % i, disk, folder)
    finally:
        command('umount', '-l', folder)


def full_once(vmxd, name, disk, folder):
    with open(folder + '/ballast', 'wb') as f:
        f.write(b'x' * (3 << 20))
    console = start_script(vmxd, name, [disk], 'yes full | head -c 4194304 >/tmp/x; '
                           'dd if=/tmp/x of=/dev/vda bs=64k conv=fsync; echo 3 >/proc/sys/vm/drop_caches; '
                           'head -c 4194304 /dev/vda | cmp - /tmp/x && echo right')
    wait_state(vmxd, name, 'paused')
    info = vmxd.rpc.call('vm.info', name=name)
    if info['reason'] != 'disk-full' or 'make room' not in info['detail']:
        raise Failure('paused for %s: %s' % (info['reason'], info['detail']))
    try:  # still no room: it is paused again, and says so
        vmxd.rpc.call('vm.resume', name=name)
    except Failure as e:
        if 'paused again' not in str(e):
            raise
    wait_state(vmxd, name, 'paused')
    os.unlink(folder + '/ballast')
    vmxd.rpc.call('vm.resume', name=name)
    console.wait(r'right')
    finish(vmxd, name)
    os.unlink(disk['path'])


def wait_state(vmxd, name, state):
    for _ in range(600):
        info = vmxd.rpc.call('vm.info', name=name)
        if info['state'] == state:
            return
        time.sleep(0.1)
    raise Failure('%s is never %s, but %s' % (name, state, info['state']))


def refused(vmxd):
    """Images that must not be used, each with the reason."""
    other = vmxd.dir + '/other'
    command('qemu-img', 'create', '-q', '-f', 'qcow2', other, '1M')
    over = vmxd.dir + '/over'
    command('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', other, '-F', 'qcow2', over)
    with open(vmxd.dir + '/text', 'w') as f:
        f.write('x' * 4096)
    cut = vmxd.dir + '/cut'
    command('qemu-img', 'create', '-q', '-f', 'qcow2', cut, '1M')
    command('qemu-io', '-c', 'write -q 0 1M', cut)
    os.truncate(cut, os.path.getsize(cut) // 2)
    os.mkfifo(vmxd.dir + '/fifo')
    for disk, said in [
            ({'path': cut, 'format': 'qcow2'}, 'L2 entry, 0x'),
            ({'path': vmxd.dir + '/text', 'format': 'qcow2'}, 'not a qcow2 image'),
            ({'path': vmxd.dir + '/fifo'}, 'not a regular file or block device'),
            ({'path': '/dev/zero'}, 'not a regular file or block device'),
            ({'path': vmxd.dir}, 'disks[0].path: '),
            ({'path': over, 'format': 'qcow2'}, 'lies on top of a backing file'),
            ({'path': other, 'format': 'qcow2', 'backing': [{'path': vmxd.dir + '/text'}]}, 'has no backing file'),
            ({'path': over, 'format': 'qcow2', 'backing': [{'path': vmxd.dir + '/text', 'format': 'qcow2'}]},
             'backing[0]: qcow2: it is not'),
            ({'path': other, 'backing': [{'path': vmxd.dir + '/text'}]}, 'only a qcow2 image'),
            ({'path': over, 'format': 'qcow2', 'backing': [{'path': over, 'format': 'qcow2'}]}, 'is in use')]:
        try:
            start_script(vmxd, 'refused', [disk], 'true')
        except Failure as e:
            if said not in str(e):
                raise Failure('%s: said %s' % (disk, e))
        else:
            vmxd.rpc.call('vm.kill', name='refused')
            raise Failure('%s was taken' % disk)
        if 'refused' in [vm['name'] for vm in vmxd.rpc.call('vm.list')['vms']]:
            vmxd.rpc.call('vm.delete', name='refused')


CASES = [
    ('images that are refused', refused),
    ('every way', ways),
    ('limits', limits),
    ('resize', resize),
    ('no room on the host', full),
    ('Debian to the login, a package, power-off; qcow2', lambda v: login(v, new_qcow2(v))),
    ('killed; raw', lambda v: killed(v, new_raw(v), 2)),
    ('killed; qcow2', lambda v: killed(v, new_qcow2(v), 3)),
]


def absent(files, programs):
    """Why the cases cannot run, or None."""
    for path in files:
        if not os.path.exists(path):
            return '%s is not there: ./bootstrap check fetches it' % path
    for program in programs:
        if not shutil.which(program):
            return '%s is not installed' % program
    return None


def run_cases(cases, files=(KERNEL, INITRD), programs=(), options=()):
    """Runs (name, function of a daemon with these options) pairs, all or those that are named; the program's exit
    status."""
    why = absent(files, programs)
    if why:
        print('skip: ' + why)
        print('0 passed, 0 failed, 1 skipped')
        return 77
    passed = failed = skipped = 0
    vmxd = Vmxd(*options)
    try:
        for name, case in cases:
            start = time.monotonic()
            try:
                if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                    continue
                case(vmxd)
                passed += 1
                print('ok: %s (%.0f s)' % (name, time.monotonic() - start), flush=True)
            except Skip as e:
                skipped += 1
                print('skip: %s: %s' % (name, e), flush=True)
            except Exception as e:
                failed += 1
                print('FAIL: %s: %s: %s' % (name, type(e).__name__, e), flush=True)
                with open(vmxd.dir + '/log') as log:
                    print(''.join(log.readlines()[-10:]))
    finally:
        vmxd.close()
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(run_cases(CASES, (KERNEL, INITRD, ROOTFS), ('e2fsck', 'debugfs', 'qemu-img')))
