/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.c - what the guest's processor is: set up once per VM from what the host offers and the
 * engine handles. The model is an Intel server processor whatever the host is, with no leaf that
 * promises more than works. (SDM 2A CPUID; the guest side is cpuid_guest.c.)
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmx-driver/soft/pv.h"
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

#define BIT(n) (1u << (n))
#define SIGNATURE 0x000606a6u /* family 6, model 0x6A, stepping 6 */
#define PHYS_BITS_MAX 46u
#define MAX_LEAF 0x16u
#define MAX_EXT_LEAF 0x80000008u
#define MAX_HV_LEAF 0x40000010u

struct regs {
	uint32_t eax, ebx, ecx, edx;
};

static struct regs host(uint32_t leaf, uint32_t subleaf)
{
	struct regs r = { 0, 0, 0, 0 };
	uint32_t max = __get_cpuid_max(leaf & 0xf0000000u, NULL);

	if (max >= leaf)
		__cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
	return r;
}

static void add(struct soft_cpuid *c, uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx,
		uint32_t ecx, uint32_t edx)
{
	struct soft_cpuid_leaf *l;

	if (c->count == SOFT_CPUID_LEAVES)
		return;
	l = &c->leaf[c->count++];
	l->leaf = leaf;
	l->subleaf = subleaf;
	l->reg[0] = eax;
	l->reg[1] = ebx;
	l->reg[2] = ecx;
	l->reg[3] = edx;
}

/* --- features ------------------------------------------------------------------------------- */

enum { /* feature words */
	W_1C, W_1D, W_7B, W_7C, W_7D, W_81C, W_81D, W_COUNT,
};
/* Emulated: offered on every host. */
static const uint32_t always[W_COUNT] = {
	/* CX16, PCID, x2APIC, TSC-deadline, hypervisor */
	[W_1C] = BIT(13) | BIT(17) | BIT(21) | BIT(24) | BIT(31),
	/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT CLFSH MMX FXSR SSE SSE2
	 * SS HTT */
	[W_1D] = BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) |
		 BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(19) | BIT(23) |
		 BIT(24) | BIT(25) | BIT(26) | BIT(27) | BIT(28),
	/* FSGSBASE TSC_ADJUST FDP_EXCPTN_ONLY SMEP ERMS INVPCID no-FCS-FDS SMAP */
	[W_7B] = BIT(0) | BIT(1) | BIT(6) | BIT(7) | BIT(9) | BIT(10) | BIT(13) | BIT(20),
	/* UMIP RDPID */
	[W_7C] = BIT(2) | BIT(22),
	/* FSRM MD_CLEAR SPEC_CTRL STIBP ARCH_CAPABILITIES SSBD */
	[W_7D] = BIT(4) | BIT(10) | BIT(26) | BIT(27) | BIT(29) | BIT(31),
	/* LAHF, PREFETCHW */
	[W_81C] = BIT(0) | BIT(8),
	/* SYSCALL NX 1GiB pages RDTSCP LM */
	[W_81D] = BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29),
};
/* Run by the host's own instructions: offered if it has them. */
static const uint32_t native[W_COUNT] = {
	/* SSE3 PCLMUL SSSE3 SSE4.1 SSE4.2 MOVBE POPCNT AES RDRAND */
	[W_1C] = BIT(0) | BIT(1) | BIT(9) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) |
		 BIT(30),
	/* BMI1 BMI2 RDSEED ADX CLFLUSHOPT CLWB SHA */
	[W_7B] = BIT(3) | BIT(8) | BIT(18) | BIT(19) | BIT(23) | BIT(24) | BIT(29),
	/* GFNI */
	[W_7C] = BIT(8),
	/* LZCNT */
	[W_81C] = BIT(5),
};
/* The same, but only with XSAVE. */
static const uint32_t native_xsave[W_COUNT] = {
	[W_1C] = BIT(26),
};
/* The same, but only with the AVX state component. FMA AVX F16C; AVX2; VAES VPCLMULQDQ */
static const uint32_t native_avx[W_COUNT] = {
	[W_1C] = BIT(12) | BIT(28) | BIT(29),
	[W_7B] = BIT(5),
	[W_7C] = BIT(9) | BIT(10),
};

