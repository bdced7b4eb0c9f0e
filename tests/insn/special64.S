/* SPDX-License-Identifier: Apache-2.0 */
/*
 * special64.S - hand-written cases in 64-bit mode. See special.c for the registers they start with;
 * a case that runs off its end ends in INT3. No flag may be undefined at the end.
 *   rbx mem+0x400  rsi mem+0x200  rdi mem+0x600  rbp mem+0x800  rsp mem+0x1800
 *   r8 the border of the two data pages  r9 the end of the data (not present)  r10 read-only page
 *   r11 not canonical  rax 0x1122334455667788  rcx 5  rdx 0x8877665544332211  CF and ZF set
 */
	.intel_syntax noprefix
	.macro CASE name
	.pushsection .rodata.insn_names, "a"
76:	.asciz "\name"
	.popsection
77:
	.endm
	.macro END
78:
	.pushsection .data.rel.ro.insn64, "aw"
	.quad 76b, 77b, 78b
	.popsection
	.endm

	.section .data.rel.ro.insn64, "aw"
	.balign 8
	.globl insn_special64, insn_special64_end
insn_special64:

	.section .rodata.insn_code, "a"

CASE "flags live over a load"
	add rax, rdx
	mov rcx, [rbx]
	adc rcx, 0
	setz dl
END
CASE "flags live over a store across pages"
	cmp rax, rdx
	mov [r8-3], rax
	cmovb rcx, rdx
	pushfq
END
CASE "flags live over push and pop"
	stc
	push rax
	pop rcx
	adc rdx, rcx
END
CASE "flags live over a string instruction"
	cmp rax, rax
	movsq
	stosb
	lodsd
	setz cl
	setbe dl
END
CASE "carry kept by inc over memory"
	stc
	inc qword ptr [rbx]
	adc rax, 0
	dec dword ptr [r8-2]
	sbb rdx, 0
END
CASE "direction flag and loads"
	std
	lodsq
	stosw
	movsd
	cld
	cmpsb
END
CASE "crossing: 2 4 8 bytes"
	mov ax, [r8-1]
	mov ecx, [r8-2]
	mov rdx, [r8-5]
	mov [r8-1], cx
	mov [r8-3], edx
	mov [r8-7], rax
END
CASE "crossing: 16 and 32 bytes"
	movdqu xmm1, [r8-9]
	vmovdqu ymm2, [r8-1]
	movups [r8-15], xmm3
	vmovups [r8-31], ymm4
END
CASE "crossing: x87 10 bytes"
	fninit
	fld1
	fldpi
	fstp tbyte ptr [r8-3]
	fld tbyte ptr [r8-3]
	fistp qword ptr [r8-1]
END
CASE "crossing: locked"
	lock xadd [r8-3], rax
	lock cmpxchg [r8-1], edx
	lock inc word ptr [r8-1]
	xchg [r8-7], rcx
END
CASE "crossing: push, pop, call, ret"
	lea rsp, [r8+4]
	push rax
	push rdx
	pop rcx
	call 1f
1:	pop rsi
	sub rsp, 4
	push rsi
	lea rsi, [rip+2f]
	mov [rsp], rsi
	ret
	ud2
2:	nop
END
CASE "fault: second half of a store, nothing written"
	mov [r9-4], rax
END
CASE "fault: second half of a load, register kept"
	mov rax, [r9-1]
END
CASE "fault: push below the first page"
	lea rsp, [r8-0x1000]
	push rax
END
CASE "fault: pop beyond the end"
	mov rsp, r9
	pop rax
END
CASE "fault: pop to memory, rsp kept"
	pop qword ptr [r9]
END
CASE "fault: pop [rsp+8] uses the new rsp"
	pop qword ptr [rsp+8]
END
CASE "fault: read-modify-write of read-only memory"
	add dword ptr [r10], 0
END
CASE "fault: cmpxchg writes even if unequal"
	xor eax, eax
	cmpxchg [r10+64], rdx
END
CASE "flags: a compared register and the value from memory overwritten"
	mov rax, 5
	cmp rax, [rbx]
	mov rax, [rbx+0x200]
	adc rax, 0
	cmp rax, [rbx+16]
	mov rax, [rbx+0x300]
	mov rdx, [rbx+24]
	adc rdx, rax
