#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One image has one writer: vmxd and QEMU's tools, each before the other; files and block devices."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + '/../guest')
from devices import Guest, check, refused
from disks import KERNEL, Skip, run_cases

MIB = 1 << 20


def qemu(*command):
    """What qemu-io or qemu-img says, if it is refused for a lock; else ''."""
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    check('%s: %s' % (command, said), done.returncode == 0 or 'lock' in said)
    return said if done.returncode else ''


def write(image):
    return qemu('qemu-io', '-f', 'raw', '-c', 'write -q 0 512', image)


def read(image, copy):
    """All of it, so that nobody may write meanwhile."""
    return qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', image, copy)


class Holder:
    """qemu-io that has the image open until its input ends."""

    def __init__(self, image, *options):
        self.process = subprocess.Popen(['qemu-io', '-f', 'raw', *options, image], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.process.stdin.write('length\n')
        self.process.stdin.flush()
        while 'MiB' not in self.process.stdout.readline():
            check('qemu-io ended', self.process.poll() is None)

    def close(self):
        self.process.communicate()


def make(vmxd, name, image, readonly=False):
    vmxd.rpc.call('vm.create', name=name, kernel=KERNEL, memory='128M', engine='soft',
                  disks=[{'path': image, 'readonly': readonly}])


def locks(vmxd, image):
    copy = vmxd.dir + '/copy'
    for name, readonly in (('writer', False), ('reader', True), ('reader2', True)):
        make(vmxd, name, image, readonly)
    check('nobody has it', write(image) == '' and read(image, copy) == '')
    vmxd.rpc.call('vm.start', name='writer')
    check('two write', 'write' in write(image))
    check('it is read while it is written', 'lock' in read(image, copy))
    check('who does not mind is refused', qemu('qemu-io', '-r', '-f', 'raw', '-c', 'read -q 0 512', image) == '')
    refused(vmxd, 'in use', 'vm.start', name='reader')
    vmxd.rpc.call('vm.kill', name='writer')
    check('the end does not end it', write(image) == '')

    vmxd.rpc.call('vm.start', name='reader')
    vmxd.rpc.call('vm.start', name='reader2')
    check('it is written while it is read', 'lock' in write(image))
    check('more than one cannot read: ' + read(image, copy), read(image, copy) == '')
    refused(vmxd, 'in use', 'vm.start', name='writer')
    for name in ('reader', 'reader2'):
        vmxd.rpc.call('vm.kill', name=name)

    holder = Holder(image)
    refused(vmxd, 'in use', 'vm.start', name='writer')
    refused(vmxd, 'in use', 'vm.start', name='reader')
    holder.close()
    holder = Holder(image, '-r')
    vmxd.rpc.call('vm.start', name='reader')
    vmxd.rpc.call('vm.kill', name='reader')
    holder.close()
    vmxd.rpc.call('vm.start', name='writer')
    vmxd.rpc.call('vm.kill', name='writer')
    for name in ('writer', 'reader', 'reader2'):
        vmxd.rpc.call('vm.delete', name=name)


def new_image(vmxd, name, size):
    path = vmxd.dir + '/' + name
    with open(path, 'w') as f:
        f.truncate(size)
    return path


def files(vmxd):
    locks(vmxd, new_image(vmxd, 'image', 4 * MIB))


def loop_device(path):
    done = subprocess.run(['losetup', '-f', '--show', path], capture_output=True, text=True)
    if done.returncode:
        raise Skip('no loop device here: ' + done.stderr.strip())
    return done.stdout.strip()


def block_device(vmxd):
    """Its locks, its size, and what a guest writes to it and discards of it."""
    path = new_image(vmxd, 'backing', 16 * MIB)
    device = loop_device(path)
    try:
        locks(vmxd, device)
        guest = Guest(vmxd, 'block', 'ttyS0', disks=[{'path': device}])
        check('the size', guest.run('cat /sys/block/vda/size').strip() == str(16 * MIB // 512))
        guest.run('yes block | head -c 1048576 >/tmp/m; for i in $(seq 16); do cat /tmp/m; done | '
                  'dd of=/dev/vda bs=1M count=16 iflag=fullblock conv=fsync 2>/dev/null')
        check('nothing was written', os.stat(path).st_blocks * 512 >= 16 * MIB)
        done = guest.run('blkdiscard -o 4194304 -l 8388608 /dev/vda && echo discar""ded')
        check('no discard: ' + done, 'discarded' in done)
        # A loop device makes a hole in its file.
        check('nothing was discarded', os.stat(path).st_blocks * 512 <= 9 * MIB)
        guest.close()
        with open(path, 'rb') as f:
            data = f.read()
        text = (b'block\n' * MIB)[:MIB]
        check('the wrong part went', data == text * 4 + bytes(8 * MIB) + text * 4)
    finally:
        subprocess.run(['losetup', '-d', device], check=True)


CASES = [('files', files), ('block device', block_device)]

if __name__ == '__main__':
    sys.exit(run_cases(CASES, programs=('qemu-img', 'qemu-io', 'losetup')))
