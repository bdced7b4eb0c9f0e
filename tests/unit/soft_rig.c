/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/soft_rig.h"
#include "vmx-driver/soft/vmx_ops.h"

static struct rig *rig_of(struct soft_vcpu *v)
{
	return (struct rig *)(void *)((char *)v - offsetof(struct rig, v));
}

struct rig *rig_new(unsigned code)
{
	struct rig *r = aligned_alloc(4096, (sizeof(*r) + 4095) & ~(size_t)4095);
	struct soft_vcpu *v;

	if (!r)
		abort();
	memset(r, 0, sizeof(*r));
	v = &r->v;
	v->v.vm = &r->vm.vm;
	v->self = v;
	v->xsave = r->xsave;
	r->xsave[512] = 7;
	r->missing = true;
	for (const struct soft_op *op = soft_step_ops; op->fn; op++)
		r->vm.ops[op->mnemonic] = op;
	if (soft_decoder_init(v))
		abort();
	for (unsigned i = 0; i < 6; i++) {
		v->seg[i].limit = code == CODE_16 ? 0xffff : 0xffffffff;
		v->seg[i].attributes = 0x93;
		/* In 16-bit code the RAM is reached from offset 0. */
		v->seg[i].base = code == CODE_16 ? RIG_RAM : 0;
	}
	if (code == CODE_64) {
		v->efer = EFER_LMA;
		v->seg[SOFT_CS].attributes = 0x209b;
	} else if (code == CODE_32) {
		v->seg[SOFT_CS].attributes = 0x409b;
		v->seg[SOFT_SS].attributes = 0x4093;
	}
	v->cr0 = code == CODE_16 ? 0 : CR0_PE;
	v->cr4 = CR4_OSFXSR | CR4_OSXSAVE;
	v->xcr0 = 7;
	soft_set_rflags(v, 2);
	v->gpr[SOFT_RSP] = code == CODE_16 ? RIG_STACK - RIG_RAM : RIG_STACK;
	soft_update_mode(v);
	return r;
}

void rig_free(struct rig *r)
{
	if (!r)
		return;
	soft_decoder_fini(&r->v);
	free(r);
}

uint8_t *rig_at(struct rig *r, uint64_t la)
{
	return r->ram + (la - RIG_RAM) % RIG_SIZE;
}

void rig_code(struct rig *r, const void *bytes, size_t n)
{
	memcpy(rig_at(r, RIG_CODE), bytes, n);
	r->v.rip = RIG_CODE - r->v.seg[SOFT_CS].base;
}

int rig_step(struct rig *r, uint64_t answer)
{
	int rc;

	while ((rc = soft_step(&r->v)) == SOFT_EXIT) {
		r->exits++;
		r->v.log.entry[r->v.log.count].data = answer;
		r->v.log.count++;
	}
	return rc;
}

/* --- what other files of the engine give ---------------------------------------------------- */
int soft_raise(struct soft_vcpu *v, unsigned vector)
{
	v->exc = (struct soft_exc){ .vector = (uint8_t)vector };
	return SOFT_EXCEPTION;
}
int soft_raise_error(struct soft_vcpu *v, unsigned vector, uint32_t error)
{
	v->exc = (struct soft_exc){ .vector = (uint8_t)vector, .has_error = true, .error = error };
	return SOFT_EXCEPTION;
}
int soft_raise_pf(struct soft_vcpu *v, uint64_t la, uint32_t error)
{
	soft_raise_error(v, EXC_PF, error);
	v->exc.cr2 = la;
	return SOFT_EXCEPTION;
}

int soft_linear(struct soft_vcpu *v, unsigned seg, uint64_t offset, unsigned size, bool write,
		uint64_t *ret_la)
{
	unsigned vector = seg == SOFT_SS ? EXC_SS : EXC_GP;

	(void)write;
	if ((v->mode & MODE_CODE) == CODE_64) {
		*ret_la = offset + (seg == SOFT_FS || seg == SOFT_GS ? v->seg[seg].base : 0);
		return soft_canonical(*ret_la) ? SOFT_OK : soft_raise_error(v, vector, 0);
	}
	if (offset + size - 1 > v->seg[seg].limit)
		return soft_raise_error(v, vector, 0);
	*ret_la = (uint32_t)(v->seg[seg].base + offset);
	return SOFT_OK;
}

