#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel with its drivers for memory that is a device: virtio-mem and virtio-pmem."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from devices import Guest, check, main, resident, stats, until
from disks import Failure

MIB = 1 << 20


def total(guest):
    """The memory that the guest says it has."""
    return int(guest.run('grep MemTotal /proc/meminfo').split()[1]) * 1024


def refused(vmxd, why, method, **params):
    try:
        vmxd.rpc.call(method, **params)
    except Failure as e:
        check('%s: %s' % (params, e), why in str(e))
    else:
        raise Failure('%s was taken' % params)


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
    guest.run('mkdir /mnt; mount -t tmpfs -o size=90% none /mnt; dd if=/dev/urandom of=/tmp/m bs=1M count=1 2>/dev/null')
    many = 'for i in $(seq 330); do cat /tmp/m; done'
    guest.run(many + ' >/mnt/x')
    check('memory is not used', resident(vmxd, 'grows', 'guest-memory') > before + 200 * MIB)
    sums = guest.run('md5sum </mnt/x; (%s) | md5sum' % many).split()
    check('what was written is spoilt: %s' % sums, len(sums) == 4 and sums[0] == sums[2])
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


CASES = [grows]

if __name__ == '__main__':
    sys.exit(main(CASES))
