/* SPDX-License-Identifier: Apache-2.0 */
/* moves.c - see moves.h. */
#include <config.h>

#include "machine/loop.h"
#include "tests/fuzz/moves.h"

void move_poke(struct vdriver *d, struct input *in, uint64_t offset, unsigned size)
{
	offset = d->mmio ? d->mmio + (offset & 0x1ffu) : d->bar + offset;
	if (input8(in) & 1u)
		rig_write(d->rig, offset, size, rarely(in) ? input_edge(in) : input8(in));
	else
		(void)rig_read(d->rig, offset, size);
}

void move_config(struct vdriver *d, struct input *in)
{
	unsigned size = 1u << pick(in, 3);
	unsigned offset = input8(in) & ~(size - 1u);

	if (input8(in) & 1u)
		vd_cfg_write(d, offset, size, rarely(in) ? (uint32_t)input_edge(in) : input32(in));
	else
		(void)vd_cfg_read(d, offset, size);
}

void move_hold(struct rig *rig, bool *held)
{
	*held = !*held;
	loop_hold(rig->machine->loop, *held);
	if (*held)
		machine_pause_devices(rig->machine);
	else
		machine_resume_devices(rig->machine);
}