static uint64_t host_xcr0(void)
{
	uint32_t lo, hi;

	if (!(host(1, 0).ecx & BIT(27))) /* OSXSAVE */
		return 0;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (uint64_t)hi << 32;
}

static void features(struct soft_cpuid *c, uint32_t word[W_COUNT])
{
	struct regs l1 = host(1, 0), l7 = host(7, 0), e1 = host(0x80000001u, 0);
	uint32_t from[W_COUNT] = { l1.ecx, l1.edx, l7.ebx, l7.ecx, l7.edx, e1.ecx, e1.edx };
	uint64_t xcr0 = host_xcr0() & 7;

	if (xcr0 != 7)
		xcr0 &= 3;
	c->xcr0 = xcr0;
	for (unsigned i = 0; i < W_COUNT; i++) {
		uint32_t offered = native[i];

		if (xcr0)
			offered |= native_xsave[i];
		if (xcr0 == 7)
			offered |= native_avx[i];
		word[i] = always[i] | (from[i] & offered);
	}
}

/* --- instruction sets ----------------------------------------------------------------------- */

struct isa {
	uint8_t set;
	int8_t word; /* -1: always */
	uint8_t bit;
};
static const struct isa isas[] = {
	{ ZYDIS_ISA_SET_INVALID, -1, 0 }, { ZYDIS_ISA_SET_I86, -1, 0 },
	{ ZYDIS_ISA_SET_I186, -1, 0 }, { ZYDIS_ISA_SET_I286REAL, -1, 0 },
	{ ZYDIS_ISA_SET_I286PROTECTED, -1, 0 }, { ZYDIS_ISA_SET_I386, -1, 0 },
	{ ZYDIS_ISA_SET_I486, -1, 0 }, { ZYDIS_ISA_SET_I486REAL, -1, 0 },
	{ ZYDIS_ISA_SET_PENTIUMREAL, -1, 0 }, { ZYDIS_ISA_SET_PENTIUMMMX, -1, 0 },
	{ ZYDIS_ISA_SET_PPRO, -1, 0 }, { ZYDIS_ISA_SET_CMOV, -1, 0 },
	{ ZYDIS_ISA_SET_FCMOV, -1, 0 }, { ZYDIS_ISA_SET_X87, -1, 0 },
	{ ZYDIS_ISA_SET_FAT_NOP, -1, 0 }, { ZYDIS_ISA_SET_PAUSE, -1, 0 },
	{ ZYDIS_ISA_SET_LONGMODE, -1, 0 }, { ZYDIS_ISA_SET_RDPMC, -1, 0 },
	{ ZYDIS_ISA_SET_PREFETCH_NOP, -1, 0 }, { ZYDIS_ISA_SET_FXSAVE, -1, 0 },
	{ ZYDIS_ISA_SET_FXSAVE64, -1, 0 }, { ZYDIS_ISA_SET_SSE, -1, 0 },
	{ ZYDIS_ISA_SET_SSE2, -1, 0 }, { ZYDIS_ISA_SET_SSE2MMX, -1, 0 },
	{ ZYDIS_ISA_SET_SSEMXCSR, -1, 0 }, { ZYDIS_ISA_SET_SSE_PREFETCH, -1, 0 },
	{ ZYDIS_ISA_SET_CLFSH, -1, 0 }, { ZYDIS_ISA_SET_VTX, -1, 0 }, /* the operations #UD */
	{ ZYDIS_ISA_SET_CMPXCHG16B, W_1C, 13 }, { ZYDIS_ISA_SET_LAHF, W_81C, 0 },
	{ ZYDIS_ISA_SET_RDTSCP, W_81D, 27 }, { ZYDIS_ISA_SET_RDPID, W_7C, 22 },
	{ ZYDIS_ISA_SET_RDWRFSGS, W_7B, 0 }, { ZYDIS_ISA_SET_SMAP, W_7B, 20 },
	{ ZYDIS_ISA_SET_INVPCID, W_7B, 10 }, { ZYDIS_ISA_SET_SSE3, W_1C, 0 },
	{ ZYDIS_ISA_SET_SSE3X87, W_1C, 0 }, { ZYDIS_ISA_SET_SSSE3, W_1C, 9 },
	{ ZYDIS_ISA_SET_SSSE3MMX, W_1C, 9 }, { ZYDIS_ISA_SET_SSE4, W_1C, 19 },
	{ ZYDIS_ISA_SET_SSE42, W_1C, 20 }, { ZYDIS_ISA_SET_POPCNT, W_1C, 23 },
	{ ZYDIS_ISA_SET_MOVBE, W_1C, 22 }, { ZYDIS_ISA_SET_AES, W_1C, 25 },
	{ ZYDIS_ISA_SET_PCLMULQDQ, W_1C, 1 }, { ZYDIS_ISA_SET_RDRAND, W_1C, 30 },
	{ ZYDIS_ISA_SET_RDSEED, W_7B, 18 }, { ZYDIS_ISA_SET_XSAVE, W_1C, 26 },
	{ ZYDIS_ISA_SET_AVX, W_1C, 28 }, { ZYDIS_ISA_SET_AVXAES, W_1C, 28 },
	{ ZYDIS_ISA_SET_F16C, W_1C, 29 }, { ZYDIS_ISA_SET_FMA, W_1C, 12 },
	{ ZYDIS_ISA_SET_AVX2, W_7B, 5 }, { ZYDIS_ISA_SET_AVX2GATHER, W_7B, 5 },
	{ ZYDIS_ISA_SET_BMI1, W_7B, 3 }, { ZYDIS_ISA_SET_BMI2, W_7B, 8 },
	{ ZYDIS_ISA_SET_LZCNT, W_81C, 5 }, { ZYDIS_ISA_SET_ADOX_ADCX, W_7B, 19 },
	{ ZYDIS_ISA_SET_SHA, W_7B, 29 }, { ZYDIS_ISA_SET_CLFLUSHOPT, W_7B, 23 },
	{ ZYDIS_ISA_SET_CLWB, W_7B, 24 }, { ZYDIS_ISA_SET_GFNI, W_7C, 8 },
	{ ZYDIS_ISA_SET_VAES, W_7C, 9 }, { ZYDIS_ISA_SET_VPCLMULQDQ, W_7C, 10 },
};

