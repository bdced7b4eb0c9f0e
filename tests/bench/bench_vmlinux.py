# SPDX-License-Identifier: Apache-2.0
"""The uncompressed kernel inside a bzImage: an ELF file with a PVH entry, which both sides boot."""
import lzma
import os
import shutil
import struct
import subprocess
import zlib

from bench_common import GUEST, KERNEL


def tool(*command):
    """Unpacks with a program, or None where it is not here."""
    if not shutil.which(command[0]):
        return None
    return lambda data: subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


UNPACKERS = (
    (b'\x1f\x8b', lambda data: zlib.decompressobj(wbits=31).decompress(data)),
    (b'\xfd7zXZ\0', lambda data: lzma.LZMADecompressor().decompress(data)),
    (b'\x02!L\x18', tool('lz4', '-dc')),
    (b'\x28\xb5\x2f\xfd', tool('zstd', '-dc')),
)


def payload(image):
    """The compressed part by the setup header (boot.rst, payload_offset), without the size at its end."""
    offset, length = struct.unpack_from('<II', image, 0x248)
    start = ((image[0x1f1] or 4) + 1) * 512 + offset
    return image[start:start + length - 4]


def vmlinux():
    """Its path, made if need be. None: no program here that unpacks it."""
    path = os.path.join(GUEST, 'vmlinux-' + os.path.basename(KERNEL).split('-', 1)[1])
    if os.path.exists(path) and os.path.getmtime(path) >= os.path.getmtime(KERNEL):
        return path
    with open(KERNEL, 'rb') as f:
        data = payload(f.read())
    unpack = next((u for magic, u in UNPACKERS if data.startswith(magic)), None)
    if not unpack:
        return None
    data = unpack(data)
    if not data.startswith(b'\x7fELF'):
        raise RuntimeError('%s: what it holds is no ELF file' % KERNEL)
    with open(path + '.new', 'wb') as f:
        f.write(data)
    os.rename(path + '.new', path)
    return path
