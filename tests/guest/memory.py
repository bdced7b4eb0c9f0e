#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel with its drivers for memory that is a device: virtio-mem and virtio-pmem."""
import hashlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from devices import Guest, check, refused, resident, stats, until
from disks import KERNEL, PATIENCE, run_cases

MIB = 1 << 20


def total(guest):
    """The memory that the guest says it has."""
    return int(guest.run('grep MemTotal /proc/meminfo').split()[1]) * 1024


def grows(vmxd):
    """Memory is plugged in while the guest runs, used, given back, and used again; then a reset."""
    def plugged():
        return stats(vmxd, 'grows')['mem_plugged_bytes']

    def resize(size):
        vmxd.rpc.call('vm.mem_resize', name='grows', size=size)

    guest = Guest(vmxd, 'grows', 'ttyS0', append='memhp_default_state=online_movable',
                  mem={'size': '512M', 'requested': '128M'})
    until('what was asked for at the start', lambda: plugged() == 128 * MIB)
    small = total(guest)
    check('%d MiB at first' % (small / MIB), small > 300 * MIB)
    refused(vmxd, 'more than', 'vm.mem_resize', name='grows', size='513G')
    refused(vmxd, 'whole number', 'vm.mem_resize', name='grows', size='1M')
    resize('512M')
    until('all of it', lambda: plugged() == 512 * MIB)
    check('it does not count', total(guest) - small == 384 * MIB)
    before = resident(vmxd, 'grows', 'guest-memory')
    # More than fits without it; the console's and other devices' buffers may well be there by now.
    text = b'memory that comes and goes\n' * 38837
    guest.run('mkdir /mnt; mount -t tmpfs -o size=90% none /mnt; yes memory that comes and goes | head -n 38837 >/tmp/m')
    guest.run('for i in $(seq 250); do cat /tmp/m; done >/mnt/x')
    check('memory is not used', resident(vmxd, 'grows', 'guest-memory') > before + 150 * MIB)
    sums = guest.run('md5sum </mnt/x', 180)
    check('what was written is spoilt: ' + sums, hashlib.md5(text * 250).hexdigest() in sums)
    guest.run('umount /mnt')
    resize('0')
    until('it has given all back', lambda: plugged() == 0, 120)
    check('the host has not got it back: %d' % resident(vmxd, 'grows', 'guest-memory'),
          resident(vmxd, 'grows', 'guest-memory') == 0)
    check('it still counts', total(guest) < small - 100 * MIB)
    resize('256M')
    until('some again', lambda: plugged() == 256 * MIB)
    vmxd.rpc.call('vm.pause', name='grows')
    resize('384M')
    time.sleep(0.5)
    check('a paused guest took memory', plugged() == 256 * MIB)
    vmxd.rpc.call('vm.resume', name='grows')
    until('more after the pause', lambda: plugged() == 384 * MIB)
    guest.console.send('reboot -f\n')
    guest.console.wait(r'(?s)vmxd-guest: init.*/ # ', 60)
    until('all again after a reset', lambda: plugged() == 384 * MIB)
    guest.close()


def persistent(vmxd):
    """A file system with DAX on a file: what was synced is there after kill -9, and one VM has it at a time."""
    image = vmxd.dir + '/pmem.img'
    with open(image, 'w') as f:
        f.truncate(64 * MIB)
    subprocess.run(['mkfs.ext4', '-q', '-b', '4096', image], check=True)
    config = {'pmem': [{'path': image}]}
    guest = Guest(vmxd, 'first', 'ttyS0', **config)
    check('it is sparse still', os.stat(image).st_blocks * 512 >= 64 * MIB)
    refused(vmxd, 'already', 'vm.create', name='bad', kernel=KERNEL, pmem=config['pmem'] * 2)
    vmxd.rpc.call('vm.create', name='second', kernel=KERNEL, **config)
    refused(vmxd, 'in use', 'vm.start', name='second')
    mounted = guest.run('mkdir /mnt; mount -t ext4 -o dax /dev/pmem0 /mnt; grep pmem0 /proc/mounts')
    check('no DAX: ' + mounted, 'dax=always' in mounted)
    sums = guest.run('dd if=/dev/urandom of=/mnt/kept bs=64k count=256 2>/dev/null; sync; sha256sum /mnt/kept; '
                     'echo later >/mnt/later')
    os.kill(vmxd.rpc.call('vm.info', name='first')['pid'], signal.SIGKILL)
    vmxd.rpc.call('vm.wait', name='first', timeout_s=PATIENCE)
    fsck = subprocess.run(['e2fsck', '-fp', image], capture_output=True, text=True)
    check('fsck: ' + fsck.stdout, fsck.returncode in (0, 1))
    kept = subprocess.run(['debugfs', '-R', 'cat /kept', image], capture_output=True, check=True).stdout
    check('what was synced is lost', hashlib.sha256(kept).hexdigest() in sums and len(kept) == 16 * MIB)


def shrinks(vmxd):
    """The file gets shorter under a guest that uses it: it pauses and says why, goes on, and is whole again after
    a reset with a whole file."""
    image = vmxd.dir + '/shrinks.img'
    with open(image, 'w') as f:
        f.truncate(8 * MIB)
    guest = Guest(vmxd, 'shrinks', 'ttyS0', pmem=[{'path': image}])
    flush = ("dd if=/dev/zero bs=4k count=1 seek=%d conv=fsync of=/dev/pmem0 2>/tmp/why; "
             "grep -c 'error' /tmp/why")
    check('a flush fails', guest.run(flush % 1500).strip() == '0')
    os.truncate(image, 4 * MIB)
    guest.console.send('dd if=/dev/pmem0 of=/tmp/x bs=4k; md5sum /tmp/x; (dd if=/dev/zero bs=8M count=1 | md5sum) 2>&1\n')

    def info():
        return vmxd.rpc.call('vm.info', name='shrinks')

    until('a pause', lambda: info()['state'] == 'paused')
    check('it says: %s' % info(), info()['reason'] == 'file-lost' and 'pmem[0]' in info()['detail'] and '4194304' in info()['detail'])
    vmxd.rpc.call('vm.resume', name='shrinks')
    check('a flush does not fail', guest.run(flush % 10).strip() == '1')
    check('it is not there', guest.run('wc -c </tmp/x').strip() == str(8 * MIB))
    os.truncate(image, 8 * MIB)
    vmxd.rpc.call('vm.reset', name='shrinks')
    guest.console.wait(r'(?s)vmxd-guest: init.*/ # ', 60)
    check('a flush fails after the reset', guest.run(flush % 1500).strip() == '0')
    guest.run("echo new | dd of=/dev/pmem0 bs=4 seek=1 conv=fsync")
    with open(image, 'rb') as f:
        check('what is flushed is not in the file', f.read(8)[4:] == b'new\n')
    guest.close()


CASES = [('grows', grows), ('persistent', persistent), ('shrinks', shrinks)]

if __name__ == '__main__':
    sys.exit(run_cases(CASES, programs=('mkfs.ext4', 'e2fsck', 'debugfs')))
