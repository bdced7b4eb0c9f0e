#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""qcow2 and raw images: work at random, hosts that stop at any call, images that lie. qemu-img judges."""
import hashlib
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

WORK = os.environ['VMXD_BUILDDIR'] + '/tests/disk/disk-work'
SEED = int(os.environ.get('VMXD_TEST_SEED', random.SystemRandom().randrange(1 << 30)))
MIB = 1 << 20


class Failure(Exception):
    pass


def run(*words, ok=(0,), env=None):
    done = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode not in ok:
        raise Failure('%s: exit %d\n%s' % (' '.join(str(w) for w in words), done.returncode, done.stdout[-1500:]))
    return done


def img(*words):
    return run('qemu-img', *words).stdout


def create(path, size, **options):
    words = ['create', '-q', '-f', 'qcow2']
    backing = options.pop('backing', None)
    if backing:
        words += ['-b', backing[1], '-F', backing[0]]
    if options:
        words += ['-o', ','.join('%s=%s' % item for item in options.items())]
    img(*words, path, size)


def check(path, leaks=False):
    """Whole, and (unless it may) without clusters that are counted and not used."""
    done = subprocess.run(['qemu-img', 'check', '-f', 'qcow2', '--output=json', path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0 or (leaks and done.returncode == 3):
        return
    raise Failure('qemu-img check %s: exit %d\n%s' % (path, done.returncode, done.stdout[-1500:]))


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def same(one, one_format, two, two_format='raw'):
    run('qemu-img', 'compare', '-f', one_format, '-F', two_format, one, two)


def new_model(path, size):
    with open(path, 'wb') as f:
        f.truncate(size)


def work(model, ops, threads, *chain, env=None):
    return run(WORK, 'random', model, SEED, ops, threads, *chain, env=env).stdout


# --- work at random -----------------------------------------------------------------------------------

GEOMETRIES = [
    {},
    {'compat': '0.10'},
    {'cluster_size': 512, 'size': 3 * MIB},
    {'cluster_size': 4096, 'refcount_bits': 1},
    {'cluster_size': 4096, 'refcount_bits': 2},
    {'cluster_size': 1024, 'refcount_bits': 8, 'size': 5 * MIB + 512},
    {'refcount_bits': 64, 'lazy_refcounts': 'on'},
    {'cluster_size': 2 * MIB, 'refcount_bits': 32, 'size': 40 * MIB},
    {'preallocation': 'metadata', 'size': 9 * MIB},
]


def random_work(options):
    options = dict(options)
    size = options.pop('size', 24 * MIB)
    new_model('model', size)
    create('image', size, **options)
    for threads in 1, 4:
        work('model', 400, threads, 'qcow2:image')
        check('image')
        same('image', 'qcow2', 'model')


def at_once():
    """What the host has in memory is read and written without waiting."""
    def counts(*chain):
        return [int(n) for n in re.search(r'at once: (\d+) reads, (\d+) writes', work('model', 300, 1, *chain)).groups()]

    new_model('model', 4 * MIB)
    new_model('raw', 4 * MIB)
    reads, writes = counts('raw:raw')
    if not reads:
        print('    this file system cannot say whether a read waits')
        return
    new_model('model', 4 * MIB)
    create('image', 4 * MIB)
    counts('qcow2:image')  # which gives all of it a place, or nearly
    got = counts('qcow2:image')
    same('image', 'qcow2', 'model')
    check('image')
    if got[0] < reads // 2 or got[1] < writes // 3:
        raise Failure('%s reads and writes at once, of a raw image %s' % (got, [reads, writes]))
    # A long chain, whose lower images are read so too.
    create('top', 4 * MIB, backing=('qcow2', 'image'))
    got = counts('qcow2:top', 'qcow2:image')
    same('top', 'qcow2', 'model')
    if not got[0]:
        raise Failure('nothing of a chain is read at once')


def direct():
    """O_DIRECT: what is not aligned goes another way, and says the same."""
    try:
        os.close(os.open('probe', os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError as e:
        print('    no O_DIRECT here: %s' % e)
        return
    env = dict(os.environ, DISK_WORK_DIRECT='1')
    new_model('model', 8 * MIB)
    new_model('raw', 8 * MIB)
    create('image', 8 * MIB, cluster_size=1024)
    work('model', 200, 4, 'raw:raw', env=env)
    same('raw', 'raw', 'model')
    new_model('model', 8 * MIB)
    work('model', 200, 4, 'qcow2:image', env=env)
    check('image')
    same('image', 'qcow2', 'model')


def backing(base_format, base_size, size, **options):
    new_model('base-model', base_size)
    if base_format == 'raw':
        new_model('base', base_size)
    else:
        create('base', base_size, cluster_size=4096)
    work('base-model', 200, 1, base_format + ':base')
    before = digest('base')
    shutil.copy('base-model', 'model')
    os.truncate('model', size)
    create('image', size, backing=(base_format, 'base'), **options)
    work('model', 300, 4, 'qcow2:image', base_format + ':base')
    check('image')
    same('image', 'qcow2', 'model')
    if digest('base') != before:
        raise Failure('the backing file was written')


def compressed(kind):
    new_model('model', 16 * MIB)
    work('model', 300, 1, 'raw:' + shutil.copy('model', 'source'))
    img('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'compression_type=' + kind, 'source', 'image')
    run(WORK, 'read', 'out', 'qcow2:image')
    if digest('out') != digest('model'):
        raise Failure('it does not read as what was compressed')
    work('model', 300, 4, 'qcow2:image')
    check('image')
    same('image', 'qcow2', 'model')


def snapshots(**options):
    new_model('model', 8 * MIB)
    create('image', 8 * MIB, **options)
    kept = {}
    for name in 'one', 'two':
        work('model', 150, 2, 'qcow2:image')
        img('snapshot', '-c', name, 'image')
        kept[name] = digest('model')
    work('model', 400, 4, 'qcow2:image')
    check('image')
    same('image', 'qcow2', 'model')
    for name, want in kept.items():
        img('convert', '-f', 'qcow2', '-l', 'snapshot.name=' + name, '-O', 'raw', 'image', 'out')
        if digest('out') != want:
            raise Failure('snapshot %s was touched' % name)
    for name in kept:
        img('snapshot', '-d', name, 'image')
    work('model', 200, 1, 'qcow2:image')
    check('image')
    same('image', 'qcow2', 'model')


def grows(**options):
    new_model('model', 2 * MIB)
    create('image', 2 * MIB, **options)
    work('model', 100, 1, 'qcow2:image')
    for size in 2 * MIB + 512, 3 * MIB, 7 * MIB:
        run(WORK, 'grow', size, 'qcow2:image')
        os.truncate('model', size)
        check('image')
        if json.loads(img('info', '--output=json', 'image'))['virtual-size'] != size:
            raise Failure('it has not grown')
        work('model', 150, 2, 'qcow2:image')
        check('image')
        same('image', 'qcow2', 'model')
    done = run(WORK, 'grow', MIB, 'qcow2:image', ok=(1,))
    if 'refused' not in done.stdout:
        raise Failure(done.stdout)


def crashes(points, prepare, **options):
    """At each of these calls of the host the machine stops, and anything unsynced may be lost."""
    create('image', 6 * MIB, **options)
    if prepare:
        new_model('model', 6 * MIB)
        work('model', 120, 1, 'qcow2:image')
        if options.get('refcount_bits', 16) > 1:
            img('snapshot', '-c', 'one', 'image')
    stop, tried = 0, 0
    rng = random.Random(SEED)
    while True:
        done = run(WORK, 'crash', 'out', SEED, 150, stop, 'image')
        if 'whole' in done.stdout:
            break
        check('out', leaks=True)
        run(WORK, 'open', 'qcow2:out', 'rw')
        tried += 1
        stop += rng.randrange(1, max(2, points))
    if tried < 10:
        raise Failure('only %d stops' % tried)


# --- images that lie ------------------------------------------------------------------------------------

def be(size, value):
    return value.to_bytes(size, 'big')


def header(data, offset, size):
    return int.from_bytes(data[offset:offset + size], 'big')


def l1(data):
    return header(data, 40, 8)


def l2(data):
    return header(data, l1(data), 8) & 0xfffffffffffe00


def refblock(data):
    return header(data, header(data, 48, 8), 8)


HOSTILE = [  # what, offset (or where), bytes, what is said
    ('magic', 0, b'QFI\xfa', 'not a qcow2 image'),
    ('version', 4, be(4, 4), 'version 4'),
    ('version 1', 4, be(4, 1), 'version 1'),
    ('cluster bits', 20, be(4, 8), 'clusters of 2^8'),
    ('cluster bits, huge', 20, be(4, 63), 'clusters of 2^63'),
    ('size', 24, be(8, 1 << 50), 'L1 table of'),
    ('size, negative', 24, be(8, (1 << 64) - 512), 'too large'),
    ('encrypted', 32, be(4, 1), 'encrypted'),
    ('L1 size 0', 36, be(4, 0), 'L1 table of 0 entries'),
    ('L1 size huge', 36, be(4, 0xffffffff), 'L1 table of 4294967295 entries'),
    ('L1 size beyond the file', 36, be(4, 4000000), 'L1 table is not inside the file'),
    ('L1 misaligned', 40, lambda d: be(8, l1(d) + 512), 'L1 table is not inside'),
    ('L1 outside', 40, be(8, 1 << 40), 'L1 table is not inside'),
    ('L1 on the header', 40, be(8, 0), 'overlaps'),
    ('L1 on the refcount table', 40, lambda d: d[48:56], 'overlaps|points nowhere'),
    ('refcount table outside', 48, be(8, 1 << 50), 'refcount table is not inside'),
    ('refcount table, none', 56, be(4, 0), 'refcount table of 0'),
    ('refcount table, huge', 56, be(4, 1 << 31), 'refcount table of'),
    ('refcount table on the header', 48, be(8, 0), 'overlaps|points nowhere'),
    ('snapshots', 60, be(4, 70000), '70000 snapshots'),
    ('snapshots outside', 60, be(4, 1) + be(8, 1 << 60), 'snapshot'),
    ('snapshots on the header', 60, be(4, 1) + be(8, 0), 'snapshot'),
    ('external data', 72, be(8, 4), 'external data file'),
    ('extended L2', 72, be(8, 16), 'extended L2'),
    ('unknown feature', 72, be(8, 1 << 40), '0x10000000000'),
    ('dirty', 72, be(8, 1), 'marked as dirty'),
    ('corrupt', 72, be(8, 2), 'marked as corrupt'),
    ('compression type', 104, b'\x07', 'compression type 7'),
    ('refcount order', 96, be(4, 7), 'counts of 2^7'),
    ('header length', 100, be(4, 1 << 30), 'header of'),
    ('backing file', 8, be(8, 200) + be(4, 4), 'backing file'),
    ('backing name outside', 8, be(8, 1 << 40) + be(4, 9), 'backing file is not where'),
    ('backing name long', 8, be(8, 200) + be(4, 1 << 20), 'backing file is not where'),
    ('L1 entry outside', l1, be(8, 1 << 63 | 1 << 50), 'L1 entry'),
    ('L1 entry reserved bits', l1, be(8, 1 << 63 | 0x50000 | 1), 'L1 entry'),
    ('L1 entry on the header', l1, be(8, 1 << 63), 'L1 entry'),
    ('L1 entry on the L1 table', l1, lambda d: be(8, 1 << 63 | l1(d)), 'two roles'),
    ('L1 entry on a refcount block', l1, lambda d: be(8, 1 << 63 | refblock(d)), 'two roles'),
    ('two L1 entries', lambda d: l1(d) + 8, lambda d: be(8, 1 << 63 | l2(d)), 'two roles|counted'),
    ('L2 entry outside', l2, be(8, 1 << 63 | 1 << 50), 'L2 entry'),
    ('L2 entry misaligned', l2, lambda d: be(8, header(d, l2(d), 8) + 512), 'L2 entry'),
    ('L2 entry reserved bits', l2, lambda d: be(8, header(d, l2(d), 8) | 2), 'L2 entry'),
    ('data on the L2 table', l2, lambda d: be(8, 1 << 63 | l2(d)), 'two roles'),
    ('data on the L1 table', l2, lambda d: be(8, 1 << 63 | l1(d)), 'two roles'),
    ('data on the header', l2, be(8, 1 << 63), 'L2 entry'),
    ('data twice', lambda d: l2(d) + 8, lambda d: d[l2(d):l2(d) + 8], 'used 2 times'),
    ('compressed outside', l2, be(8, 1 << 62 | 1 << 50), 'L2 entry'),
    ('refcount 0', lambda d: refblock(d) + 2 * (l2(d) >> 16), be(2, 0), 'counted 0 times'),
    ('refcount 2 of what is ours alone', lambda d: refblock(d) + 2 * (header(d, l2(d), 6) << 16 >> 16),
     None, None),
    ('no refcount block', lambda d: header(d, 48, 8), be(8, 0), 'counted 0 times'),
    ('refcount block outside', lambda d: header(d, 48, 8), be(8, 1 << 50), 'refcount block'),
    ('refcount block on the L1 table', lambda d: header(d, 48, 8), lambda d: be(8, l1(d)),
     'two roles|overlaps'),
    ('refcount block on the header', lambda d: header(d, 48, 8), be(8, 512), 'points nowhere|not at the start'),
]


def hostile():
    create('good', 1024 * MIB)
    new_model('model', 1024 * MIB)
    with open('first', 'wb') as f:
        f.write(b'x' * 65536)
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 200k', 'good')
    with open('good', 'rb') as f:
        good = f.read()
    run(WORK, 'open', 'qcow2:good', 'rw')
    wrong = []
    for name, at, patch, said in HOSTILE:
        if patch is None:
            at, patch, said = refblock(good) + 2 * ((header(good, l2(good), 8) & 0xfffffffffffe00) >> 16), \
                be(2, 2), 'marked as used once and counted 2'
        at = at(good) if callable(at) else at
        patch = patch(good) if callable(patch) else patch
        bad = good[:at] + patch + good[at + len(patch):]
        with open('bad', 'wb') as f:
            f.write(bad)
        done = run(WORK, 'open', 'qcow2:bad', 'rw', ok=(0, 1))
        if done.returncode != 1 or not any(s in done.stdout for s in said.split('|')):
            wrong.append('%s: %r, wanted %r' % (name, done.stdout, said))
        if open('bad', 'rb').read() != bad:
            wrong.append('%s: the file was touched' % name)
        done = subprocess.run([WORK, 'read', 'out', 'qcow2:bad'], stdout=subprocess.PIPE, timeout=60)
        if done.returncode not in (0, 1):
            wrong.append('%s: reading it ended with %d' % (name, done.returncode))
    for length in range(0, len(good), 16384 + 40):
        with open('bad', 'wb') as f:
            f.write(good[:length])
        done = run(WORK, 'open', 'qcow2:bad', 'rw', ok=(0, 1))
        if done.returncode == 0 and length < len(good) - 65536:
            wrong.append('cut off at %d: taken' % length)
    if wrong:
        raise Failure('\n'.join(wrong))


def noise():
    """A good image with bytes of its metadata changed: never a crash, and never corruption by us."""
    rng = random.Random(SEED)
    create('good', 3 * MIB, cluster_size=4096)
    new_model('model', 3 * MIB)
    work('model', 150, 1, 'qcow2:good')
    with open('good', 'rb') as f:
        good = f.read()
    spots = [0, l1(good), l2(good), refblock(good), header(good, 48, 8)]
    taken = 0
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 3))):
            at = rng.choice(spots) + rng.randrange(rng.choice((8, 120, 2048)))
            bad[at] ^= 1 << rng.randrange(8)
        with open('bad', 'wb') as f:
            f.write(bad)
        done = run(WORK, 'open', 'qcow2:bad', 'rw', ok=(0, 1))
        if done.returncode == 1:
            if open('bad', 'rb').read() != bad:
                raise Failure('a refused image was touched')
            continue
        taken += 1
        run(WORK, 'random', shutil.copy('model', 'any'), SEED, 60, 1, 'qcow2:bad', ok=(0, 1, 3))
    if not taken:
        raise Failure('none was taken')


CASES = [('random work %s' % (g or 'default'), lambda g=g: random_work(g)) for g in GEOMETRIES] + [
    ('at once', at_once),
    ('O_DIRECT', direct),
    ('on a raw file', lambda: backing('raw', 8 * MIB, 12 * MIB)),
    ('on a longer raw file of odd size', lambda: backing('raw', 8 * MIB + 1536, 5 * MIB)),
    ('on a qcow2 image', lambda: backing('qcow2', 6 * MIB, 12 * MIB, cluster_size=2048)),
    ('version 2 on a qcow2 image', lambda: backing('qcow2', 6 * MIB, 6 * MIB, compat='0.10')),
    ('compressed by zlib', lambda: compressed('zlib')),
    ('compressed by zstd', lambda: compressed('zstd')),
    ('snapshots', snapshots),
    ('snapshots, small clusters', lambda: snapshots(cluster_size=1024, refcount_bits=4)),
    ('growing', grows),
    ('growing, small clusters', lambda: grows(cluster_size=512)),
    ('stops', lambda: crashes(12, False)),
    ('stops, small clusters', lambda: crashes(40, False, cluster_size=512)),
    ('stops, with a snapshot', lambda: crashes(12, True, cluster_size=4096)),
    ('images that lie', hostile),
    ('images with noise', noise),
]

ON_DISK = direct, at_once  # /dev/shm has no O_DIRECT, and cannot say whether a read waits


def main():
    for program in 'qemu-img', 'qemu-io':
        if not shutil.which(program):
            print('skip: %s is not installed\n0 passed, 0 failed, 1 skipped' % program)
            return 77
    passed = failed = 0
    home, build = os.getcwd(), os.environ['VMXD_BUILDDIR']
    quick = '/dev/shm' if os.access('/dev/shm', os.W_OK) else build  # a sync is for nothing there
    for name, case in CASES:
        if sys.argv[1:] and sys.argv[1] not in name:
            continue
        with tempfile.TemporaryDirectory(prefix='vmxd-images.', dir=build if case in ON_DISK else quick) as folder:
            os.chdir(folder)
            try:
                case()
                passed += 1
            except (Failure, OSError, subprocess.TimeoutExpired) as e:
                failed += 1
                print('FAIL: %s: %s' % (name, e))
                if os.environ.get('VMXD_KEEP'):
                    shutil.copytree(folder, os.environ['VMXD_KEEP'], dirs_exist_ok=True)
            os.chdir(home)
    if failed:
        print('VMXD_TEST_SEED=%d' % SEED)
    print('%d passed, %d failed, 0 skipped' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
