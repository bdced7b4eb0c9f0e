/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_insn.c - the VMX instructions in root operation (SDM 3D chapter 31). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

#define FEATURE_LOCKED 1u
#define FEATURE_OUTSIDE_SMX 4u

/* --- how they end --------------------------------------------------------------------------- */

static int succeed(struct soft_vcpu *v)
{
	soft_set_arith(v, 0);
	return sys_done(v);
}

static int fail_invalid(struct soft_vcpu *v)
{
	soft_set_arith(v, FL_CF);
	return sys_done(v);
}

static int fail(struct soft_vcpu *v, enum vmx_error error)
{
	if (v->vmx.current == VMCS_NONE)
		return fail_invalid(v);
	v->vmx.vmcs.insn_error = error;
	v->vmx.dirty = true;
	soft_set_arith(v, FL_ZF);
	return sys_done(v);
}

/* --- the current VMCS and guest memory ------------------------------------------------------ */

bool soft_vmx_address_ok(const struct soft_vcpu *v, uint64_t gpa, unsigned align)
{
	return !(gpa & (align - 1)) && !(gpa & ~sys_cpuid(v)->phys_mask);
}

static struct soft_vmcs_region *region_at(struct soft_vcpu *v, uint64_t gpa, bool write)
{
	return (struct soft_vmcs_region *)(void *)soft_gpa_ptr(v, gpa, write);
}

static uint32_t revision_at(struct soft_vcpu *v, uint64_t gpa)
{
	const struct soft_vmcs_region *r = region_at(v, gpa, false);

	return r ? __atomic_load_n(&r->revision, __ATOMIC_RELAXED) : 0xffffffffu;
}

static void region_written(struct soft_vcpu *v, uint64_t gpa)
{
	if (soft_code_overlaps(soft_vm_of(v), gpa, VMCS_REGION_SIZE))
		soft_code_written(soft_vm_of(v), v, gpa, VMCS_REGION_SIZE);
}

void soft_vmx_flush(struct soft_vcpu *v)
{
	struct soft_vmcs_region *r;

	if (v->vmx.current == VMCS_NONE || !v->vmx.dirty)
		return;
	v->vmx.dirty = false;
	r = region_at(v, v->vmx.current, true);
	if (!r) /* its memory is gone */
		return;
	r->launched = v->vmx.launched;
	soft_copy(&r->vmcs, &v->vmx.vmcs, sizeof(r->vmcs));
	region_written(v, v->vmx.current);
}

void soft_vmx_reset(struct soft_vcpu *v)
{
	soft_zero(&v->vmx, sizeof(v->vmx));
	v->vmx.vmxon = v->vmx.current = VMCS_NONE;
	v->nonroot = false;
	v->eptp = 0;
}

/* --- checks that they begin with ------------------------------------------------------------ */

/* What they all are #UD for. */
static bool undefined(const struct soft_vcpu *v)
{
	return !sys_protected(v) || (sys_long(v) && !sys_code64(v));
}

/* SOFT_OK: root operation, CPL 0. */
static int begin(struct soft_vcpu *v, const struct soft_insn *insn, enum vmx_reason reason)
{
	if (!v->vmx.on || undefined(v))
		return sys_ud(v);
	if (soft_nonroot(v))
		return soft_vmx_exit_operands(v, insn, reason, 0);
	return v->cpl == 0 ? SOFT_OK : sys_gp0(v);
}

static int read_memory(struct soft_vcpu *v, const struct soft_insn *insn, void *buf, unsigned n)
{
	uint64_t la = 0;
	int rc;

	if (insn->mem[0] < 0)
		return sys_ud(v);
	rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], false, &la);
	return rc == SOFT_OK ? soft_read(v, la, buf, n, 0) : rc;
}

/* --- VMXON, VMXOFF -------------------------------------------------------------------------- */

static bool may_turn_on(const struct soft_vcpu *v)
{
	const struct soft_vmx_caps *caps = soft_vmx_caps(v);
	uint64_t need = FEATURE_LOCKED | FEATURE_OUTSIDE_SMX;

	return v->cpl == 0 && (v->cr0 & caps->cr0_must) == caps->cr0_must &&
	       (v->cr4 & caps->cr4_must) == caps->cr4_must && (v->feature_control & need) == need;
}