static void instruction_sets(struct soft_cpuid *c, const uint32_t word[W_COUNT], uint32_t xsave_eax)
{
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++)
		c->isa[isas[i].set] = isas[i].word < 0 || (word[isas[i].word] >> isas[i].bit & 1);
	c->isa[ZYDIS_ISA_SET_XSAVEOPT] = c->xcr0 && (xsave_eax & BIT(0));
	c->isa[ZYDIS_ISA_SET_XSAVEC] = c->xcr0 && (xsave_eax & BIT(1));
	c->isa[ZYDIS_ISA_SET_XSAVES] = c->isa[ZYDIS_ISA_SET_XSAVEC];
	/* VEX-encoded GFNI needs AVX as well. */
	c->isa[ZYDIS_ISA_SET_AVX_GFNI] = (word[W_7C] & BIT(8)) && c->xcr0 == 7;
}

bool soft_isa_allowed(struct soft_vm *vm, const ZydisDecodedInstruction *zi)
{
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_ENDBR32: /* without CET these four are NOPs */
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_RDSSPD:
	case ZYDIS_MNEMONIC_RDSSPQ:
	case ZYDIS_MNEMONIC_VMMCALL: /* its operation decides */
	case ZYDIS_MNEMONIC_LZCNT:   /* BSR and BSF on a host without them, as everywhere */
	case ZYDIS_MNEMONIC_TZCNT:
		return true;
	default:
		break;
	}
	if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	    zi->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
	    zi->encoding == ZYDIS_INSTRUCTION_ENCODING_XOP ||
	    zi->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
		return false;
	/* FEMMS and the AMD prefetches apart, an isa set is all or nothing. */
	return zi->meta.isa_set <= ZYDIS_ISA_SET_MAX_VALUE && vm->cpuid->isa[zi->meta.isa_set];
}

/* --- leaves --------------------------------------------------------------------------------- */

static void text_leaf(struct soft_cpuid *c, uint32_t leaf, const char text[16])
{
	uint32_t r[4];

	memcpy(r, text, sizeof(r));
	add(c, leaf, 0, r[0], r[1], r[2], r[3]);
}