END
CASE "flags: carries over memory"
	mov rcx, [rbx]
	add rcx, [rbx+8]
	mov rcx, [rbx+0x300]
	setc dl
	sub rcx, [rbx+24]
	mov rcx, [rbx+0x200]
	setb dh
	test [rbx+8], rcx
	mov rcx, [rbx+0x300]
	sets al
END
CASE "flags: of shifts and results overwritten"
	shl rcx, 7
	mov rcx, [rbx]
	mov rbp, [rbx+0x200]
	setc al
	shr edx, 3
	mov rdx, [rbx+8]
	setc ah
	neg rsi
	mov rsi, [rbx+8]
	adc rsi, 0
	sub rdi, rsi
	mov rsi, [rbx]
	mov rdi, [rbx+8]
	adc rdi, rsi
	add r9d, r12d
	mov r12, [rbx+8]
	mov r9, [rbx]
	adc r9, r12
END
CASE "fault: flags of a comparison whose operands are gone"
	mov rax, 5
	cmp rax, [rbx]
	mov rax, [rbx+0x200]
	mov [r10+64], rax
END
CASE "fault: xadd keeps the register"
	xadd [r9-2], ecx
END
CASE "fault: adc in the middle keeps flags"
	stc
	adc qword ptr [r9-3], -1
END
CASE "fault: shift in memory keeps flags"
	shl dword ptr [r10], cl
END
CASE "fault: rep movsb stops where it is"
	lea rdi, [r9-7]
	mov ecx, 20
	rep movsb
END
CASE "fault: rep movsq across the end"
	lea rdi, [r9-20]
	mov ecx, 20
	rep movsq
END
CASE "fault: rep movsb source"
	lea rsi, [r9-3]
	mov ecx, 20
	rep movsb
END
CASE "fault: rep stosd backwards"
	std
	lea rdi, [r8-0x1000+8]
	mov ecx, 9
	rep stosd
END
CASE "fault: repne scasb runs out of memory"
	lea rdi, [r9-0x90]
	xor eax, eax
	mov ecx, 1000
	cld
	inc rax
	shl rax, 9
	mov al, [r9-1]
	not al
	mov byte ptr [r9-1], al
	repe cmpsb
END
CASE "fault: divide by zero, nothing changed"
	xor ecx, ecx
	div rcx
END
CASE "fault: divide overflow"
	mov ecx, 3
	div ecx
END
CASE "fault: divide by memory that is not there"
	div qword ptr [r9]
END
CASE "fault: jump to nowhere"
	mov eax, 0x30000000
	jmp rax
END
CASE "fault: call through memory that is not there"
	call qword ptr [r9+8]
END
CASE "fault: call with a stack that is not there"
	mov rsp, r9
	add rsp, 0x200
	call 1f
1:
END
CASE "fault: ret from a stack that is not there"
	mov rsp, r9
	ret
END
CASE "fault: not canonical, data"
	mov rax, [r11]
END
CASE "fault: not canonical, stack segment"
	mov rbp, r11
	mov rax, [rbp]
END
CASE "fault: not canonical, push"
	mov rsp, r11
	push rax
END
CASE "fault: enter with a bad frame"
	mov rsp, r9
	sub rsp, 0x2000
	enter 16, 0
END
CASE "fault: leave from nowhere"
	mov rbp, r9
	leave
END
CASE "fault: no execution of data"
	jmp rbx
END
CASE "rep movsb overlapping by one"
	mov rdi, rsi
	inc rdi
	mov ecx, 100
	rep movsb
END
CASE "rep movsq overlapping backwards"
	std
	lea rsi, [rbx+0x100]
	lea rdi, [rbx+0x108]
	mov ecx, 20
	rep movsq
END
CASE "rep movsd across the border"
	lea rsi, [r8-33]
	mov ecx, 40
	rep movsd
END
CASE "rep stosq over both pages"
	lea rdi, [r8-0xf00]
	mov ecx, 0x3a0
	rep stosq
END
CASE "rep with a count of zero touches nothing"
	xor ecx, ecx
	mov rdi, r9
	rep stosb
	repne scasb
END
CASE "rep with 32-bit addresses"
	mov rax, 0xffffffff00000000
	or rcx, rax
	or rsi, rax
	or rdi, rax
	rep movs dword ptr es:[edi], dword ptr [esi]
END
CASE "repne scasb finds"
	mov byte ptr [rdi+9], 0x88
	mov ecx, 50
	repne scasb
	setz dl
