/* SPDX-License-Identifier: Apache-2.0 */
/* forms.c - every instruction form that Zydis decodes and that can be compared with a processor. */
#include "tests/insn/insn.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void features_of_host(struct features *f)
{
	uint32_t a, b, c, d;

	memset(f, 0, sizeof(*f));
	if (__get_cpuid(1, &a, &b, &c, &d))
		f->l1_ecx = c, f->l1_edx = d;
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		f->l7_ebx = b, f->l7_ecx = c;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d))
		f->x1_ecx = c, f->x1_edx = d;
}

enum { ALWAYS, L1C, L1D, L7B, L7C, X1C };

static const struct {
	uint16_t isa_set;
	uint8_t where, bit;
} isa_sets[] = {
	{ ZYDIS_ISA_SET_I86, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_I186, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_I286PROTECTED, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_I286REAL, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_I386, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_I486, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_I486REAL, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_PENTIUMREAL, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_PPRO, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_LONGMODE, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_FAT_NOP, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_PREFETCH_NOP, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_PAUSE, ALWAYS, 0 },
	{ ZYDIS_ISA_SET_LAHF, X1C, 0 },
	{ ZYDIS_ISA_SET_X87, L1D, 0 },
	{ ZYDIS_ISA_SET_CMOV, L1D, 15 },
	{ ZYDIS_ISA_SET_FCMOV, L1D, 15 },
	{ ZYDIS_ISA_SET_PENTIUMMMX, L1D, 23 },
	{ ZYDIS_ISA_SET_SSE, L1D, 25 },
	{ ZYDIS_ISA_SET_SSEMXCSR, L1D, 25 },
	{ ZYDIS_ISA_SET_SSE_PREFETCH, L1D, 25 },
	{ ZYDIS_ISA_SET_SSE2, L1D, 26 },
	{ ZYDIS_ISA_SET_SSE2MMX, L1D, 26 },
	{ ZYDIS_ISA_SET_SSE3, L1C, 0 },
	{ ZYDIS_ISA_SET_SSE3X87, L1C, 0 },
	{ ZYDIS_ISA_SET_PCLMULQDQ, L1C, 1 },
	{ ZYDIS_ISA_SET_SSSE3, L1C, 9 },
	{ ZYDIS_ISA_SET_SSSE3MMX, L1C, 9 },
	{ ZYDIS_ISA_SET_FMA, L1C, 12 },
	{ ZYDIS_ISA_SET_CMPXCHG16B, L1C, 13 },
	{ ZYDIS_ISA_SET_SSE4, L1C, 19 },
	{ ZYDIS_ISA_SET_SSE42, L1C, 20 },
	{ ZYDIS_ISA_SET_MOVBE, L1C, 22 },
	{ ZYDIS_ISA_SET_POPCNT, L1C, 23 },
	{ ZYDIS_ISA_SET_AES, L1C, 25 },
	{ ZYDIS_ISA_SET_AVX, L1C, 28 },
	{ ZYDIS_ISA_SET_AVXAES, L1C, 25 },
	{ ZYDIS_ISA_SET_F16C, L1C, 29 },
	{ ZYDIS_ISA_SET_BMI1, L7B, 3 },
	{ ZYDIS_ISA_SET_AVX2, L7B, 5 },
	{ ZYDIS_ISA_SET_AVX2GATHER, L7B, 5 },
	{ ZYDIS_ISA_SET_BMI2, L7B, 8 },
	{ ZYDIS_ISA_SET_ADOX_ADCX, L7B, 19 },
	{ ZYDIS_ISA_SET_CLFSH, L1D, 19 },
	{ ZYDIS_ISA_SET_CLFLUSHOPT, L7B, 23 },
	{ ZYDIS_ISA_SET_CLWB, L7B, 24 },
	{ ZYDIS_ISA_SET_SHA, L7B, 29 },
	{ ZYDIS_ISA_SET_GFNI, L7C, 8 },
	{ ZYDIS_ISA_SET_AVX_GFNI, L7C, 8 },
	{ ZYDIS_ISA_SET_VAES, L7C, 9 },
	{ ZYDIS_ISA_SET_VPCLMULQDQ, L7C, 10 },
	{ ZYDIS_ISA_SET_LZCNT, X1C, 5 },
};

