/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_dump DIR - writes the ACPI tables of a machine, one file each, for iasl to read. */
#include <stdio.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "machine/acpi.h"
#include "machine/device.h"
#include "machine/pc.h"

static int dump(const char *dir, const uint8_t *table)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%.4s.dat", dir, (const char *)table);
	f = fopen(path, "wb");
	if (!f || fwrite(table, 1, get_le32(table + 4), f) != get_le32(table + 4))
		return 1;
	return fclose(f);
}

int main(int argc, char **argv)
{
	static uint8_t buf[ACPI_SIZE_MAX];
	static const struct machine_described described[] = {
		{ "LNRO0005", PC_MMIO_DEVICES, 0x1000, 5 },
		{ "LNRO0005", PC_MMIO_DEVICES + 0x1000, 0x1000, 21 },
	};
	struct acpi_config config = { .cpus = 64, .base = PC_BIOS, .mmio64 = 1ull << 34,
				      .described = described, .described_count = 2 };
	const uint8_t *xsdt, *table;
	int bad = 0;

	if (argc != 2 || acpi_build(&config, buf, sizeof(buf)) < 0)
		return 1;
	xsdt = buf + (get_le64(buf + 24) - config.base);
	for (unsigned i = 0; i < (get_le32(xsdt + 4) - 36) / 8; i++) {
		table = buf + (get_le64(xsdt + 36 + i * 8) - config.base);
		bad |= dump(argv[1], table);
		if (!memcmp(table, "FACP", 4))
			bad |= dump(argv[1], buf + (get_le64(table + 140) - config.base));
	}
	return bad;
}
