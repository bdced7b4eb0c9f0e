/* SPDX-License-Identifier: Apache-2.0 */
/* fault.S - an interrupt without a descriptor table: the processor gives up. */
#include "macros.h"
	BZIMAGE
	leaq	hello(%rip), %rsi
	call	puts
	lidt	none(%rip)
	int3
	PUTS_FUNCTION
hello:	.asciz "fault: last words\n"
none:	.word 0
	.quad 0
	.org 0x1000