bool features_allow(const struct features *f, const ZydisDecodedInstruction *insn)
{
	const uint32_t word[] = { ~0u, f->l1_ecx, f->l1_edx, f->l7_ebx, f->l7_ecx, f->x1_ecx };

	if (insn->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && !(f->l1_ecx >> 28 & 1) &&
	    insn->meta.isa_set != ZYDIS_ISA_SET_BMI1 && insn->meta.isa_set != ZYDIS_ISA_SET_BMI2)
		return false;
	for (size_t i = 0; i < sizeof(isa_sets) / sizeof(isa_sets[0]); i++) {
		if (isa_sets[i].isa_set == insn->meta.isa_set)
			return word[isa_sets[i].where] >> isa_sets[i].bit & 1;
	}
	return false;
}

/* What cannot be compared, or ends more than the case. */
static const uint16_t denied[] = {
	/* answers differ by design, or from call to call */
	ZYDIS_MNEMONIC_CPUID, ZYDIS_MNEMONIC_RDTSC, ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_RDPMC,
	ZYDIS_MNEMONIC_XGETBV, ZYDIS_MNEMONIC_RDPID,
	/* the host's kernel answers */
	ZYDIS_MNEMONIC_SYSCALL, ZYDIS_MNEMONIC_SYSENTER, ZYDIS_MNEMONIC_SYSRET,
	ZYDIS_MNEMONIC_SYSEXIT, ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_INT1, ZYDIS_MNEMONIC_INT3,
	ZYDIS_MNEMONIC_VMCALL, ZYDIS_MNEMONIC_VMMCALL,
	/* show descriptor tables and selectors of the host, or need its descriptors */
	ZYDIS_MNEMONIC_SGDT, ZYDIS_MNEMONIC_SIDT, ZYDIS_MNEMONIC_SLDT, ZYDIS_MNEMONIC_STR,
	ZYDIS_MNEMONIC_SMSW, ZYDIS_MNEMONIC_LAR, ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_VERR,
	ZYDIS_MNEMONIC_VERW, ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LSS,
	ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS, ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD,
	ZYDIS_MNEMONIC_IRETQ,
	/* FS is the child's own; x87 pointers are not compared */
	ZYDIS_MNEMONIC_RDFSBASE, ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_WRGSBASE,
	ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FNSAVE, ZYDIS_MNEMONIC_FXSAVE,
	ZYDIS_MNEMONIC_FXSAVE64, ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64,
};

static bool is_denied(const ZydisDecodedInstruction *d)
{
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
		if (denied[i] == d->mnemonic)
			return true;
	}
	/* far branches need the host's descriptors; moves to segment registers as well */
	return d->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

