/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_vmcs - the table of VMCS fields and the VMX capability MSRs agree with themselves. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmx-driver/soft/vmx_ops.h"

struct row {
	uint32_t encoding;
	unsigned count, size, width, need;
};
#define WIDTH_16 VMCS_WIDTH_16
#define WIDTH_64 VMCS_WIDTH_64
#define WIDTH_32 VMCS_WIDTH_32
#define WIDTH_N VMCS_WIDTH_N
#define SIZE(member) sizeof(((struct soft_vmcs *)0)->member)
#define ONE(width, member, encoding, need) { encoding, 1, SIZE(member), WIDTH_##width, need },
#define SEQ(width, member, count, encoding, need) \
	{ encoding, count, SIZE(member[0]), WIDTH_##width, need },
static const struct row rows[] = { VMCS_TABLE(ONE, SEQ) };
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static const struct soft_vmx_caps everything = {
	.may = { ~0u, ~0u, ~0u, ~0u, ~0u },
};
static struct soft_vmx_caps offered;

static void test_encodings(void)
{
	static const unsigned sizes[] = { 2, 8, 4, 8 };
	bool seen[0x8000] = { false };

	for (size_t i = 0; i < ROWS; i++) {
		CU_ASSERT_EQUAL(vmcs_width(rows[i].encoding), rows[i].width);
		CU_ASSERT_EQUAL(rows[i].size, sizes[rows[i].width]);
		CU_ASSERT_FALSE(rows[i].encoding & 1);
		for (unsigned k = 0; k < rows[i].count; k++) {
			uint32_t encoding = rows[i].encoding + 2 * k;

			CU_ASSERT_FALSE(seen[encoding]);
			seen[encoding] = true;
			if (rows[i].width == VMCS_WIDTH_64)
				seen[encoding + 1] = true;
		}
	}
	for (uint32_t encoding = 0; encoding < 0x10000; encoding++) {
		bool there = soft_vmcs_field(&everything, encoding) != NULL;

		if (there != (encoding < 0x8000 && seen[encoding]))
			CU_FAIL("a field and its encoding disagree");
	}
	CU_ASSERT_PTR_NULL(soft_vmcs_field(&everything, 0x10000 | 0x4000));
	CU_ASSERT_PTR_NULL(soft_vmcs_field(&everything, 0x80004000u));
}

/* Each field has bytes of its own, both halves are one value. */
static void test_values(void)
{
	static struct soft_vmcs a, b;
	size_t bytes = 0;

	memset(&a, 0, sizeof(a));
	for (uint32_t encoding = 0; encoding < 0x8000; encoding++) {
		const struct vmcs_field *f = soft_vmcs_field(&everything, encoding);
		uint64_t ones;
		unsigned changed = 0;

		if (!f || (encoding & 1))
			continue;
		bytes += f->size;
		b = a;
		ones = f->size == 8 ? ~0ull : (1ull << f->size * 8) - 1;
		soft_vmcs_set(&a, f, encoding, ~0ull);
		CU_ASSERT_EQUAL(soft_vmcs_get(&a, f, encoding), ones);
		for (size_t i = 0; i < sizeof(a); i++)
			changed += ((uint8_t *)&a)[i] != ((uint8_t *)&b)[i];
		CU_ASSERT_EQUAL(changed, f->size);
		if (vmcs_width(encoding) != VMCS_WIDTH_64)
			continue;
		soft_vmcs_set(&a, f, encoding + 1, 0x12345678);
		CU_ASSERT_EQUAL(soft_vmcs_get(&a, f, encoding), 0x12345678ffffffff);
		CU_ASSERT_EQUAL(soft_vmcs_get(&a, f, encoding + 1), 0x12345678);
		soft_vmcs_set(&a, f, encoding, ~0ull);
	}
	CU_ASSERT(bytes <= sizeof(a) && bytes + 16 > sizeof(a));
}

static void test_existence(void)
{
	unsigned max = 0;

	for (size_t i = 0; i < ROWS; i++) {
		bool there = soft_vmcs_field(&offered, rows[i].encoding) != NULL;
		unsigned last = (rows[i].encoding + 2 * (rows[i].count - 1)) >> 1 & 0x1ff;

		CU_ASSERT_EQUAL(there, soft_vmx_has(&offered, rows[i].need));
		if (there && last > max)
			max = last;
	}
	CU_ASSERT_EQUAL(offered.max_index, max);
}

static uint64_t msr(const struct soft_vcpu *v, uint32_t index)
{
	uint64_t value = 0;

	CU_ASSERT(soft_vmx_read_msr(v, index, &value));
	return value;
}

/* SDM 3D appendix A. */
static void test_msrs(void)
{
	static const struct {
		uint32_t plain, exact;
		enum vmx_word word;
		uint32_t default1;
	} pairs[] = {
		{ 0x481, 0x48d, VMX_PIN, 0x16 }, { 0x482, 0x48e, VMX_PROC, 0x0401e172 },
		{ 0x483, 0x48f, VMX_EXIT_CTLS, 0x36dff }, { 0x484, 0x490, VMX_ENTRY_CTLS, 0x11ff },
	};
	struct soft_vm *vm = calloc(1, sizeof(*vm));
	struct soft_vcpu *v = calloc(1, sizeof(*v));
	uint64_t value, basic;

	CU_ASSERT_FATAL(vm && v);
	v->v.vm = &vm->vm;
	CU_ASSERT_FALSE(soft_vmx_read_msr(v, 0x480, &value));
	vm->vmx_caps = offered;
	basic = msr(v, 0x480);
	CU_ASSERT_EQUAL(basic & 0xffffffffu, VMCS_REVISION);
	CU_ASSERT(sizeof(struct soft_vmcs_region) <= (basic >> 32 & 0x1fff));
	CU_ASSERT((basic >> 32 & 0x1fff) <= 4096);
	CU_ASSERT_EQUAL(basic >> 50 & 0xf, 6);
	CU_ASSERT(basic >> 55 & 1);
	for (size_t i = 0; i < 4; i++) {
		uint64_t plain = msr(v, pairs[i].plain), exact = msr(v, pairs[i].exact);

		CU_ASSERT_EQUAL((uint32_t)plain & pairs[i].default1, pairs[i].default1);
		CU_ASSERT_EQUAL(plain >> 32, exact >> 32);
		CU_ASSERT_FALSE((uint32_t)exact & ~(uint32_t)plain);
		CU_ASSERT_FALSE((uint32_t)plain & ~(uint32_t)(plain >> 32));
		CU_ASSERT_EQUAL(exact >> 32, offered.may[pairs[i].word]);
	}
	CU_ASSERT_EQUAL((uint32_t)msr(v, 0x48b), 0);
	CU_ASSERT_FALSE(msr(v, 0x486) & ~msr(v, 0x487));
	CU_ASSERT_FALSE(msr(v, 0x488) & ~msr(v, 0x489));
	CU_ASSERT_EQUAL(msr(v, 0x48a), (uint64_t)offered.max_index << 1);
	free(v);
	free(vm);
}

/* What one control cannot do without (25.6, 26.2.1). */
static void test_controls(void)
{
	uint32_t pin = offered.may[VMX_PIN], proc = offered.may[VMX_PROC];
	uint32_t proc2 = offered.may[VMX_PROC2];

	CU_ASSERT(!proc2 || (proc & PROC_SECONDARY));
	CU_ASSERT(!(pin & PIN_VIRTUAL_NMI) || (pin & PIN_NMI));
	CU_ASSERT(!(proc & PROC_NMI_WINDOW) || (pin & PIN_VIRTUAL_NMI));
	CU_ASSERT(!(proc2 & PROC2_UNRESTRICTED) || (proc2 & PROC2_EPT));
	CU_ASSERT(!(proc2 & PROC2_PML) || (proc2 & PROC2_EPT));
	CU_ASSERT(!(proc2 & (PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)) ||
		  (proc & PROC_TPR_SHADOW));
	CU_ASSERT(!(offered.may[VMX_EXIT_CTLS] & EXIT_SAVE_TIMER) || (pin & PIN_TIMER));
	CU_ASSERT(!(offered.may[VMX_EXIT_CTLS] & EXIT_LOAD_EFER) ==
		  !(offered.may[VMX_ENTRY_CTLS] & ENTRY_LOAD_EFER));
	CU_ASSERT(!(offered.may[VMX_EXIT_CTLS] & EXIT_LOAD_PAT) ==
		  !(offered.may[VMX_ENTRY_CTLS] & ENTRY_LOAD_PAT));
	CU_ASSERT(!(proc2 & PROC2_EPT) || (offered.ept_vpid & 1u << 6));
	CU_ASSERT(!(proc2 & PROC2_VPID) || (offered.ept_vpid >> 32 & 1));
	CU_ASSERT(!(proc2 & PROC2_UNRESTRICTED) || (offered.misc & 1u << 5));
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{ "encodings", test_encodings }, { "values", test_values },
		{ "existence", test_existence }, { "capability MSRs", test_msrs },
		{ "controls that need others", test_controls },
		CU_TEST_INFO_NULL,
	};

	soft_vmx_caps_init(&offered, true, CR4_VMXE | CR4_PAE | CR4_PGE, true);
	return UNIT_RUN(UNIT_SUITE("vmcs", tests));
}
