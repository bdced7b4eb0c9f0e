/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI tables that a guest gets. */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "machine/acpi.h"
#include "machine/pc.h"
#include "tests/unit/unit.h"

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static const uint8_t *table(const uint8_t *buf, uint64_t base, const char *signature)
{
	const uint8_t *xsdt = buf + (get_le64(buf + 24) - base);
	unsigned n = (get_le32(xsdt + 4) - 36) / 8;

	CU_ASSERT(!memcmp(xsdt, "XSDT", 4) && sum(xsdt, get_le32(xsdt + 4)) == 0);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *t = buf + (get_le64(xsdt + 36 + i * 8) - base);

		if (!memcmp(t, signature, 4)) {
			CU_ASSERT(sum(t, get_le32(t + 4)) == 0);
			return t;
		}
	}
	return NULL;
}

static void test_acpi(void)
{
	static uint8_t buf[ACPI_SIZE_MAX];
	struct acpi_config config = { .cpus = 3, .base = PC_BIOS, .mmio64 = 1ull << 34 };
	const uint8_t *fadt, *madt, *mcfg, *dsdt, *facs;
	unsigned cpus = 0;
	long len;

	memset(buf, 0xcc, sizeof(buf));
	len = acpi_build(&config, buf, sizeof(buf));
	CU_ASSERT_FATAL(len > 0);
	CU_ASSERT(!memcmp(buf, "RSD PTR ", 8) && sum(buf, 20) == 0 && sum(buf, 36) == 0);
	fadt = table(buf, PC_BIOS, "FACP");
	madt = table(buf, PC_BIOS, "APIC");
	mcfg = table(buf, PC_BIOS, "MCFG");
	CU_ASSERT_FATAL(fadt && madt && mcfg);
	dsdt = buf + (get_le64(fadt + 140) - PC_BIOS);
	facs = buf + (get_le64(fadt + 132) - PC_BIOS);
	CU_ASSERT(!memcmp(dsdt, "DSDT", 4) && sum(dsdt, get_le32(dsdt + 4)) == 0);
	CU_ASSERT(!memcmp(facs, "FACS", 4) && (facs - buf) % 64 == 0);
	CU_ASSERT(get_le32(fadt + 64) == PC_PORT_PM + PC_PM_CNT);
	CU_ASSERT(get_le16(fadt + 46) == PC_IRQ_SCI);
	CU_ASSERT(get_le64(fadt + 120) == PC_PORT_RESET && fadt[128] == 6);
	for (const uint8_t *e = madt + 44; e < madt + get_le32(madt + 4); e += e[1]) {
		CU_ASSERT_FATAL(e[1] >= 6);
		if (e[0] == 0)
			CU_ASSERT(e[3] == cpus++);
		if (e[0] == 1)
			CU_ASSERT(get_le32(e + 4) == PC_IOAPIC);
	}
	CU_ASSERT(cpus == 3);
	CU_ASSERT(get_le64(mcfg + 44) == PC_ECAM);
	/* Too little room is an error at every size, never a write past the end. */
	for (long size = 0; size < len; size += 7) {
		uint8_t *small = malloc((size_t)size + 1);

		CU_ASSERT(acpi_build(&config, small, (size_t)size) == -ENOBUFS);
		free(small);
	}
	config.cpus = 64;
	CU_ASSERT(acpi_build(&config, buf, sizeof(buf)) > len);
	table(buf, PC_BIOS, "APIC");
}

int main(void)
{
	CU_TestInfo tests[] = { { "tables", test_acpi }, CU_TEST_INFO_NULL };

	return UNIT_RUN(UNIT_SUITE("ACPI", tests));
}