static bool touches_segment_register(const ZydisDecodedInstruction *d,
				     const ZydisDecodedOperand *op)
{
	for (unsigned i = 0; i < d->operand_count_visible; i++) {
		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetClass(op[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return true;
	}
	return false;
}

/* --- enumeration --------------------------------------------------------------------------------- */

struct probe {
	const struct features *host, *guest;
	const char *only;
	struct forms *forms;
	size_t room;
};

/* Bytes of a form with mod = 3 or [rdi+0] and the given reg and rm. */
static void probe_bytes(const struct form *f, uint8_t mode, unsigned reg, unsigned rm, uint8_t *p)
{
	static const uint8_t maps[] = { 0, 0x0f, 0x38, 0x3a };

	memset(p, 0, 15);
	if (f->vex) {
		*p++ = 0xc4;
		*p++ = (uint8_t)(0xe0 | f->map);
		*p++ = (uint8_t)(f->w << 7 | 0x78 | f->l << 2 | f->pp);
	} else {
		if (f->pp & 1)
			*p++ = 0x66;
		if (f->pp & 2)
			*p++ = 0xf2;
		if (f->pp & 4)
			*p++ = 0xf3;
		if (f->w && mode == MODE_64)
			*p++ = 0x48;
		if (f->map)
			*p++ = 0x0f;
		if (f->map > MAP_0F)
			*p++ = maps[f->map];
	}
	*p++ = f->opcode;
	*p++ = (uint8_t)((f->mem ? 0 : 0xc0) | reg << 3 | rm);
	if (f->mem && rm == 4)
		*p = 0x0f; /* no index (would be invalid for a gather: xmm1), base rdi */
}

/* The mnemonic there, or 0 if the form is not to be tested. */
static uint16_t probe(const struct probe *pr, const struct form *f, unsigned reg, unsigned rm,
		      ZydisDecodedInstruction *d)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t bytes[15];

	probe_bytes(f, pr->forms->mode, reg, rm, bytes);
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&pr->forms->decoder, bytes, sizeof(bytes), d, op)))
		return 0;
	if (!features_allow(pr->host, d) || !features_allow(pr->guest, d) || is_denied(d) ||
	    touches_segment_register(d, op))
		return 0;
	/* Repeat prefixes without a meaning are left to a random prefix in gen.c. */
	if (!f->vex && (f->pp & 6)) {
		bool meant = d->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
					      ZYDIS_ATTRIB_HAS_REPNE);

		for (unsigned i = 0; i < d->raw.prefix_count && !meant; i++) {
			meant = d->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY &&
				(d->raw.prefixes[i].value & 0xfe) == 0xf2;
		}
		if (!meant)
			return 0;
	}
	/* 66 before a near branch: processors of different makers disagree. */
	if (pr->forms->mode == MODE_64 && (f->pp & 1) && d->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		return 0;
	/* PREFETCH of a register: #UD here, a NOP there. */
	if (!f->vex && f->map == MAP_0F && f->opcode == 0x0d && !f->mem)
		return 0;
	/* 66 BSWAP is undefined. */
	if (d->mnemonic == ZYDIS_MNEMONIC_BSWAP && (f->pp & 1))
		return 0;
	if (pr->only) {
		if (strcmp(pr->only, ZydisMnemonicGetString(d->mnemonic)) != 0)
			return 0;
	}
	return (uint16_t)d->mnemonic;
}

static int form_add(struct probe *pr, const struct form *f, uint16_t mnemonic, int reg, int rm,
		    bool modrm)
{
	struct forms *forms = pr->forms;
	struct form *n;

	if (forms->count == pr->room) {
		n = realloc(forms->form, sizeof(*n) * (pr->room ? pr->room * 2 : 1024));
		if (!n)
			return -ENOMEM;
		forms->form = n;
		pr->room = pr->room ? pr->room * 2 : 1024;
	}
	n = &forms->form[forms->count++];
	*n = *f;
	n->mnemonic = mnemonic;
	n->reg = (int8_t)reg;
	n->rm = (int8_t)rm;
	n->modrm = modrm;
	return 0;
}

