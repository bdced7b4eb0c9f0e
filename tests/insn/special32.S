/* SPDX-License-Identifier: Apache-2.0 */
/* special32.S - hand-written cases in 32-bit mode; registers as in special64.S where there are any.
 *   ebx mem+0x400  esi mem+0x200  edi mem+0x600  ebp the border of the pages  esp mem+0x1800
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
	.pushsection .data.rel.ro.insn32, "aw"
	.quad 76b, 77b, 78b
	.popsection
	.endm

	.section .data.rel.ro.insn32, "aw"
	.balign 8
	.globl insn_special32, insn_special32_end
insn_special32:

	.section .rodata.insn_code, "a"
	.code32

CASE "inc and dec keep the carry"
	stc
	inc eax
	dec ecx
	adc edx, 0
END
CASE "pusha, popa"
	pusha
	add dword ptr [esp+28], 5
	popa
	pushaw
	popaw
END
CASE "pusha across the border"
	lea esp, [ebp+8]
	pusha
	popa
END
CASE "popa that faults changes nothing"
	lea esp, [ebp+0xff0]
	popa
END
CASE "push and pop of segment registers"
	push ds
	push es
	pop eax
	pop ecx
	push cs
	pop edx
END
CASE "decimal adjust"
	mov al, 0x79
	add al, 0x35
	daa
	setc cl
	mov al, 0x12
	sub al, 0x35
	das
	setc ch
	cmp eax, eax
END
CASE "ascii adjust"
	mov ax, 0x0308
	add al, 9
	aaa
	setc cl
	aad
	aam
	test eax, eax
	cmp eax, eax
END
CASE "aam by zero"
	aam 0
END
CASE "bound inside and outside"
	mov dword ptr [ebx], 2
	mov dword ptr [ebx+4], 9
	mov ecx, 5
	bound ecx, [ebx]
	mov ecx, 10
	bound ecx, [ebx]
END
CASE "into without and with overflow"
	xor eax, eax
	into
	mov al, 0x7f
	inc al
	into
END
CASE "16-bit operands and addresses"
	push ax
	pop cx
	lea dx, [bx+si+5]
	xor eax, eax
	movzx ebx, bx
	mov ax, [bx]
END
CASE "addresses wrap at 4 GiB"
	mov eax, [ebx-0x20000000+0x20000000]
	lea ecx, [ebx+ebx*8]
	neg ecx
	mov edx, [ecx+ebx*8+0x400]
END
CASE "call and ret with 16-bit operand size go to nowhere"
	.byte 0x66
	call 1f
1:
END
CASE "xlat, les-less table"
	mov al, 5
	xlatb
	mov ah, al
END
CASE "loop and jecxz"
	mov ecx, 6
1:	add eax, ecx
	loop 1b
	jecxz 2f
	ud2
2:	cmp eax, eax
END
CASE "jcxz with address prefix"
	mov ecx, 0x10000
	jcxz 1f
	ud2
1:
END
CASE "self-modifying"
	call 1f
1:	pop ebx
	.byte 0xc6, 0x83 # mov byte ptr [ebx + 2f - 1b + 1], 0x55: too many symbols for clang
	.long 2f - 1b + 1
	.byte 0x55
2:	mov al, 0x11
END
CASE "rep movsd across the border"
	lea esi, [ebp-33]
	mov ecx, 30
	rep movsd
END
CASE "rep stosb that faults"
	lea edi, [ebp+0xff0]
	mov ecx, 40
	rep stosb
END
CASE "crossing: 2 4 8 16 bytes"
	mov ax, [ebp-1]
	mov ecx, [ebp-3]
	fild qword ptr [ebp-5]
	fistp qword ptr [ebp-2]
	movdqu xmm0, [ebp-7]
	movdqu [ebp-1], xmm0
END
CASE "cmpxchg8b"
	mov eax, [ebp-3]
	mov edx, [ebp+1]
	lea edi, [ebp-3]
	lock cmpxchg8b [edi]
	cmpxchg8b [edi]
END
CASE "arpl"
	mov ax, 0x10
	mov cx, 0x33
	arpl ax, cx
	setz dl
	arpl [ebx], cx
END
CASE "salc"
	stc
	.byte 0xd6
	clc
	mov ah, al
	.byte 0xd6
END
CASE "enter and leave"
	enter 16, 0
	enter 8, 2
	mov eax, [ebp]
	leave
	leave
END
CASE "push imm8, push [esp], pop [esp]"
	push -3
	push dword ptr [esp]
	pop dword ptr [esp]
	push esp
	pop esp
END
CASE "opcode 0x40..0x4f are not REX here"
	.byte 0x48, 0x01, 0xd8
	.byte 0x41, 0x42, 0x4b
END
CASE "vex in 32-bit mode"
	vaddps ymm1, ymm2, [ebp-17]
	vpshufb xmm3, xmm4, [ebx]
	andn eax, ecx, [ebx]
	cmp eax, eax
END
CASE "lds and les addresses decode, no VEX"
	.byte 0xc5, 0xf8, 0x77
	nop
END
CASE "fault: above the segment of data"
	mov eax, [ebp+0x1000]
END
CASE "fault: masked store, half above"
	mov edi, -13
	maskmovdqu xmm1, xmm5
END
CASE "fault: masked store, half wraps"
	mov edi, -8
	maskmovdqu xmm1, xmm5
END
CASE "fault: masked store, all above"
	mov edi, -7
	maskmovdqu xmm1, xmm5
END
CASE "fault: maskmovq, all above"
	mov edi, -7
	maskmovq mm1, mm5
END
CASE "fault: write to the read-only page"
	mov dword ptr [ebp+0x2000], eax
END
CASE "lock where it must not be"
	.byte 0xf0, 0x90
END

	.section .data.rel.ro.insn32, "aw"
insn_special32_end:
	.section .note.GNU-stack, "", @progbits