static void cache_leaves(struct soft_cpuid *c)
{
	/* eax: type, level, self-initialising, threads sharing - 1, cores per package - 1;
	 * ebx: ways - 1, partitions - 1, line - 1; ecx: sets - 1 */
	const uint32_t cores = 63u << 26;

	add(c, 4, 0, 1 | 1 << 5 | BIT(8) | cores, 11u << 22 | 63, 63, 0);   /* L1D 48 KiB */
	add(c, 4, 1, 2 | 1 << 5 | BIT(8) | cores, 7u << 22 | 63, 63, 0);    /* L1I 32 KiB */
	add(c, 4, 2, 3 | 2 << 5 | BIT(8) | cores, 19u << 22 | 63, 1023, 0); /* L2 1.25 MiB */
	add(c, 4, 3, 3 | 3 << 5 | BIT(8) | 63u << 14 | cores, 11u << 22 | 63, 32767,
	    BIT(2));                                                        /* L3 24 MiB */
}

/* The best fraction num/den for tsc_hz / crystal whose numerator times the crystal's kHz fits 32
 * bits (Linux multiplies so): continued fraction, exact where it can be. */
static void tsc_ratio(uint64_t tsc_hz, uint32_t *ret_num, uint32_t *ret_den)
{
	uint64_t a = tsc_hz, b = SOFT_CRYSTAL_HZ;
	uint64_t n0 = 0, n1 = 1, d0 = 1, d1 = 0, max = 0xffffffffu / (SOFT_CRYSTAL_HZ / 1000);

	while (b) {
		uint64_t q = a / b, t = a % b, n2 = q * n1 + n0, d2 = q * d1 + d0;

		if (n2 > max || d2 > max)
			break;
		a = b;
		b = t;
		n0 = n1;
		n1 = n2;
		d0 = d1;
		d1 = d2;
	}
	*ret_num = (uint32_t)n1;
	*ret_den = (uint32_t)d1;
}

static void basic_leaves(struct soft_cpuid *c, const uint32_t word[W_COUNT], uint64_t tsc_hz)
{
	uint32_t mhz = (uint32_t)(tsc_hz / 1000000), num, den;

	add(c, 0, 0, MAX_LEAF, 0x756e6547, 0x6c65746e, 0x49656e69); /* GenuineIntel */
	/* ebx: CLFLUSH line 64, 64 ids per package; the APIC id comes at run time */
	add(c, 1, 0, c->signature, 8u << 8 | 64u << 16, word[W_1C], word[W_1D]);
	add(c, 2, 0, 0x00ff0001 | 0xff00, 0, 0, 0); /* caches: leaf 4 */
	cache_leaves(c);
	add(c, 6, 0, BIT(2), 0, 0, 0); /* the APIC timer never stops */
	add(c, 7, 0, 2, word[W_7B], word[W_7C], word[W_7D]);
	add(c, 7, 1, 0, 0, 0, 0);
	/* PSFD BHI_CTRL MCDT_NO. Kernels clear the branch history by a loop at each system call
	 * even with BHI_NO, unless there is a bit in SPEC_CTRL for it. */
	add(c, 7, 2, 0, 0, 0, BIT(0) | BIT(4) | BIT(5));
	/* One thread a core, 64 ids a package; counts and ids come at run time. */
	add(c, 0xb, 0, 0, 1, 1 << 8 | 0, 0);
	add(c, 0xb, 1, 6, 1, 2 << 8 | 1, 0);
	tsc_ratio(tsc_hz, &num, &den);
	add(c, 0x15, 0, den, num, SOFT_CRYSTAL_HZ, 0);
	add(c, 0x16, 0, mhz, mhz, 100, 0);
}

static void xsave_leaves(struct soft_cpuid *c, uint32_t host_eax1)
{
	struct regs avx;

	if (!c->xcr0)
		return;
	add(c, 0xd, 0, (uint32_t)c->xcr0, 0, c->xcr0 & 4 ? 832 : 576, 0);
	/* XSAVEOPT, XSAVEC, XGETBV(1); XSAVES without supervisor components, which is XSAVEC */
	add(c, 0xd, 1, (host_eax1 & 7) | (host_eax1 & BIT(1) ? BIT(3) : 0), 0, 0, 0);
	if (c->xcr0 & 4) {
		avx = host(0xd, 2);
		add(c, 0xd, 2, avx.eax, avx.ebx, avx.ecx & ~1u, 0);
	}
}