/* One opcode with one set of prefixes: a form for all values of reg (and rm) or one for each. */
static int probe_opcode(struct probe *pr, const struct form *f)
{
	ZydisDecodedInstruction d;
	uint16_t m[8][8] = { 0 };
	bool modrm = false, same_rm, same_all = true, gather = false;
	int r = 0;

	for (unsigned reg = 0; reg < 8; reg++) {
		for (unsigned rm = 0; rm < 8; rm++) {
			m[reg][rm] = probe(pr, f, reg, f->mem ? 4 : rm, &d);
			if (m[reg][rm]) {
				modrm |= !!(d.attributes & ZYDIS_ATTRIB_HAS_MODRM);
				gather |= d.meta.isa_set == ZYDIS_ISA_SET_AVX2GATHER;
			}
			same_all &= m[reg][rm] == m[0][0];
		}
	}
	if (!modrm)
		/* No ModRM byte: m[0][0] says it all; the variant with memory is the same. */
		return m[0][0] && !f->mem ? form_add(pr, f, m[0][0], -1, -1, false) : 0;
	if (same_all)
		return m[0][0] ? form_add(pr, f, m[0][0], -1, -1, true) : 0;
	if (gather)
		return form_add(pr, f, m[0][0] ? m[0][0] : m[3][0], -1, -1, true);
	for (int reg = 0; reg < 8 && r == 0; reg++) {
		same_rm = true;
		for (unsigned rm = 1; rm < 8; rm++)
			same_rm &= m[reg][rm] == m[reg][0];
		if (same_rm && m[reg][0])
			r = form_add(pr, f, m[reg][0], reg, -1, true);
		for (int rm = 0; rm < 8 && r == 0 && !same_rm; rm++) {
			if (m[reg][rm])
				r = form_add(pr, f, m[reg][rm], reg, rm, true);
		}
	}
	return r;
}

static int by_mnemonic(const void *a, const void *b)
{
	const struct form *x = a, *y = b;

	return x->mnemonic != y->mnemonic ? (x->mnemonic < y->mnemonic ? -1 : 1) :
					    memcmp(x, y, sizeof(*x));
}

static bool is_prefix(unsigned opcode, uint8_t mode)
{
	return opcode == 0x0f || opcode == 0x66 || opcode == 0x67 || opcode == 0xf0 ||
	       (opcode & 0xfe) == 0xf2 || (opcode & 0xfe) == 0x64 || (opcode & 0xe7) == 0x26 ||
	       (mode == MODE_64 && (opcode & 0xf0) == 0x40);
}

static int enumerate(struct probe *pr)
{
	static const uint8_t legacy_pp[] = { 0, 1, 2, 4, 3, 5 };
	const unsigned w_max = pr->forms->mode == MODE_64 ? 2 : 1;
	int r = 0;

	for (unsigned n = 0; n < 4 * 256 * 6 * 2 * 2 && r == 0; n++) {
		struct form f = { .opcode = (uint8_t)n, .map = n >> 8 & 3, .mem = n >> 10 & 1,
				  .w = n >> 11 & 1, .pp = legacy_pp[(n >> 12) % 6] };

		if ((f.map == MAP_1 && is_prefix(f.opcode, pr->forms->mode)) || f.w >= w_max ||
		    (f.map == MAP_0F && (f.opcode == 0x38 || f.opcode == 0x3a || f.opcode == 0x0f)))
			continue;
		r = probe_opcode(pr, &f);
	}
	for (unsigned n = 0; n < 4 * 256 * 4 * 2 * 2 * 2 && r == 0; n++) {
		struct form f = { .vex = 1, .opcode = (uint8_t)n, .map = n >> 8 & 3,
				  .mem = n >> 10 & 1, .w = n >> 11 & 1, .l = n >> 12 & 1,
				  .pp = n >> 13 & 3 };

		if (f.map != MAP_1)
			r = probe_opcode(pr, &f);
	}
	return r;
}