END
CASE "repe cmpsb differs"
	mov ecx, 16
	lea rdi, [rsi]
	xor byte ptr [rsi+7], 1
	lea rsi, [rdi]
	mov rax, [rsi]
	mov [rbx], rax
	mov rdi, rbx
	xor byte ptr [rbx+5], 0x40
	repe cmpsb
END
CASE "self-modifying: the next instruction"
	lea rbx, [rip+1f]
	mov byte ptr [rbx+1], 0x42
1:	mov al, 0x11
END
CASE "self-modifying: a loop that changes its own constant"
	mov ecx, 4
	xor eax, eax
	lea rbx, [rip+1f]
1:	add eax, 0x01010101
	inc byte ptr [rbx+1]
	dec ecx
	jnz 1b
	cmp eax, eax
END
CASE "self-modifying: code run before, then changed"
	xor edx, edx
	mov ecx, 2
1:	call 2f
	lea rbx, [rip+2f]
	mov dword ptr [rbx], 0xc3c2ff90
	dec ecx
	jnz 1b
	cmp eax, eax
	jmp 3f
2:	add dl, 1
	ret
3:
END
CASE "self-modifying: rep stosb over what comes next"
	lea rdi, [rip+1f]
	mov al, 0x90
	mov ecx, 4
	rep stosb
1:	ud2
	ud2
END
CASE "self-modifying: a store across two instructions"
	lea rbx, [rip+1f]
	mov rax, 0x9090c0fec0fe9090
	mov [rbx], rax
1:	ud2
	ud2
	ud2
	ud2
	cmp eax, eax
END
CASE "rip-relative load and lea"
	mov eax, [rip+1f]
	lea rdx, [rip+1f]
	add [rip+1f], ecx
	jmp 2f
1:	.long 0x12345678
	.long 0
2:	cmp eax, eax
END
CASE "rip-relative with an immediate after it"
	mov dword ptr [rip+1f], 0x77
	cmp dword ptr [rip+1f], 0x77
	jmp 2f
1:	.long 0
2:
END
CASE "push rsp, pop rsp"
	push rsp
	mov rax, [rsp]
	pop rsp
	push rsp
	push rsp
	pop rcx
	pop rdx
END
CASE "pop [rsp], push [rsp]"
	push qword ptr [rsp]
	push qword ptr [rsp-8]
	pop qword ptr [rsp]
	pop qword ptr [rsp+0x10]
END
CASE "rsp as base, index none"
	mov rax, [rsp]
	mov [rsp+8], rax
	lea rcx, [rsp+0x7f]
	add dword ptr [rsp-0x40], 3
END
CASE "r12 and r13 as base"
	mov r12, rsp
	mov r13, rsp
	mov rax, [r12]
	mov rcx, [r13]
	mov [r12+rax*1], cl
END
CASE "xchg with itself and memory"
	xchg rax, rax
	xchg eax, ecx
	xchg [rbx], rax
	xchg r8, [rbx+8]
	xchg ah, dl
END
CASE "xadd same register"
	xadd rax, rax
	xadd [rbx], edx
END
CASE "cmpxchg equal and not"
	mov rax, [rbx]
	cmpxchg [rbx], rdx
	setz cl
	cmpxchg [rbx], rsi
	setz ch
END
CASE "cmpxchg 32 bit clears the upper half only when it loads"
	mov rax, -1
	mov dword ptr [rbx], -1
	cmpxchg [rbx], edx
	cmpxchg [rbx], edx
END
CASE "cmpxchg8b"
	mov eax, [rbx]
	mov edx, [rbx+4]
	push rbx
	mov rdi, rbx
	lock cmpxchg8b [rdi]
	lock cmpxchg8b [rdi]
END
CASE "cmpxchg16b"
	mov rdi, rbx
	mov rax, [rdi]
	mov rdx, [rdi+8]
	lock cmpxchg16b [rdi]
	cmpxchg16b [rdi]
END
CASE "cmpxchg16b misaligned"
	cmpxchg16b [rbx+8]
END
CASE "movaps misaligned load"
	movaps xmm0, [rbx+4]
END
CASE "movaps misaligned store"
	movaps [rbx+8], xmm0
END
CASE "addps misaligned"
	addps xmm1, [rbx+1]
END
CASE "vaddps misaligned is fine"
	vaddps ymm1, ymm2, [rbx+1]
END
CASE "vmovaps ymm misaligned by 16"
	vmovaps ymm1, [rbx+16]
END
CASE "movntdq misaligned"
	movntdq [rbx+4], xmm2