int soft_load_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector)
{
	if (selector == 0xdead)
		return soft_raise_error(v, EXC_GP, 0xdead);
	v->seg[seg].selector = selector;
	return SOFT_OK;
}

static bool device(uint64_t la)
{
	return (la & ~0xfffull) == RIG_DEVICE;
}

int soft_probe(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags)
{
	struct rig *r = rig_of(v);

	for (unsigned i = 0; i < n; i++) {
		uint64_t at = la + i;

		if (at < RIG_RAM || at >= RIG_RAM + RIG_SIZE ||
		    (r->missing && (at & ~0xfffull) == RIG_MISSING))
			return soft_raise_pf(v, at, flags & ACC_WRITE ? 2 : 0);
	}
	return SOFT_OK;
}

static int log_access(struct soft_vcpu *v, enum soft_log_kind kind, uint64_t addr, unsigned size,
		      uint64_t *data)
{
	struct soft_log *log = &v->log;

	if (log->next < log->count) {
		if (kind == SOFT_LOG_MEM_READ || kind == SOFT_LOG_IO_READ)
			*data = log->entry[log->next].data;
		log->next++;
		return SOFT_OK;
	}
	log->entry[log->count].kind = kind;
	log->entry[log->count].size = (uint8_t)size;
	log->entry[log->count].addr = addr;
	v->exit_request.rflags = kind == SOFT_LOG_MEM_READ || kind == SOFT_LOG_IO_READ ? 0 : *data;
	return SOFT_EXIT;
}

int soft_read(struct soft_vcpu *v, uint64_t la, void *buf, unsigned n, unsigned flags)
{
	uint64_t data = 0;
	int rc = soft_probe(v, la, n, flags);

	if (rc)
		return rc;
	if (device(la)) {
		rc = log_access(v, SOFT_LOG_MEM_READ, la, n, &data);
		memcpy(buf, &data, n > 8 ? 8 : n);
		return rc;
	}
	memcpy(buf, rig_at(rig_of(v), la), n);
	return SOFT_OK;
}

int soft_write(struct soft_vcpu *v, uint64_t la, const void *buf, unsigned n, unsigned flags)
{
	uint64_t data = 0;
	int rc = soft_probe(v, la, n, flags);

	if (rc)
		return rc;
	memcpy(&data, buf, n > 8 ? 8 : n);
	if (device(la))
		return log_access(v, SOFT_LOG_MEM_WRITE, la, n, &data);
	if ((la & ~0xfffull) == RIG_CODED)
		rig_of(v)->code_writes++;
	memcpy(rig_at(rig_of(v), la), buf, n);
	return SOFT_OK;
}

int soft_host_ptr(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags, void **ret_host)
{
	struct rig *r = rig_of(v);
	int rc = soft_probe(v, la, n, flags);

	*ret_host = NULL;
	if (rc == SOFT_OK && !r->no_ptr && (la & 0xfff) + n <= 0x1000 && !device(la) &&
	    !((flags & ACC_WRITE) && (la & ~0xfffull) == RIG_CODED))
		*ret_host = rig_at(r, la);
	return rc;
}

int soft_fetch(struct soft_vcpu *v, uint64_t la, uint8_t *buf, unsigned max, unsigned *ret_n,
	       uint64_t *ret_gpa)
{
	unsigned n = 0;
	int rc = soft_probe(v, la, 1, ACC_EXEC);

	if (rc)
		return rc;
	while (n < max && soft_probe(v, la + n, 1, ACC_EXEC) == SOFT_OK) {
		buf[n] = *rig_at(rig_of(v), la + n);
		n++;
	}
	*ret_n = n;
	*ret_gpa = la;
	return SOFT_OK;
}