int forms_init(struct forms *forms, uint8_t mode, const struct features *host,
	       const struct features *guest, const char *only)
{
	struct probe pr = { .host = host, .guest = guest, .only = only, .forms = forms };
	int r;

	memset(forms, 0, sizeof(*forms));
	forms->mode = mode;
	ZydisDecoderInit(&forms->decoder,
			 mode == MODE_64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
			 mode == MODE_64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
	r = enumerate(&pr);
	if (r < 0 || !forms->count)
		return r;
	qsort(forms->form, forms->count, sizeof(*forms->form), by_mnemonic);
	forms->mnemonics = calloc(forms->count, sizeof(*forms->mnemonics));
	forms->first = calloc(forms->count + 1, sizeof(*forms->first));
	if (!forms->mnemonics || !forms->first)
		return -ENOMEM;
	for (size_t i = 0; i < forms->count; i++) {
		if (i && forms->form[i].mnemonic == forms->form[i - 1].mnemonic)
			continue;
		forms->mnemonics[forms->mnemonic_count] = forms->form[i].mnemonic;
		forms->first[forms->mnemonic_count++] = (uint32_t)i;
	}
	forms->first[forms->mnemonic_count] = (uint32_t)forms->count;
	return 0;
}

void forms_fini(struct forms *forms)
{
	free(forms->form);
	free(forms->mnemonics);
	free(forms->first);
	memset(forms, 0, sizeof(*forms));
}

/* --- undefined flags ------------------------------------------------------------------------------ */

#define ALL FL_ARITH
#define SZAP (FL_SF | FL_ZF | FL_AF | FL_PF)

/* What the manuals leave undefined (SDM volume 2, APM volume 3), where either does. Zydis' own word
 * is added. Counts are not looked at: a shift by 1 defines more than is compared here; the
 * hand-written cases check that. */
static const struct {
	uint16_t mnemonic;
	uint32_t flags;
} undefined[] = {
	{ ZYDIS_MNEMONIC_AND, FL_AF },
	{ ZYDIS_MNEMONIC_OR, FL_AF },
	{ ZYDIS_MNEMONIC_XOR, FL_AF },
	{ ZYDIS_MNEMONIC_TEST, FL_AF },
	{ ZYDIS_MNEMONIC_SHL, FL_AF | FL_OF | FL_CF },
	{ ZYDIS_MNEMONIC_SHR, FL_AF | FL_OF | FL_CF },
	{ ZYDIS_MNEMONIC_SAR, FL_AF | FL_OF | FL_CF },
	{ ZYDIS_MNEMONIC_ROL, FL_OF },
	{ ZYDIS_MNEMONIC_ROR, FL_OF },
	{ ZYDIS_MNEMONIC_RCL, FL_OF },
	{ ZYDIS_MNEMONIC_RCR, FL_OF },
	{ ZYDIS_MNEMONIC_SHLD, FL_AF | FL_OF | FL_CF },
	{ ZYDIS_MNEMONIC_SHRD, FL_AF | FL_OF | FL_CF },
	{ ZYDIS_MNEMONIC_MUL, SZAP },
	{ ZYDIS_MNEMONIC_IMUL, SZAP },
	{ ZYDIS_MNEMONIC_DIV, ALL },
	{ ZYDIS_MNEMONIC_IDIV, ALL },
	{ ZYDIS_MNEMONIC_BSF, ALL & ~FL_ZF },
	{ ZYDIS_MNEMONIC_BSR, ALL & ~FL_ZF },
	{ ZYDIS_MNEMONIC_BT, FL_OF | FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BTS, FL_OF | FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BTR, FL_OF | FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BTC, FL_OF | FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_LZCNT, FL_OF | FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_TZCNT, FL_OF | FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_ANDN, FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BEXTR, FL_SF | FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BZHI, FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BLSI, FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BLSR, FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_BLSMSK, FL_AF | FL_PF },
	{ ZYDIS_MNEMONIC_AAA, FL_OF | FL_SF | FL_ZF | FL_PF },
	{ ZYDIS_MNEMONIC_AAS, FL_OF | FL_SF | FL_ZF | FL_PF },
	{ ZYDIS_MNEMONIC_AAD, FL_OF | FL_AF | FL_CF },
	{ ZYDIS_MNEMONIC_AAM, FL_OF | FL_AF | FL_CF },
	{ ZYDIS_MNEMONIC_DAA, FL_OF },
	{ ZYDIS_MNEMONIC_DAS, FL_OF },
};

uint32_t undefined_flags(const ZydisDecodedInstruction *insn)
{
	uint32_t flags = insn->cpu_flags ? insn->cpu_flags->undefined & ALL : 0;

	for (size_t i = 0; i < sizeof(undefined) / sizeof(undefined[0]); i++) {
		if (undefined[i].mnemonic == insn->mnemonic)
			flags |= undefined[i].flags;
	}
	return flags;
}