static int op_vmxon(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t gpa = 0;
	int rc;

	if (undefined(v) || !(v->cr4 & CR4_VMXE) || insn->mem[0] < 0)
		return sys_ud(v);
	if (soft_nonroot(v))
		return soft_vmx_exit_operands(v, insn, REASON_VMXON, 0);
	if (v->vmx.on)
		return v->cpl == 0 ? fail(v, VMERR_VMXON_ROOT) : sys_gp0(v);
	if (!may_turn_on(v))
		return sys_gp0(v);
	rc = read_memory(v, insn, &gpa, 8);
	if (rc != SOFT_OK)
		return rc;
	if (!soft_vmx_address_ok(v, gpa, VMX_PAGE_SIZE) || revision_at(v, gpa) != VMCS_REVISION)
		return fail_invalid(v);
	soft_vmx_reset(v);
	v->vmx.on = true;
	v->vmx.vmxon = gpa;
	return succeed(v);
}

static int op_vmxoff(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int rc = begin(v, insn, REASON_VMXOFF);

	if (rc != SOFT_OK)
		return rc;
	soft_vmx_flush(v);
	soft_vmx_reset(v);
	soft_events_recheck(v); /* INIT was blocked */
	return succeed(v);
}

/* --- VMCLEAR, VMPTRLD, VMPTRST -------------------------------------------------------------- */

static int op_vmclear(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct soft_vmcs_region *r;
	uint64_t gpa = 0;
	int rc = begin(v, insn, REASON_VMCLEAR);

	if (rc == SOFT_OK)
		rc = read_memory(v, insn, &gpa, 8);
	if (rc != SOFT_OK)
		return rc;
	if (!soft_vmx_address_ok(v, gpa, VMX_PAGE_SIZE))
		return fail(v, VMERR_VMCLEAR_ADDRESS);
	if (gpa == v->vmx.vmxon)
		return fail(v, VMERR_VMCLEAR_VMXON);
	if (gpa == v->vmx.current) {
		soft_vmx_flush(v);
		v->vmx.current = VMCS_NONE;
	}
	r = region_at(v, gpa, true);
	if (r) {
		r->launched = false;
		region_written(v, gpa);
	}
	return succeed(v);
}

/* The bit of the revision identifier that a processor with VMCS shadowing accepts. */
static uint32_t shadow_bit(const struct soft_vcpu *v)
{
	return soft_vmx_has(soft_vmx_caps(v), VMX_NEED(VMX_PROC2, 14)) ? VMCS_SHADOW : 0;
}

static int op_vmptrld(struct soft_vcpu *v, const struct soft_insn *insn)
{
	const struct soft_vmcs_region *r;
	uint64_t gpa = 0;
	uint32_t revision;
	int rc = begin(v, insn, REASON_VMPTRLD);

	if (rc == SOFT_OK)
		rc = read_memory(v, insn, &gpa, 8);
	if (rc != SOFT_OK)
		return rc;
	if (!soft_vmx_address_ok(v, gpa, VMX_PAGE_SIZE))
		return fail(v, VMERR_VMPTRLD_ADDRESS);
	if (gpa == v->vmx.vmxon)
		return fail(v, VMERR_VMPTRLD_VMXON);
	r = region_at(v, gpa, false);
	revision = revision_at(v, gpa);
	if (!r || (revision & ~shadow_bit(v)) != VMCS_REVISION)
		return fail(v, VMERR_VMPTRLD_REVISION);
	if (gpa != v->vmx.current) {
		soft_vmx_flush(v);
		soft_copy(&v->vmx.vmcs, &r->vmcs, sizeof(v->vmx.vmcs));
		v->vmx.launched = r->launched != 0;
		v->vmx.shadow = revision & VMCS_SHADOW;
		v->vmx.current = gpa;
		v->vmx.dirty = false;
	}
	return succeed(v);
}

static int op_vmptrst(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t la = 0;
	int rc = begin(v, insn, REASON_VMPTRST);

	if (rc == SOFT_OK && insn->mem[0] < 0)
		return sys_ud(v);
	if (rc == SOFT_OK)
		rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], true, &la);
	if (rc == SOFT_OK)
		rc = soft_write(v, la, &v->vmx.current, 8, ACC_WRITE);
	return rc == SOFT_OK ? succeed(v) : rc;
}

/* --- VMREAD, VMWRITE ------------------------------------------------------------------------ */

/* An encoding beyond 32 bits names nothing. */
static const struct vmcs_field *find_field(const struct soft_vcpu *v, uint64_t encoding)
{
	return encoding >> 32 ? NULL : soft_vmcs_field(soft_vmx_caps(v), (uint32_t)encoding);
}