static void extended_leaves(struct soft_cpuid *c, const uint32_t word[W_COUNT], unsigned phys_bits)
{
	add(c, 0x80000000u, 0, MAX_EXT_LEAF, 0, 0, 0);
	add(c, 0x80000001u, 0, 0, 0, word[W_81C], word[W_81D]);
	text_leaf(c, 0x80000002u, "Intel Xeon (mode");
	text_leaf(c, 0x80000003u, "l 6A), vmxd soft");
	text_leaf(c, 0x80000004u, "ware processor\0");
	add(c, 0x80000006u, 0, 0, 0, 1280u << 16 | 7u << 12 | 64, 0);
	add(c, 0x80000007u, 0, 0, 0, 0, BIT(8)); /* invariant TSC */
	add(c, 0x80000008u, 0, 48u << 8 | phys_bits, 0, 0, 0);
}

static void hypervisor_leaves(struct soft_cpuid *c, uint64_t tsc_hz, bool nested)
{
	add(c, 0x40000000u, 0, MAX_HV_LEAF, 0x4b4d564b, 0x564b4d56, 0x4d); /* KVMKVMKVM */
	add(c, 0x40000001u, 0, soft_pv_features(nested), 0, 0, 0);
	add(c, 0x40000010u, 0, (uint32_t)(tsc_hz / 1000), SOFT_CRYSTAL_HZ / 1000, 0, 0);
}

static uint32_t host_mxcsr_mask(void)
{
	uint8_t area[512] __attribute__((aligned(64)));
	uint32_t mask;

	memset(area, 0, sizeof(area));
	__asm__ volatile("fxsave (%0)" : : "r"(area) : "memory");
	memcpy(&mask, area + 28, sizeof(mask));
	return mask ? mask : 0xffbf;
}

int soft_cpuid_create(struct soft_vm *vm)
{
	struct soft_cpuid *c = calloc(1, sizeof(*c));
	uint32_t word[W_COUNT], host_eax1;
	unsigned phys_bits = host(0x80000008u, 0).eax & 0xff;
	bool nested = vm->vm.options.flags & VMX_VM_NESTED;

	if (!c)
		return -ENOMEM;
	if (phys_bits < 36 || phys_bits > PHYS_BITS_MAX)
		phys_bits = phys_bits < 36 ? 36 : PHYS_BITS_MAX;
	c->signature = SIGNATURE;
	c->phys_mask = (1ull << phys_bits) - 1;
	c->mxcsr_mask = host_mxcsr_mask();
	features(c, word);
	if (nested)
		word[W_1C] |= BIT(5); /* VMX */
	host_eax1 = host(0xd, 1).eax;
	instruction_sets(c, word, host_eax1);
	c->efer_mask = EFER_SCE | EFER_LME | EFER_NX;
	c->cr4_mask = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
		      CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |
		      CR4_SMEP | CR4_SMAP;
	if (c->xcr0)
		c->cr4_mask |= CR4_OSXSAVE;
	if (nested)
		c->cr4_mask |= CR4_VMXE;
	soft_vmx_caps_init(&vm->vmx_caps, nested, c->cr4_mask, c->isa[ZYDIS_ISA_SET_XSAVES]);
	/* RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO
	 * PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO: a translator speculates on its own
	 * account, and guests need none of their costly countermeasures. */
	c->arch_capabilities = BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) |
			       BIT(13) | BIT(14) | BIT(15) | BIT(20) | BIT(24) | BIT(26) |
			       BIT(27) | 1ull << 62;
	basic_leaves(c, word, vm->tsc_hz);
	xsave_leaves(c, host_eax1);
	extended_leaves(c, word, phys_bits);
	hypervisor_leaves(c, vm->tsc_hz, nested);
	vm->cpuid = c;
	return 0;
}

void soft_cpuid_destroy(struct soft_vm *vm)
{
	if (!vm)
		return;
	free(vm->cpuid);
	vm->cpuid = NULL;
}

uint64_t soft_xcr0_offered(struct soft_vm *vm)
{
	return vm->cpuid->xcr0;
}