END
CASE "aligned access that is not there: #PF before #GP"
	movaps xmm0, [r9+0x10]
END
CASE "misaligned and not there: #GP"
	movaps xmm0, [r9+0x14]
END
CASE "66 and 67 prefixes"
	add ax, 0x7fff
	lea eax, [rax+rdx]
	mov eax, [ebx]
	lea rcx, [eax+edx*2]
	movzx ecx, word ptr [ebx+4]
	.byte 0x67, 0x90
	.byte 0x66, 0x66, 0x90
END
CASE "prefix order, repeated prefixes"
	.byte 0x66, 0x48, 0x01, 0xd0
	.byte 0x48, 0x66, 0x01, 0xd0
	.byte 0xf3, 0x01, 0xd0
	.byte 0x2e, 0x3e, 0x01, 0xd0
	.byte 0xf2, 0x66, 0x66, 0x01, 0xd0
END
CASE "15 bytes are enough"
	.byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
END
CASE "16 bytes are too many"
	.byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
END
CASE "lock where it must not be"
	.byte 0xf0, 0x48, 0x01, 0xd0
END
CASE "lock before a load"
	.byte 0xf0, 0x48, 0x8b, 0x03
END
CASE "undefined opcode"
	ud2
END
CASE "opcode gone in 64-bit mode"
	.byte 0x06
END
CASE "bit offsets reach beyond the operand"
	mov rcx, 0x1234
	bt [rbx], rcx
	setc al
	mov rcx, -0x777
	bts [rbx+0x200], rcx
	setc ah
	mov ecx, -9
	btr [rbx+0x100], ecx
	setc dl
	mov cx, -3
	btc [rbx+0x100], cx
	setc dh
	cmp eax, eax
END
CASE "bit offset across the border of the pages"
	mov ecx, 70
	lock bts [r8-6], ecx
	mov ecx, -1
	lock btc [r8], rcx
	cmp eax, eax
END
CASE "bit offset to a page that is not there"
	mov ecx, 0x10000
	bts dword ptr [r9-4], ecx
END
CASE "shift by one defines the overflow flag"
	mov rax, 0x4000000000000000
	shl rax, 1
	seto cl
	shr rax, 1
	seto ch
	rcl edx, 1
	seto dl
	cmp eax, eax
END
CASE "shift by zero changes no flag"
	stc
	mov ecx, 0
	shl rax, cl
	ror edx, cl
	rcr rbx, cl
	shld rax, rdx, cl
	sbb esi, esi
	cmp eax, eax
END
CASE "shift by zero in memory still needs it writable"
	mov ecx, 0
	shl dword ptr [r10], cl
END
CASE "32-bit results clear the upper half"
	mov ecx, 0
	shl eax, cl
	mov edx, edx
	cmovc ebx, ecx
	stc
	cmovnc esi, ecx
	xchg edi, edi
	cmp eax, eax
END
CASE "bytes: ah bh ch dh and spl bpl sil dil"
	mov ah, dl
	add ch, ah
	mov bpl, dil
	mov spl, sil
	xor dh, [rbx]
	mov [rbx+1], bh
	movzx eax, ch
	movsx ecx, dh
END
CASE "ah as a target of a load across pages"
	mov rbp, r8
	mov ah, [rbp-1]
	mov dh, [rbp]
	add [rbp-1], ch
END
CASE "movsxd, cdq, cqo, cwde"
	movsxd rcx, edx
	cdq
	cqo
	cwde
	cdqe
END
CASE "lahf, sahf"
	mov ah, 0xd5
	sahf
	lahf
	setp cl
END
CASE "pushf, popf"
	pushfq
	mov rax, [rsp]
	xor qword ptr [rsp], 0x8d5
	popfq
	pushfq
	pop rcx
END
CASE "direction flag through popf"
	pushfq
	or qword ptr [rsp], 0x400
	popfq
	lodsb
	cld
END
CASE "trap flag through popf"
	pushfq
	or qword ptr [rsp], 0x100
	popfq
	nop
	nop
END
CASE "loop, jrcxz"
	mov ecx, 7
	xor eax, eax
1:	inc eax
	loop 1b
	jrcxz 2f
	ud2
2:	jecxz 3f
	ud2
3:
END
CASE "loopne with a flag"
	mov ecx, 10
1:	cmp ecx, 4
	loopne 1b
	setz al
END
CASE "call, ret n, nested"
	call 1f
	jmp 4f