/* A VMREAD or VMWRITE: which field of which VMCS. */
struct access {
	uint64_t encoding;
	struct soft_vmcs *vmcs; /* in non-root operation the shadow VMCS, in guest memory */
	const struct vmcs_field *field;
};

/* Where operand i lies if it is a 64-bit register, which most are; NULL if not. */
static uint64_t *register64(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i)
{
	ZydisRegister reg = insn->op[i].reg.value;

	if (insn->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER || reg < ZYDIS_REGISTER_RAX ||
	    reg > ZYDIS_REGISTER_R15)
		return NULL;
	return &v->gpr[reg - ZYDIS_REGISTER_RAX];
}

static int read_operand(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, uint64_t *val)
{
	const uint64_t *reg = register64(v, insn, i);

	if (!reg)
		return soft_read_operand(v, insn, i, val);
	*val = *reg;
	return SOFT_OK;
}

static int write_operand(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, uint64_t val)
{
	uint64_t *reg = register64(v, insn, i);

	if (!reg)
		return soft_write_operand(v, insn, i, val);
	*reg = val;
	return SOFT_OK;
}

/* The VMCS that the access is for, NULL if there is none. */
static struct soft_vmcs *accessed(struct soft_vcpu *v)
{
	struct soft_vmcs_region *r;

	if (!soft_nonroot(v))
		return v->vmx.current == VMCS_NONE ? NULL : &v->vmx.vmcs;
	if (v->vmx.vmcs.link_pointer == VMCS_NONE)
		return NULL;
	r = region_at(v, v->vmx.vmcs.link_pointer, true);
	return r ? &r->vmcs : NULL;
}

/* operand: the one with the encoding, a register; bitmap: which fields exit. SOFT_OK: go on, with
 * a->field NULL if there is no such field, and a->vmcs NULL if there is no VMCS. */
static int begin_access(struct soft_vcpu *v, const struct soft_insn *insn, enum vmx_reason reason,
			unsigned operand, uint64_t bitmap, struct access *a)
{
	int rc;

	if (!v->vmx.on || undefined(v))
		return sys_ud(v);
	rc = read_operand(v, insn, operand, &a->encoding);
	if (rc != SOFT_OK)
		return rc;
	if (soft_nonroot(v) &&
	    (!soft_vmx_proc2(v, PROC2_SHADOW_VMCS) || a->encoding >> 15 ||
	     soft_vmx_bitmap_bit(v, bitmap, (unsigned)a->encoding)))
		return soft_vmx_exit_operands(v, insn, reason, 0);
	if (v->cpl != 0)
		return sys_gp0(v);
	a->vmcs = accessed(v);
	a->field = find_field(v, a->encoding);
	return SOFT_OK;
}

static int op_vmread(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct access a = { 0 };
	int rc = begin_access(v, insn, REASON_VMREAD, 1, v->vmx.vmcs.vmread_bitmap, &a);

	if (rc != SOFT_OK)
		return rc;
	if (!a.vmcs)
		return fail_invalid(v);
	if (!a.field)
		return fail(v, VMERR_FIELD);
	rc = write_operand(v, insn, 0, soft_vmcs_get(a.vmcs, a.field, (uint32_t)a.encoding));
	return rc == SOFT_OK ? succeed(v) : rc;
}

static int op_vmwrite(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct access a = { 0 };
	uint64_t value = 0;
	int rc = begin_access(v, insn, REASON_VMWRITE, 0, v->vmx.vmcs.vmwrite_bitmap, &a);

	if (rc == SOFT_OK && !a.vmcs)
		return fail_invalid(v);
	if (rc == SOFT_OK)
		rc = read_operand(v, insn, 1, &value);
	if (rc != SOFT_OK)
		return rc;
	if (!a.field)
		return fail(v, VMERR_FIELD);
	if (vmcs_type((uint32_t)a.encoding) == VMCS_READ_ONLY &&
	    !(soft_vmx_caps(v)->misc & MISC_WRITE_ALL))
		return fail(v, VMERR_READ_ONLY);
	soft_vmcs_set(a.vmcs, a.field, (uint32_t)a.encoding, value);
	if (soft_nonroot(v))
		region_written(v, v->vmx.vmcs.link_pointer);
	else
		v->vmx.dirty = true;
	return succeed(v);
}

/* --- VMLAUNCH, VMRESUME, VMCALL ------------------------------------------------------------- */