int soft_walk(struct soft_vcpu *v, uint64_t la, unsigned access_flags, bool user, bool set_ad,
	      uint64_t *ret_gpa, uint32_t *ret_pf_error, unsigned *ret_level)
{
	(void)user;
	(void)set_ad;
	(void)ret_pf_error;
	(void)ret_level;
	*ret_gpa = la;
	return soft_probe(v, la, 1, access_flags);
}

uint8_t *soft_gpa_ptr(struct soft_vcpu *v, uint64_t gpa, bool write)
{
	(void)write;
	return device(gpa) ? NULL : rig_at(rig_of(v), gpa);
}

/* The rig is never in non-root operation. */
int soft_vmx_intercept_io(struct soft_vcpu *v, uint16_t port, unsigned size, bool in,
			  const struct soft_insn *insn)
{
	(void)v, (void)port, (void)size, (void)in, (void)insn;
	return SOFT_OK;
}

int soft_port(struct soft_vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *data)
{
	uint64_t val = *data;
	int rc = log_access(v, write ? SOFT_LOG_IO_WRITE : SOFT_LOG_IO_READ, port, size, &val);

	*data = (uint32_t)val;
	return rc;
}

int soft_io_allowed(struct soft_vcpu *v, uint16_t port, unsigned size)
{
	(void)size;
	return port == 0x666 ? soft_raise_error(v, EXC_GP, 0) : SOFT_OK;
}

void soft_ibtc_flush(struct soft_vcpu *v, unsigned ctx)
{
	(void)ctx;
	rig_of(v)->flushes++;
}
void soft_tlb_flush_ctx(struct soft_vcpu *v, unsigned ctx)
{
	soft_ibtc_flush(v, ctx);
}
void soft_events_recheck(struct soft_vcpu *v)
{
	(void)v;
}
void soft_fp_save(struct soft_vcpu *v)
{
	rig_of(v)->fp_saves++;
}
void soft_exclusive_begin(struct soft_vm *vm, struct soft_vcpu *v)
{
	(void)vm;
	(void)v;
}
void soft_exclusive_end(struct soft_vm *vm, struct soft_vcpu *v)
{
	(void)vm;
	(void)v;
}
bool soft_isa_allowed(struct soft_vm *vm, const ZydisDecodedInstruction *zi)
{
	(void)vm;
	return zi->meta.isa_ext != ZYDIS_ISA_EXT_SSE4A;
}
int soft_op_mov_system(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_done(v);
}
int soft_op_jmp_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_done(v);
}
int soft_op_call_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_done(v);
}
int soft_op_ret_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_done(v);
}

/* Native execution of the few instructions the tests use. */
int soft_exec_native(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->mem[0] >= 0 ? insn->op[insn->mem[0]].size / 8u : 0;
	uint64_t val = 0, reg;

	rig_of(v)->native_runs++;
	if (size > 8) {
		if (insn->zi.mnemonic == ZYDIS_MNEMONIC_MOVAPS && ((uintptr_t)v->opnd_ptr & 15))
			return soft_raise_error(v, EXC_GP, 0);
		return SOFT_OK;
	}
	if (size)
		memcpy(&val, v->opnd_ptr, size);
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_ADD: /* ADD memory, EAX: flags stand for what changed */
		val += v->gpr[SOFT_RAX];
		v->aflags ^= 0x4000;
		memcpy(v->opnd_ptr, &val, size);
		break;
	case ZYDIS_MNEMONIC_XADD: /* XADD memory, EAX */
		reg = v->gpr[SOFT_RAX];
		soft_set_gpr(v, SOFT_RAX, size, val);
		val += reg;
		memcpy(v->opnd_ptr, &val, size);
		break;
	case ZYDIS_MNEMONIC_DIV:
		return soft_raise(v, EXC_DE);
	default:
		break;
	}
	return SOFT_OK;
}

/* No VMX operation here. */
void soft_vmx_stepped(struct soft_vcpu *v)
{
	(void)v;
}