1:	push rax
	push rdx
	call 2f
	ret 16
2:	call 3f
	ret
3:	mov rcx, [rsp]
	sub rcx, rcx
	ret
4:	cmp eax, eax
END
CASE "call through register and memory"
	lea rax, [rip+1f]
	mov [rbx], rax
	lea rdx, [rip+2f]
	call rdx
	call qword ptr [rbx]
	jmp 3f
1:	add rsi, 3
	ret
2:	add rdi, 5
	ret
3:	cmp eax, eax
END
CASE "call [rsp]: the old rsp addresses"
	lea rax, [rip+1f]
	mov [rsp], rax
	call qword ptr [rsp]
1:
END
CASE "jump table"
	xor esi, esi
1:	lea rdx, [rip+5f]
	movsxd rax, dword ptr [rdx+rsi*4]
	add rax, rdx
	jmp rax
2:	add edi, 1
	jmp 4f
3:	add edi, 16
4:	inc esi
	cmp esi, 3
	jb 1b
	jmp 6f
5:	.long 2b-5b, 3b-5b, 2b-5b
6:	cmp eax, eax
END
CASE "enter and leave, nested levels"
	enter 32, 0
	enter 16, 1
	enter 8, 3
	mov rax, [rbp]
	leave
	mov rcx, [rbp-8]
	leave
END
CASE "the border between code that was run and not"
	jmp 1f
	ud2
1:	jmp 2f
	ud2
2:
END
CASE "cmov does not skip the load"
	cmp eax, eax
	cmovnz rax, [r9]
END
CASE "setcc to memory, all sixteen"
	.irp cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
	set\cc byte ptr [rbx]
	inc rbx
	cmp rax, rdx
	.endr
END
CASE "crc32, popcnt, tzcnt, lzcnt of zero"
	xor edx, edx
	crc32 rax, dl
	crc32 ecx, dword ptr [rbx]
	popcnt rsi, rdx
	cmp eax, eax
END
CASE "mulx, pdep, pext, rorx, shlx leave flags"
	stc
	mulx rcx, rsi, [rbx]
	pdep rdi, rdx, rax
	pext rax, rdx, rdi
	rorx rdx, [rbx+8], 13
	shlx rcx, [rbx], rdx
	sarx esi, ecx, edx
	sbb eax, eax
	cmp eax, eax
END
CASE "adcx and adox chains"
	xor ecx, ecx
	adcx rax, rdx
	adox rdx, [rbx]
	adcx rsi, [r8-4]
	adox rdi, rsi
	seto cl
	setc ch
	cmp eax, eax
END
CASE "sse state over memory accesses"
	movdqa xmm0, [rbx]
	paddq xmm0, [rbx+16]
	mov rax, [r8-3]
	movq xmm1, rax
	pshufd xmm2, xmm0, 0x1b
	movdqu [r8-8], xmm2
	push rax
	pinsrw xmm2, [rsp], 3
	pextrq rcx, xmm2, 1
END
CASE "ymm upper halves"
	vmovdqu ymm0, [rbx]
	vpaddd ymm1, ymm0, [rbx+32]
	movaps xmm1, xmm0
	vmovaps xmm2, xmm1
	vextracti128 [r8-7], ymm0, 1
	vzeroupper
END
CASE "gather with a fault in the middle"
	vpcmpeqd ymm1, ymm1, ymm1
	mov eax, 0x1000
	vmovd xmm2, eax
	vpxor xmm3, xmm3, xmm3
	vpunpckldq xmm2, xmm3, xmm2
	vpgatherdd xmm4, [r9+xmm2-0x10], xmm1
END
CASE "masked load: no fault where the mask is zero"
	vpxor ymm1, ymm1, ymm1
	vmaskmovps ymm0, ymm1, [r9]
	vpmaskmovq [r9], ymm1, ymm0
	vpcmpeqd xmm1, xmm1, xmm1
	vmaskmovps ymm0, ymm1, [r9-16]
END
CASE "masked store that faults"
	vpcmpeqd ymm1, ymm1, ymm1
	vmaskmovps [r9-16], ymm1, ymm0
END
CASE "unmasked SSE exception"
	mov dword ptr [rbx], 0x1d80
	ldmxcsr [rbx]
	xorps xmm0, xmm0
	mov eax, 0x3f800000
	movd xmm1, eax
	divss xmm1, xmm0
END
CASE "bad MXCSR"
	mov dword ptr [rbx], 0x80001f80
	ldmxcsr [rbx]