static int enter(struct soft_vcpu *v, const struct soft_insn *insn, bool launch)
{
	unsigned error;
	int rc = begin(v, insn, launch ? REASON_VMLAUNCH : REASON_VMRESUME);

	if (rc != SOFT_OK)
		return rc;
	if (v->vmx.current == VMCS_NONE || v->vmx.shadow)
		return fail_invalid(v);
	if (v->shadow == SHADOW_MOV_SS)
		return fail(v, VMERR_MOV_SS);
	if (launch && v->vmx.launched)
		return fail(v, VMERR_LAUNCH_NOT_CLEAR);
	if (!launch && !v->vmx.launched)
		return fail(v, VMERR_RESUME_NOT_LAUNCHED);
	error = soft_vmx_check_controls(v);
	if (!error)
		error = soft_vmx_check_host(v);
	return error ? fail(v, error) : soft_vmx_enter(v);
}

static int op_vmlaunch(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return enter(v, insn, true);
}

static int op_vmresume(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return enter(v, insn, false);
}

/* Outside VMX operation it is the hypercall of the machine that this VM runs on. */
static int op_vmcall(struct soft_vcpu *v, const struct soft_insn *insn)
{
	if (!v->vmx.on)
		return sys_op_hypercall(v, insn);
	if (soft_nonroot(v))
		return soft_vmx_exit(v, REASON_VMCALL, 0);
	if (undefined(v))
		return sys_ud(v);
	return v->cpl == 0 ? fail(v, VMERR_VMCALL_ROOT) : sys_gp0(v);
}

/* --- INVEPT, INVVPID ------------------------------------------------------------------------ */

static int read_descriptor(struct soft_vcpu *v, const struct soft_insn *insn, enum vmx_reason reason,
			   uint64_t *ret_type, uint64_t desc[2])
{
	int rc = begin(v, insn, reason);

	if (rc == SOFT_OK)
		rc = soft_read_operand(v, insn, 0, ret_type);
	if (rc == SOFT_OK)
		rc = read_memory(v, insn, desc, 16);
	return rc;
}

static int op_invept(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t type = 0, desc[2];
	int rc;

	if (!(soft_vmx_caps(v)->ept_vpid & 1ull << 20))
		return sys_ud(v);
	rc = read_descriptor(v, insn, REASON_INVEPT, &type, desc);
	if (rc != SOFT_OK)
		return rc;
	if ((type != 1 && type != 2) || desc[1] || (type == 1 && !soft_vmx_eptp_ok(v, desc[0])))
		return fail(v, VMERR_INVALIDATE);
	soft_invept(v, type == 2, desc[0]);
	return succeed(v);
}

static int op_invvpid(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t type = 0, desc[2];
	int rc;

	if (!(soft_vmx_caps(v)->ept_vpid & 1ull << 32))
		return sys_ud(v);
	rc = read_descriptor(v, insn, REASON_INVVPID, &type, desc);
	if (rc != SOFT_OK)
		return rc;
	if (type > 3 || desc[0] >> 16 || (type != 2 && !desc[0]) ||
	    (type == 0 && !sys_canonical(desc[1])))
		return fail(v, VMERR_INVALIDATE);
	soft_invvpid(v, (enum soft_invvpid)type, (uint16_t)desc[0], desc[1]);
	return succeed(v);
}

const struct soft_op soft_vmx_op_table[] = {
	{ ZYDIS_MNEMONIC_VMXON, op_vmxon, 0 },
	{ ZYDIS_MNEMONIC_VMXOFF, op_vmxoff, 0 },
	{ ZYDIS_MNEMONIC_VMCLEAR, op_vmclear, 0 },
	{ ZYDIS_MNEMONIC_VMPTRLD, op_vmptrld, 0 },
	{ ZYDIS_MNEMONIC_VMPTRST, op_vmptrst, 0 },
	{ ZYDIS_MNEMONIC_VMREAD, op_vmread, SOFT_OP_FALLS },
	{ ZYDIS_MNEMONIC_VMWRITE, op_vmwrite, SOFT_OP_FALLS },
	{ ZYDIS_MNEMONIC_VMLAUNCH, op_vmlaunch, 0 },
	{ ZYDIS_MNEMONIC_VMRESUME, op_vmresume, 0 },
	{ ZYDIS_MNEMONIC_VMCALL, op_vmcall, 0 },
	{ ZYDIS_MNEMONIC_INVEPT, op_invept, 0 },
	{ ZYDIS_MNEMONIC_INVVPID, op_invvpid, 0 },
	{ 0, NULL, 0 },
};
