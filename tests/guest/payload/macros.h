/* SPDX-License-Identifier: Apache-2.0 */
/* macros.h - what payloads share: serial output, power-off, the way in. */

#define COM1 0x3f8
#define PM1A_CNT 0x604
#define SLP_S5 0x3400

/* Prints the zero-terminated string at %esi. Uses %eax, %edx. */
.macro PUTS_FUNCTION
puts:
	lodsb
	testb	%al, %al
	jz	2f
	movb	%al, %ah
	movw	$(COM1 + 5), %dx
1:	inb	%dx, %al
	testb	$0x20, %al
	jz	1b
	movb	%ah, %al
	movw	$COM1, %dx
	outb	%al, %dx
	jmp	puts
2:	ret
.endm

.macro POWER_OFF
	movw	$PM1A_CNT, %dx
	movw	$SLP_S5, %ax
	outw	%ax, %dx
1:	hlt
	jmp	1b
.endm

/* XEN_ELFNOTE_PHYS32_ENTRY */
.macro PVH_NOTE entry
	.section .note, "a", @note
	.align 4
	.long 4, 4, 18
	.asciz "Xen"
	.long \entry
	.text
.endm
