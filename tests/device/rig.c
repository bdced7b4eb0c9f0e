/* SPDX-License-Identifier: Apache-2.0 */
/* rig.c - see rig.h. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/loop.h"
#include "machine/timer.h"
#include "tests/device/rig.h"

static unsigned failed_checks; /* of the running case */

static int sink_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct rig *rig = opaque;

	pthread_mutex_lock(&rig->lock);
	if (rig->msis < RIG_MSIS)
		rig->msi[rig->msis] = (struct rig_msi){ address, data };
	rig->msis++;
	pthread_mutex_unlock(&rig->lock);
	return 0;
}

unsigned rig_msis(struct rig *rig)
{
	unsigned n;

	pthread_mutex_lock(&rig->lock);
	n = rig->msis;
	pthread_mutex_unlock(&rig->lock);
	return n;
}

static void sink_intr(void *opaque, bool level)
{
	struct rig *rig = opaque;

	rig->intr_edges += level && !rig->intr;
	rig->intr = level;
}

static void sink_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool enabled)
{
	struct rig *rig = opaque;

	(void)address, (void)data;
	rig->routed = enabled ? rig->routed | 1u << pin : rig->routed & ~(1u << pin);
}

static const struct irq_sink rig_sink = { sink_msi, sink_intr, sink_route };

static void rig_request(void *opaque, enum machine_request what, int code)
{
	struct rig *rig = opaque;

	if (rig->request != MACHINE_REQUEST_NONE)
		return;
	rig->request = what;
	rig->request_code = code;
}

void rig_open(struct rig *rig)
{
	struct machine_options options = { .memory_bytes = RIG_MEMORY, .manual = true };
	int ret;

	memset(rig, 0, sizeof(*rig));
	pthread_mutex_init(&rig->lock, NULL);
	ret = machine_create(&options, &rig->machine);
	if (ret) {
		fprintf(stderr, "machine_create: %s\n", strerror(-ret));
		exit(99);
	}
	irqs_attach_sink(rig->machine->irqs, &rig_sink, rig);
	rig->machine->request = rig_request;
	rig->machine->request_opaque = rig;
}

void rig_close(struct rig *rig)
{
	rig->machine = machine_destroy(rig->machine);
	pthread_mutex_destroy(&rig->lock);
}

struct device *rig_add(struct rig *rig, const struct device_class *class, const void *config)
{
	struct device *dev = NULL;
	int ret = device_create(rig->machine, class, config, &dev);

	if (ret) {
		fprintf(stderr, "%s: %s\n", class->name, strerror(-ret));
		exit(99);
	}
	return dev;
}

void rig_out(struct rig *rig, uint16_t port, unsigned size, uint32_t value)
{
	bus_write(rig->machine->ports, port, size, value);
}

uint32_t rig_in(struct rig *rig, uint16_t port, unsigned size)
{
	uint64_t value;

	bus_read(rig->machine->ports, port, size, &value);
	return (uint32_t)value;
}

void rig_out8(struct rig *rig, uint16_t port, uint8_t value)
{
	rig_out(rig, port, 1, value);
}

uint8_t rig_in8(struct rig *rig, uint16_t port)
{
	return (uint8_t)rig_in(rig, port, 1);
}

void rig_write(struct rig *rig, uint64_t address, unsigned size, uint64_t value)
{
	bus_write(rig->machine->mmio, address, size, value);
}

uint64_t rig_read(struct rig *rig, uint64_t address, unsigned size)
{
	uint64_t value;

	bus_read(rig->machine->mmio, address, size, &value);
	return value;
}

void rig_irq(struct rig *rig, unsigned line, bool level)
{
	irq_set(rig->machine->irqs, line, level);
}

int rig_ack(struct rig *rig)
{
	return irq_ack(rig->machine->irqs);
}

void rig_advance(struct rig *rig, uint64_t ns)
{
	timers_advance(rig->machine->timers, ns);
}

void rig_turn(struct rig *rig)
{
	while (loop_turn(rig->machine->loop, 0) > 0)
		;
}

int rig_listen(int backlog, struct sockaddr_un *ret_address, socklen_t *ret_len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*ret_len = sizeof(*ret_address);
	if (bind(fd, (void *)ret_address, sizeof(sa_family_t)) < 0 || listen(fd, backlog) < 0 ||
	    getsockname(fd, (void *)ret_address, ret_len) < 0)
		abort();
	return fd;
}

bool rig_turn_until(struct rig *rig, bool (*done)(void *opaque), void *opaque)
{
	uint64_t end = clock_monotonic_ns() + 2 * NSEC_PER_SEC;

	while (!done(opaque)) {
		if (clock_monotonic_ns() > end)
			return false;
		loop_turn(rig->machine->loop, 1);
	}
	return true;
}

void rig_check_failed(const char *file, int line, const char *what)
{
	failed_checks++;
	printf("    %s:%d: %s\n", file, line, what);
}

void rig_check_equal(const char *file, int line, const char *what, uint64_t got, uint64_t wanted)
{
	if (got == wanted)
		return;
	failed_checks++;
	printf("    %s:%d: %s is %#llx, not %#llx\n", file, line, what, (unsigned long long)got,
	       (unsigned long long)wanted);
}

struct tally {
	unsigned passed, failed, skipped;
};

/* How a case is run. */
struct run {
	const char *label;
	bool mmio, packed;
};

/* One run of a case, unless another one is named on the command line. */
static void run_case(struct tally *t, const char *suite, const char *name,
		     void (*fn)(struct rig *rig), const struct run *run, const char *wanted)
{
	struct rig rig;

	if (wanted && strcmp(wanted, name) != 0) {
		t->skipped++;
		return;
	}
	failed_checks = 0;
	rig_open(&rig);
	rig.mmio = run->mmio;
	rig.packed = run->packed;
	fn(&rig);
	rig_close(&rig);
	printf("%s %s: %s%s\n", failed_checks ? "FAIL" : "ok  ", suite, run->label, name);
	fflush(stdout);
	t->passed += !failed_checks;
	t->failed += failed_checks != 0;
}

static int finish(const struct tally *t)
{
	printf("%u passed, %u failed, %u skipped\n", t->passed, t->failed, t->skipped);
	return t->failed ? 1 : 0;
}

int rig_main(const char *suite, const struct rig_case *cases, size_t n, int argc, char **argv)
{
	static const struct run plain = { "", false, false };
	struct tally t = { 0 };

	for (size_t i = 0; i < n; i++)
		run_case(&t, suite, cases[i].name, cases[i].fn, &plain, argc > 1 ? argv[1] : NULL);
	return finish(&t);
}

int rig_virtio_main(const char *suite, const struct rig_virtio_case *cases, size_t n, int argc,
		    char **argv)
{
	static const struct run runs[] = {
		{ "", false, false }, { "mmio: ", true, false },
		{ "packed: ", false, true }, { "mmio, packed: ", true, true },
	};
	static const struct {
		unsigned first, end;
	} of[] = { [RIG_PCI] = { 0, 1 }, [RIG_MMIO] = { 1, 2 }, [RIG_BOTH] = { 0, 2 },
		   [RIG_RINGS] = { 0, 4 } };
	struct tally t = { 0 };

	for (size_t i = 0; i < n; i++)
		for (unsigned run = of[cases[i].transport].first; run < of[cases[i].transport].end; run++)
			run_case(&t, suite, cases[i].name, cases[i].fn, &runs[run],
				 argc > 1 ? argv[1] : NULL);
	return finish(&t);
}
