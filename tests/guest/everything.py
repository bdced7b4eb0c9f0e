#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All devices at once under Debian's kernel, over each transport, in the sandbox: each of them works, is taken
from its driver while it works and given back, tells a driver that breaks the rules, and works again. And every
method that the daemon has, on such a VM. In `make check` over PCI; VMXD_ALL_MODES=1 in the environment, or a
case's name, for the rest."""
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from devices import Guest, check, dial, exchange, expect, refused, stats, until, vsock_dial
from disks import BUILD, GUEST, PATIENCE, Failure, Rpc, command, raw_copy, run_cases

KERNEL = GUEST + '/vmlinuz-generic'  # the cloud kernel has no 9P
MODULES = [GUEST + '/modules-generic', GUEST + '/share-generic']
MIB = 1 << 20
PATTERN = bytes(range(256)) * 8192  # 2 MiB, at the start of each disk
PATTERN_SUM = hashlib.md5(PATTERN).hexdigest()

# What the guest is asked for, in its own words. A disk is known by its serial number or by its size.
SCRIPT = r'''
disk() { grep -lsx "$1" /sys/block/vd*/serial /sys/block/vd*/size | cut -d / -f 4; }
disk_round() { # SERIAL ROUND: reads, writes on behind the pattern, reads that
	d=$(disk $1)
	echo "$1 $(head -c 2097152 /dev/$d | md5sum)"
	yes $1 $2 | head -c 65536 >/tmp/w
	dd if=/tmp/w of=/dev/$d bs=4k seek=512 conv=fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/$d bs=4k skip=512 count=16 2>/dev/null | cmp - /tmp/w && echo "$1 same"
}
queues() { # SERIAL: interrupts of each queue after requests by each processor
	d=$(disk $1)
	v=$(readlink -f /sys/block/$d/device); v=${v##*/}
	for cpu in 1 2; do taskset $cpu dd if=/dev/$d of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null; done
	ls /sys/block/$d/mq | wc -l
	grep "$v-req" /proc/interrupts | while read -r line first second rest; do echo $((first + second)); done
}
network() { # PORT
	ip link set eth0 up
	ip addr add 10.0.2.15/24 dev eth0 2>/dev/null
	nc -w 20 10.0.2.2 $1 </dev/null
}
port() { # says back one line; without a program on the host there is an end of file
	p=/dev/$(grep -l agent /sys/class/virtio-ports/*/name | cut -d / -f 5)
	(exec 5<>$p; until read -r line <&5; do usleep 50000; done; echo "got $line" >&5; sleep 1) &
}
mounts() { # TYPE TAG OPTIONS
	mkdir -p /m; mount -t $1 -o $3 $2 /m || return
	cat /m/file; echo from $1 >/m/$1; umount /m
}
drivers() { # what has one, as 1 2 3 ...
	for i in /sys/bus/virtio/devices/*; do [ -e $i/driver ] && cat $i/device; done | sort | tr '\n' ' '
}
take_and_give() { # TIMES: each device from its driver, with disks that are read all the time
	for s in raw packed; do
		(while [ ! -e /tmp/enough ]; do dd if=/dev/$(disk $s) of=/dev/null bs=64k iflag=direct; done >/dev/null 2>&1) &
	done
	for n in $(seq $1); do
		for i in /sys/bus/virtio/devices/*; do
			n=${i##*/}; d=$(readlink -f $i/driver)
			[ $(cat $i/device) = "$2" ] && continue
			echo $n >$d/unbind; echo $n >$d/bind || echo "$n has none"
		done
	done
	touch /tmp/enough; wait; rm /tmp/enough
}
w() { devmem $((base + $1)) $2 $3; }
breaks_rules() { # SERIAL: a driver by hand, whose queue is where no memory is; then the real one again
	v=$(readlink -f /sys/block/$(disk $1)/device)
	parent=${v%/*}; n=${parent##*/}; d=$(readlink -f $parent/driver)
	if [ -e $parent/resource ]; then
		base=$(head -n 1 $parent/resource | cut -d ' ' -f 1)
	else
		base=0x$(grep -m 1 " $n" /proc/iomem | cut -d - -f 1 | tr -d ' ')
	fi
	echo $n >$d/unbind
	if [ -e $parent/resource ]; then
		set -- 0x14 8 0x8 0xc 0x16 16 0x20 0x1c 16
	else
		set -- 0x70 32 0x24 0x20 0x30 32 0x80 0x44 32
	fi
	w $1 $2 0; w $1 $2 3; w $3 32 1; w $4 32 1; w $1 $2 11
	echo status $(($(devmem $((base + $1)) $2)))
	w $5 $6 0; w $7 32 0xfffffff0; w $8 $9 1
	echo status $(($(devmem $((base + $1)) $2)))
	w $1 $2 15
	echo status $(($(devmem $((base + $1)) $2)))
	w $1 $2 0
	echo status $(($(devmem $((base + $1)) $2)))
	echo $n >$d/bind
}
'''