END
CASE "unmasked x87 exception comes with the next instruction"
	fninit
	mov word ptr [rbx], 0x37b
	fldcw [rbx]
	fldz
	fld1
	fdivrp
	mov eax, 1
	fnstsw ax
	fld1
END
CASE "x87 stack overflow and underflow"
	fninit
	fstp st(0)
	fnstsw ax
	.rept 9
	fld1
	.endr
	fnstsw [rbx]
	nop
END
CASE "mmx and x87 share registers"
	fninit
	movq mm0, [rbx]
	paddb mm0, [r8-3]
	movq [rbx+8], mm0
	emms
	fld1
END
CASE "x87 memory formats"
	fninit
	fild word ptr [rbx]
	fild qword ptr [r8-2]
	fbld tbyte ptr [rbx+0x40]
	fistp dword ptr [r8-1]
	fst qword ptr [r8-5]
	fisttp word ptr [rbx+0x60]
END
CASE "fxsave and fxrstor of the same"
	fninit
	fld1
	fxsave [rbx]
	fldpi
	fxrstor [rbx]
	mov qword ptr [rbx+8], 0
	mov qword ptr [rbx+16], 0
	mov word ptr [rbx+6], 0
	mov dword ptr [rbx+28], 0
	lea rdi, [rbx+416]
	xor eax, eax
	mov ecx, 12
	rep stosq
	cmp eax, eax
END
CASE "fxsave misaligned"
	fxsave [rbx+8]
END
CASE "stmxcsr across the border"
	stmxcsr [r8-2]
	ldmxcsr [r8-2]
END
CASE "privileged: cli"
	cli
END
CASE "privileged: hlt"
	hlt
END
CASE "privileged: in"
	in al, 0x60
END
CASE "privileged: mov cr0"
	mov rax, cr0
END
CASE "privileged: rdmsr"
	rdmsr
END
CASE "int n without a right to the gate"
	int 0x0d
END
CASE "gs-relative"
	mov rax, gs:[rbx]
	mov gs:[r8-0x43], rdx
END
CASE "many loads off one base"
	mov rax, [rbx]
	mov rcx, [rbx+8]
	mov rdx, [rbx+16]
	mov rsi, [rbx+24]
	mov [rbx+0x30], rax
	mov [rbx+0x38], rcx
	mov [rbx+0x40], rdx
	mov [rbx+0x48], rsi
END
CASE "many pushes across the border"
	lea rsp, [r8+0x18]
	push rax
	push rcx
	push rdx
	push rbx
	push rsi
	push rdi
	pop r8
	pop r9
	pop r10
	pop r12
	pop r13
	pop r14
END
CASE "pushes that fault in the middle"
	lea rsp, [r8-0x1000+0x10]
	push rax
	push rcx
	push rdx
	push rbx
END
CASE "all registers as address"
	mov rax, rbx
	mov rcx, rbx
	mov rdx, rbx
	mov r14, rbx
	mov r15, rbx
	add dword ptr [rax], 1
	add dword ptr [rcx+4], 2
	add dword ptr [rdx+8], 3
	add dword ptr [r8-2], 4
	add dword ptr [r14+12], 5
	add dword ptr [r15+16], 6
	add dword ptr [rbp], 7
	add dword ptr [rsp], 8
	add dword ptr [rsi], 9
	add dword ptr [rdi], 10
	xor r9d, r9d
	add dword ptr [rbx+r9*8+20], 11
	mov r9, rbx
	mov r10, rbx
	mov r11, rbx
	mov r12, rbx
	add dword ptr [r9+24], 12
	add dword ptr [r10+28], 13
	add dword ptr [r11+32], 14
	add dword ptr [r12+36], 15
END
CASE "scratch registers hold values over loads"
	mov r8, 0x1111
	mov r9, 0x2222
	mov r10, 0x3333
	mov r11, 0x4444
	mov rax, [rbx]
	add r8, r9
	mov [rbx+8], r10
	add r10, r11
	add r11, [rbx+8]
	lea r9, [r8+r10*2]
	push r9
	pop r8
	cmp eax, eax
END
CASE "a long loop"
	mov ecx, 2000
	xor eax, eax
1:	add eax, ecx
	xor [rbx], eax
	sub ecx, 1
	jnz 1b
END

	.section .data.rel.ro.insn64, "aw"
insn_special64_end:
	.section .note.GNU-stack, "", @progbits
