/* SPDX-License-Identifier: Apache-2.0 */
/* nowhere.S - jumps to where there is no memory. */
#include "macros.h"
	PVH_NOTE start
	.code32
	.globl start
start:
	movl	$0xd0000000, %eax
	jmp	*%eax