class CountingRpc(Rpc):
    """Knows what it was asked for."""

    def __init__(self, path):
        super().__init__(path)
        self.called = set()

    def call(self, method, **params):
        result = super().call(method, **params)
        self.called.add(method)
        return result


class Parts:
    """What stands behind the devices on the host; peers are left out where they are not installed."""

    def __init__(self, vmxd, initrd):
        self.vmxd, self.initrd, self.peers = vmxd, initrd, []
        self.dir = vmxd.dir + '/parts'
        os.makedirs(self.dir + '/share')
        with open(self.dir + '/share/file', 'w') as f:
            f.write('from the host\n')
        self.raw = self.image('raw', 4 * MIB)
        command('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', self.raw, self.dir + '/packed')
        self.packed = {'path': self.dir + '/packed', 'format': 'qcow2', 'serial': 'packed', 'queues': 2}
        self.pmem = self.image('pmem', 8 * MIB)
        self.virtiofs = os.path.exists('/usr/libexec/virtiofsd') or os.path.exists('/usr/lib/qemu/virtiofsd')
        self.vhost = bool(shutil.which('qemu-storage-daemon'))
        self.listener = socket.create_server(('127.0.0.1', 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            with self.listener.accept()[0] as stream:
                stream.sendall(b'hello from the host\n')

    def image(self, name, size):
        with open(self.dir + '/' + name, 'wb') as f:
            f.write(PATTERN)
            f.truncate(size)
        return f.name

    def serve_disk(self, name, size):
        """A disk of another program's; the socket."""
        sock = self.dir + '/' + name + '.sock'
        self.peers.append(subprocess.Popen(
            ['qemu-storage-daemon', '--blockdev', 'driver=file,filename=%s,node-name=f' % self.image(name, size),
             '--export', 'type=vhost-user-blk,id=e,addr.type=unix,addr.path=%s,node-name=f,writable=on' % sock],
            stdin=subprocess.DEVNULL))
        until('qemu-storage-daemon', lambda: os.path.exists(sock))
        return sock

    def config(self, sock):
        shares = [{'path': self.dir + '/share', 'tag': 'nine'}]
        if self.virtiofs:
            shares.append({'path': self.dir + '/share', 'tag': 'fs', 'driver': 'virtiofs'})
        return dict(
            kernel=KERNEL, initrd=self.initrd, cpus=2, balloon=True, shares=shares,
            disks=[{'path': self.raw, 'serial': 'raw', 'queues': 2}, self.packed],
            nets=[{'kind': 'user', 'host_access': True}], pmem=[{'path': self.pmem}],
            ports=[{'name': 'agent', 'socket': self.dir + '/agent'}], vsock={'path': self.dir + '/vsock'},
            mem={'size': '256M'}, vhost_user=[{'device': 'blk', 'socket': sock}] if self.vhost else [])

    def close(self):
        self.listener.close()
        for peer in self.peers:
            peer.kill()
            peer.wait()


def round_of(parts, guest, number):
    """Every device does its work."""
    vmxd, name = parts.vmxd, guest.name
    for serial in ('raw', 'packed', '12288')[:3 if parts.vhost else 2]:
        said = guest.run('disk_round %s %d' % (serial, number))
        check('%s: %s' % (serial, said), said.count(serial) == 2 and PATTERN_SUM in said and 'same' in said)
    said = guest.run('network %d' % parts.listener.getsockname()[1])
    check('network: ' + said, 'hello from the host' in said)
    said = guest.run('cat /sys/class/misc/hw_random/rng_available; head -c 40 /dev/hwrng | wc -c')
    check('rng: ' + said, 'virtio_rng' in said and '40' in said)
    guest.run('port')
    with dial(parts.dir + '/agent') as stream:
        stream.sendall(b'hello %d\n' % number)
        expect(stream, b'got hello %d\n' % number)
    guest.run('vsock-tool echo 1024 & true')
    until('vsock', lambda: (one := vsock_dial(parts.dir + '/vsock', 1024)) and exchange(one, b'hello') == b'hello')
    guest.run('killall vsock-tool; wait')
    for size, actual in (('176M', 80 * MIB), ('256M', 0)):
        vmxd.rpc.call('vm.balloon', name=name, memory=size)
        until('balloon', lambda: stats(vmxd, name)['balloon_actual_bytes'] == actual)
    for size in (128 * MIB, 0):
        vmxd.rpc.call('vm.mem_resize', name=name, size=size)
        until('mem', lambda: stats(vmxd, name)['mem_plugged_bytes'] == size)
    guest.run('echo pmem %d | dd of=/dev/pmem0 bs=64 seek=65536 conv=fsync 2>/dev/null' % number)
    with open(parts.pmem, 'rb') as f:
        f.seek(4 * MIB)
        check('pmem', f.read(7) == b'pmem %d\n' % number)
    for kind, tag, options in (('9p', 'nine', 'trans=virtio,version=9p2000.L'), ('virtiofs', 'fs', 'rw'))[
            :2 if parts.virtiofs else 1]:
        said = guest.run('mounts %s %s %s' % (kind, tag, options))
        check('%s: %s' % (kind, said), 'from the host' in said)
        with open(parts.dir + '/share/' + kind) as f:
            check(kind, f.read() == 'from %s\n' % kind)
        os.unlink(parts.dir + '/share/' + kind)


def sandboxed(vmxd, name):
    info = vmxd.rpc.call('vm.info', name=name)
    check('no sandbox: %s' % info['sandbox'], info['sandbox']['enabled'] and info['sandbox']['seccomp'])


def use(parts, guest, interrupts, console, more):
    """Everything that is done with one VM."""
    guest.run('. /bin/everything')
    round_of(parts, guest, 1)
    said = guest.run('grep virtio /proc/interrupts').splitlines()
    check('interrupts: %s' % said, len(said) >= 4 and all(re.search(interrupts, line) for line in said))
    counts = guest.run('queues raw').split()
    check('queues: %s' % counts, counts[0] == '2' and ('MSI' not in interrupts or (
        len(counts) == 3 and all(int(count) >= 16 for count in counts[1:]))))
    before = guest.run('drivers')
    check('drivers: ' + before, len(before.split()) >= 10 + parts.vhost + parts.virtiofs)
    said = guest.run('take_and_give 2 %s' % ('0x0003' if console == 'virtio' else ''))
    check('taken and given: ' + said, 'has none' not in said and guest.run('drivers') == before)
    round_of(parts, guest, 2)
    said = guest.run('breaks_rules raw').split()
    check('rules: %s' % said, said == 'status 11 status 75 status 75 status 0'.split())
    round_of(parts, guest, 3)
    if more:
        more(parts, guest)


def devices(parts, name, interrupts, cmdline='', console='serial', more=None, **config):
    """One VM; `interrupts`: how all its virtio devices interrupt, a pattern of /proc/interrupts."""
    vmxd = parts.vmxd
    sock = parts.serve_disk(name + '.disk', 6 * MIB) if parts.vhost else None
    guest = Guest(vmxd, name, 'hvc0' if console == 'virtio' else 'ttyS0', console=console,
                  append='memhp_default_state=online_movable ' + cmdline, **parts.config(sock), **config)
    sandboxed(vmxd, name)
    try:
        use(parts, guest, interrupts, console, more)
    except Failure:
        with contextlib.suppress(Failure, OSError):
            print('    ' + guest.run('dmesg | tail -n 60; ps').replace('\n', '\n    '))
        raise
    sandboxed(vmxd, name)
    guest.close()
    for serial, disk in (('raw', {'path': parts.raw}), ('packed', parts.packed)):
        raw_copy(disk, parts.dir + '/copy')
        with open(parts.dir + '/copy', 'rb') as f:
            data = f.read()
        line = b'%s 3\n' % serial.encode()
        check(serial, data[:2 * MIB] == PATTERN and data[2 * MIB:].startswith(line * (65536 // len(line))))


def methods(parts, guest):
    """What of the daemon's methods was not called so far; after it, all were."""
    rpc, name = parts.vmxd.rpc, guest.name
    events = Rpc(parts.vmxd.dir + '/s')
    rpc.called.add('events.subscribe')
    check('another daemon', events.call('events.subscribe')['instance'] == rpc.call('daemon.info')['instance'])
    check('no engine', rpc.call('daemon.probe')['soft']['usable'])
    for method in ('vm.pause', 'vm.resume', 'vm.disk_list', 'vm.net_list', 'vm.vhost_list', 'vm.console'):
        rpc.call(method, name=name)
    check('not in the list', name in [vm['name'] for vm in rpc.call('vm.list')['vms']])
    guest.resize(132, 43)
    extra = parts.image('extra', 4 * MIB)
    rpc.call('vm.disk_add', name=name, disk={'path': extra, 'serial': 'extra', 'id': 'extra'})
    said = guest.run('until [ "$(disk extra)" ]; do usleep 100000; done; disk_round extra 1')
    check('extra: ' + said, 'same' in said)
    os.truncate(extra, 5 * MIB)
    rpc.call('vm.disk_resize', name=name, disk='extra')
    said = guest.run('until [ "$(disk 10240)" ]; do usleep 100000; done; echo grown')
    check('grown', 'grown' in said)
    rpc.call('vm.disk_remove', name=name, id='extra', timeout_s=PATIENCE)
    rpc.call('vm.net_add', name=name, net={'kind': 'user', 'host_access': True, 'id': 'extra'})
    guest.run('until [ -e /sys/class/net/eth1 ]; do usleep 100000; done')
    rpc.call('vm.net_remove', name=name, id='extra', timeout_s=PATIENCE)
    if parts.vhost:
        sock = parts.serve_disk('late', 7 * MIB)
        rpc.call('vm.vhost_add', name=name, vhost={'device': 'blk', 'socket': sock, 'id': 'late'})
        said = guest.run('until [ "$(disk 14336)" ]; do usleep 100000; done; disk_round 14336 1')
        check('late: ' + said, 'same' in said)
        rpc.call('vm.vhost_remove', name=name, id='late', timeout_s=PATIENCE)
    # A reset and three ends, each in the midst of work.
    work = '(while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct; done >/dev/null 2>&1) & true'
    guest.run(work)
    rpc.call('vm.reset', name=name)
    guest.console.wait(r'(?s)BusyBox.*/ # ')
    guest.run('. /bin/everything')
    round_of(parts, guest, 3)
    for end in ('vm.kill', 'vm.stop'):
        rpc.call('vm.create', name='other', kernel=KERNEL, initrd=parts.initrd, memory='128M', engine='soft',
                 cmdline='quiet console=ttyS0')
        rpc.call('vm.start', name='other')
        sandboxed(parts.vmxd, 'other')
        rpc.call(end, name='other', **{'timeout_s': 0} if end == 'vm.stop' else {})
        rpc.call('vm.wait', name='other', timeout_s=PATIENCE)
        rpc.call('vm.delete', name='other')
    refused(parts.vmxd, 'no VM', 'vm.info', name='other')
    there = {method['name'] for method in rpc.call('rpc.discover')['methods']}
    wanting = there - rpc.called - (set() if parts.vhost else {'vm.vhost_add', 'vm.vhost_remove'})
    check('not called: %s' % sorted(wanting), not wanting and rpc.called <= there)


def make_initrd(vmxd):
    vmxd.rpc = CountingRpc(vmxd.dir + '/s')
    modules, seen = vmxd.dir + '/modules', []
    os.mkdir(modules)
    for folder in MODULES:
        with open(folder + '/order') as f:
            for name in f.read().split():
                if name not in seen:
                    shutil.copy(folder + '/' + name, modules)
                    seen.append(name)
    with open(modules + '/order', 'w') as f:
        f.write('\n'.join(seen) + '\n')
    with open(vmxd.dir + '/script', 'w') as f:
        f.write(SCRIPT)
    initrd = vmxd.dir + '/initrd'
    subprocess.run([HERE + '/initramfs', initrd, '--modules', modules, '--add',
                    BUILD + '/tests/guest/vsock-tool=bin/vsock-tool', '--add', vmxd.dir + '/script=bin/everything'],
                   check=True)
    return initrd


def case(name, interrupts, **config):
    def run(vmxd):
        if not isinstance(vmxd.rpc, CountingRpc):
            vmxd.initrd = make_initrd(vmxd)
        parts = Parts(vmxd, vmxd.initrd)
        try:
            devices(parts, name, interrupts, **config)
        finally:
            parts.close()
            shutil.rmtree(parts.dir)
    return run


CASES = [
    ('PCI, and every method', case('pci', 'PCI-MSI', console='virtio', more=methods)),
    ('PCI without MSI, packed rings', case('intx', 'IO-APIC.*fasteoi', cmdline='pci=nomsi', rings='packed')),
    ('MMIO', case('mmio', 'IO-APIC.*virtio', transport='mmio')),
]

if __name__ == '__main__':
    everywhere = sys.argv[1:] or os.environ.get('VMXD_ALL_MODES')
    sys.exit(run_cases(CASES if everywhere else CASES[:1], files=(KERNEL, MODULES[1] + '/order'), programs=('qemu-img',),
                       options=('--share-root', BUILD)))
