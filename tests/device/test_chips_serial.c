/* SPDX-License-Identifier: Apache-2.0 */
/* UART with a console behind it, keyboard controller, debug exit. */
#include <config.h>

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/backend/console.h"
#include "devices/chips.h"
#include "machine/pc.h"
#include "tests/device/rig.h"

#define COM 0x3f8

struct serial {
	struct rig *rig;
	int fd; /* our end */
	char got[512 * 1024];
	size_t len, want;
};

static void serial_open(struct rig *r, struct serial *s)
{
	struct uart16550_config config;
	int fds[2];

	memset(s, 0, sizeof(*s));
	s->rig = r;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	s->fd = fds[0];
	config.fd = fds[1];
	rig_add(r, &ioapic_class, NULL);
	rig_add(r, &uart16550_class, &config);
	rig_write(r, PC_IOAPIC, 4, 0x10 + 2 * PC_IRQ_COM1); /* count the edges of its line */
	rig_write(r, PC_IOAPIC + 0x10, 4, 0x34);
}

static bool serial_done(void *opaque)
{
	struct serial *s = opaque;
	ssize_t n = read(s->fd, s->got + s->len, sizeof(s->got) - s->len);

	if (n > 0)
		s->len += (size_t)n;
	return s->len >= s->want;
}

static bool serial_wait(struct serial *s, size_t want)
{
	s->want = want;
	return rig_turn_until(s->rig, serial_done, s);
}

static void put(struct rig *r, const char *text)
{
	while (*text)
		rig_out8(r, COM, (uint8_t)*text++);
}

static void uart_output(struct rig *r)
{
	struct serial s;

	serial_open(r, &s);
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
	put(r, "hello");
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
	CHECK(serial_wait(&s, 5));
	CHECK(!memcmp(s.got, "hello", 5));
	close(s.fd);
	put(r, "nobody there");
	rig_turn(r);
	put(r, "still");
	rig_turn(r);
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
}

/* Linux's 8250 driver: scratch IER, loopback, FIFO, and no sign of a bigger part. */
static void uart_autoconfig(struct rig *r)
{
	struct serial s;

	serial_open(r, &s);
	rig_out8(r, COM + 1, 0);
	CHECK_EQ(rig_in8(r, COM + 1), 0);
	rig_out8(r, COM + 1, 0xff);
	CHECK_EQ(rig_in8(r, COM + 1), 0x0f);
	rig_out8(r, COM + 1, 0);
	rig_out8(r, COM + 4, 0x1a);
	CHECK_EQ(rig_in8(r, COM + 6) & 0xf0, 0x90);
	rig_out8(r, COM + 4, 0);
	CHECK_EQ(rig_in8(r, COM + 6) & 0xf0, 0xb0);
	rig_out8(r, COM + 3, 0xbf);
	rig_out8(r, COM + 2, 0);
	rig_out8(r, COM + 3, 0);
	CHECK_EQ(rig_in8(r, COM + 2), 0x01); /* no FIFO, no interrupt */
	rig_out8(r, COM + 2, 1);
	CHECK_EQ(rig_in8(r, COM + 2), 0xc1);
	rig_out8(r, COM + 3, 0xbf);
	CHECK(rig_in8(r, COM + 2) != 0);
	rig_out8(r, COM + 3, 0);
	rig_out8(r, COM + 2, 0x21); /* 64-byte FIFO of a 16750: not ours */
	CHECK_EQ(rig_in8(r, COM + 2) >> 5, 6);
	rig_out8(r, COM + 7, 0x5a);
	CHECK_EQ(rig_in8(r, COM + 7), 0x5a);
	rig_out8(r, COM + 3, 0x83);
	rig_out8(r, COM, 1);
	rig_out8(r, COM + 1, 2);
	CHECK_EQ(rig_in(r, COM, 2), 0x0201);
	rig_out8(r, COM + 3, 0x03);
	CHECK_EQ(rig_in8(r, COM + 1), 0);
	CHECK_EQ(rig_in8(r, COM + 3), 0x03);
	close(s.fd);
}

static void uart_thre_interrupt(struct rig *r)
{
	struct serial s;
	unsigned i;

	serial_open(r, &s);
	rig_out8(r, COM + 2, 1);
	rig_out8(r, COM + 1, 2);
	CHECK_EQ(r->msis, 0); /* OUT2 is low */
	rig_out8(r, COM + 4, 8);
	CHECK_EQ(r->msis, 1);
	CHECK_EQ(rig_in8(r, COM + 2), 0xc2);
	CHECK_EQ(rig_in8(r, COM + 2), 0xc1); /* reading it was the answer */
	for (i = 0; i < 16; i++)
		rig_out8(r, COM, 'x');
	CHECK(r->msis >= 2); /* a new edge: the next FIFO may come */
	CHECK_EQ(rig_in8(r, COM + 2), 0xc2);
	rig_out8(r, COM + 1, 0);
	rig_out8(r, COM + 1, 2);
	CHECK_EQ(rig_in8(r, COM + 2), 0xc2); /* raised again by the enable */
	close(s.fd);
}

static bool thre_back(struct serial *s)
{
	unsigned i;

	for (i = 0; i < 30; i++) {
		rig_turn(s->rig);
		if (rig_in8(s->rig, COM + 5) & 0x20)
			return true;
		usleep(1000);
	}
	return false;
}

/* Writes until THRE goes and stays away; how many bytes that took, 0 if it never did. */
static size_t fill_reader(struct serial *s)
{
	size_t n;

	for (n = 0; n < 4u << 20; n++) {
		if (!(rig_in8(s->rig, COM + 5) & 0x20) && !thre_back(s))
			return n;
		rig_out8(s->rig, COM, (uint8_t)n);
		if (n % 1024 == 0)
			rig_turn(s->rig);
	}
	return 0;
}

static void uart_slow_reader(struct rig *r)
{
	struct serial s;
	size_t i, n;

	serial_open(r, &s);
	rig_out8(r, COM + 4, 8);
	n = fill_reader(&s); /* THRE went away: back-pressure */
	CHECK(n > 10000);
	rig_out8(r, COM + 1, 2);
	r->msis = 0;
	CHECK_EQ(rig_in8(r, COM + 2), 0x01);
	CHECK(serial_wait(&s, n)); /* it reads: room, an interrupt, and nothing lost */
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
	CHECK(r->msis >= 1);
	CHECK_EQ(s.len, n);
	for (i = 0; i < n; i++)
		if ((uint8_t)s.got[i] != (uint8_t)i)
			break;
	CHECK_EQ(i, n);
	close(s.fd);
}

static void uart_dead_reader(struct rig *r)
{
	struct serial s;
	size_t n;

	serial_open(r, &s);
	rig_out8(r, COM + 4, 8);
	n = fill_reader(&s);
	CHECK(n > 10000);
	rig_out8(r, COM + 1, 2);
	r->msis = 0;
	rig_advance(r, 1 * NSEC_PER_SEC);
	CHECK_EQ(rig_in8(r, COM + 5), 0);
	rig_advance(r, 2 * NSEC_PER_SEC); /* a bounded wait, then it is dropped */
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
	CHECK_EQ(r->msis, 1);
	CHECK(!fill_reader(&s)); /* four million bytes: no more waiting, no more memory */
	CHECK(serial_wait(&s, n)); /* it comes back: what was kept arrives, and new output too */
	put(r, "again");
	CHECK(serial_wait(&s, n + 5));
	CHECK(!memcmp(s.got + n, "again", 5));
	close(s.fd);
}

static void uart_input(struct rig *r)
{
	struct serial s;
	char text[100];
	unsigned i, n = 0;

	serial_open(r, &s);
	for (i = 0; i < sizeof(text); i++)
		text[i] = (char)('0' + i % 64);
	CHECK(write(s.fd, text, sizeof(text)) == sizeof(text));
	rig_turn(r);
	CHECK_EQ(rig_in8(r, COM + 5), 0x60); /* nobody asked for it yet */
	rig_out8(r, COM + 2, 0x87); /* a driver starts: clears the FIFOs, reads the data register */
	(void)rig_in8(r, COM);
	rig_out8(r, COM + 4, 8);
	rig_out8(r, COM + 1, 1);
	CHECK_EQ(r->msis, 1);
	CHECK_EQ(rig_in8(r, COM + 2), 0xc4);
	while (rig_in8(r, COM + 5) & 1 && n < sizeof(text)) {
		CHECK_EQ(rig_in8(r, COM), text[n]);
		n++;
	}
	CHECK_EQ(n, sizeof(text));
	CHECK_EQ(rig_in8(r, COM + 2), 0xc1);
	CHECK_EQ(rig_in8(r, COM), 0);
	CHECK(write(s.fd, "ab", 2) == 2);
	rig_turn(r);
	CHECK_EQ(rig_in8(r, COM + 2), 0xcc); /* below the trigger: timeout */
	CHECK_EQ(rig_in8(r, COM), 'a');
	rig_out8(r, COM + 1, 0); /* closed with a byte in the FIFO, opened again */
	rig_out8(r, COM + 2, 0);
	(void)rig_in8(r, COM);
	rig_out8(r, COM + 1, 1);
	CHECK_EQ(rig_in8(r, COM), 'b');
	close(s.fd);
}

static void uart_polled_input(struct rig *r)
{
	struct serial s;
	unsigned i;

	serial_open(r, &s);
	CHECK(write(s.fd, "q", 1) == 1);
	rig_turn(r);
	for (i = 0; i < 100 && !(rig_in8(r, COM + 5) & 1); i++)
		;
	CHECK(i < 10);
	CHECK_EQ(rig_in8(r, COM), 'q');
	close(s.fd);
}

static void uart_much_input(struct rig *r)
{
	struct serial s;
	size_t sent = 0, got = 0;
	char block[512];

	serial_open(r, &s);
	rig_out8(r, COM + 2, 1);
	rig_out8(r, COM + 1, 1);
	while (got < 200000) {
		size_t i;
		ssize_t n;

		for (i = 0; i < sizeof(block); i++)
			block[i] = (char)((sent + i) % 251);
		n = write(s.fd, block, sizeof(block));
		if (n > 0)
			sent += (size_t)n;
		rig_turn(r);
		for (i = 0; i < 700 && rig_in8(r, COM + 5) & 1; i++, got++)
			if (rig_in8(r, COM) != (uint8_t)(got % 251)) {
				CHECK(!"order");
				got = 200000;
			}
	}
	close(s.fd);
}

static void uart_hangup(struct rig *r)
{
	struct serial s;
	unsigned i;

	serial_open(r, &s);
	rig_out8(r, COM + 2, 1);
	rig_out8(r, COM + 1, 1);
	CHECK(write(s.fd, "bye", 3) == 3);
	close(s.fd);
	for (i = 0; i < 20; i++)
		rig_turn(r); /* returns: a hung up descriptor does not spin */
	CHECK_EQ(rig_in8(r, COM), 'b');
	CHECK_EQ(rig_in8(r, COM), 'y');
	CHECK_EQ(rig_in8(r, COM), 'e');
	put(r, "x");
	rig_turn(r);
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
}

static void uart_loopback(struct rig *r)
{
	struct serial s;
	unsigned i;

	serial_open(r, &s);
	rig_out8(r, COM + 2, 1);
	rig_out8(r, COM + 4, 0x10);
	for (i = 0; i < 17; i++)
		rig_out8(r, COM, (uint8_t)i);
	CHECK_EQ(rig_in8(r, COM + 5), 0x63); /* the 17th did not fit */
	CHECK_EQ(rig_in8(r, COM + 5), 0x61);
	for (i = 0; i < 16; i++)
		CHECK_EQ(rig_in8(r, COM), i);
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
	(void)rig_in8(r, COM + 6);
	rig_out8(r, COM + 4, 0x12);
	CHECK_EQ(rig_in8(r, COM + 6), 0x11); /* CTS, and that it changed */
	CHECK_EQ(rig_in8(r, COM + 6), 0x10);
	rig_out8(r, COM + 3, 0x43);
	CHECK_EQ(rig_in8(r, COM + 5) & 0x10, 0x10);
	rig_turn(r);
	s.want = 1;
	CHECK(!serial_done(&s)); /* nothing went out */
	close(s.fd);
}

static void uart_unconnected(struct rig *r)
{
	struct uart16550_config config = { .fd = -1 };
	unsigned i;

	rig_add(r, &uart16550_class, &config);
	for (i = 0; i < 100000; i++)
		rig_out8(r, COM, 'x');
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
}

static void uart_into_file(struct rig *r)
{
	struct uart16550_config config = { .fd = open("/dev/null", O_RDWR | O_CLOEXEC) };
	unsigned i;

	rig_add(r, &uart16550_class, &config);
	for (i = 0; i < 100000; i++) {
		rig_out8(r, COM, 'x');
		if (i % 1000 == 0)
			rig_turn(r);
	}
	CHECK_EQ(rig_in8(r, COM + 5), 0x60);
}

static void uart_any_bytes(struct rig *r)
{
	struct serial s;
	uint32_t x = 5;
	unsigned i;

	serial_open(r, &s);
	for (i = 0; i < 200000; i++) {
		x = x * 1664525u + 1013904223u;
		switch (x >> 30) {
		case 0:
			(void)rig_in8(r, COM + (x >> 8 & 7u));
			break;
		case 1:
			if (x >> 29 & 1u)
				rig_turn(r);
			else if (write(s.fd, &x, 1 + (x >> 8 & 3u)) > 0)
				rig_advance(r, x >> 8);
			if (!(x >> 20 & 7u))
				s.len = 0, s.want = 1, (void)serial_done(&s);
			break;
		default:
			rig_out8(r, COM + (x >> 8 & 7u), (uint8_t)(x >> 16));
			break;
		}
	}
	close(s.fd);
}

static void kbd_reset(struct rig *r)
{
	rig_add(r, &i8042_class, NULL);
	rig_out8(r, 0x64, 0xff);
	CHECK_EQ(r->request, MACHINE_REQUEST_NONE);
	rig_out8(r, 0x64, 0xfe);
	CHECK_EQ(r->request, MACHINE_REQUEST_RESET);
	r->request = MACHINE_REQUEST_NONE;
	rig_out8(r, 0x64, 0xd1);
	rig_out8(r, 0x60, 0xfe);
	CHECK_EQ(r->request, MACHINE_REQUEST_RESET);
	r->request = MACHINE_REQUEST_NONE;
	rig_out8(r, 0x92, 0x02);
	CHECK_EQ(r->request, MACHINE_REQUEST_NONE);
	CHECK_EQ(rig_in8(r, 0x92), 0x02);
	rig_out8(r, 0x92, 0x03);
	CHECK_EQ(r->request, MACHINE_REQUEST_RESET);
}

static void kbd_controller(struct rig *r)
{
	rig_add(r, &i8042_class, NULL);
	CHECK_EQ(rig_in8(r, 0x64) & 3, 0);
	rig_out8(r, 0x64, 0xaa);
	CHECK_EQ(rig_in8(r, 0x64) & 1, 1);
	CHECK_EQ(rig_in8(r, 0x60), 0x55);
	CHECK_EQ(rig_in8(r, 0x64) & 1, 0);
	rig_out8(r, 0x64, 0xab);
	CHECK_EQ(rig_in8(r, 0x60), 1); /* nothing plugged in */
	rig_out8(r, 0x64, 0x60);
	rig_out8(r, 0x60, 0x47);
	rig_out8(r, 0x64, 0x20);
	CHECK_EQ(rig_in8(r, 0x60), 0x47);
	rig_out8(r, 0x64, 0xd1); /* A20 off and on */
	rig_out8(r, 0x60, 0xdd);
	CHECK_EQ(rig_in8(r, 0x92), 0);
	rig_out8(r, 0x64, 0xd1);
	rig_out8(r, 0x60, 0xdf);
	rig_out8(r, 0x64, 0xd0);
	CHECK_EQ(rig_in8(r, 0x60), 0xdf);
	rig_out8(r, 0x60, 0xff); /* to a keyboard that is not there */
	CHECK_EQ(rig_in8(r, 0x64) & 1, 0);
	CHECK_EQ(r->request, MACHINE_REQUEST_NONE);
}

static void debug_exit(struct rig *r)
{
	rig_add(r, &debug_exit_class, NULL);
	CHECK_EQ(rig_in8(r, 0xf4), 0);
	rig_out(r, 0xf4, 4, 0x10);
	CHECK_EQ(r->request, MACHINE_REQUEST_DEBUG_EXIT);
	CHECK_EQ(r->request_code, 0x21);
}

static void test_device(struct rig *r)
{
	rig_add(r, &i8259_class, NULL);
	rig_add(r, &ioapic_class, NULL);
	rig_add(r, &test_device_class, NULL);
	rig_out(r, 0xe0, 4, 0x12345678);
	rig_out8(r, 0xe1, 0xab);
	CHECK_EQ(rig_in(r, 0xe0, 4), 0x1234ab78);
	CHECK_EQ(rig_in(r, 0xe2, 2), 0x1234);
	rig_out(r, 0xe3, 4, 0x55);
	CHECK_EQ(rig_in(r, 0xe0, 4), 0x5534ab78);
	rig_out(r, 0xe4, 4, 0x1000); /* a page to forget */
	CHECK_EQ(rig_in(r, 0xe4, 4), 0);
	rig_write(r, 0xff00fffc, 4, 0xdeadbeef);
	rig_write(r, 0xff00fffe, 1, 0x11);
	CHECK_EQ(rig_read(r, 0xff00fffc, 4), 0xde11beef);
	rig_write(r, 0xfec00000, 4, 0x10 + 2 * 14); /* line 14: vector 0x50, level-triggered */
	rig_write(r, 0xfec00010, 4, 0x8050);
	CHECK_EQ(r->msis, 0);
	rig_out8(r, 0x200e, 1);
	CHECK_EQ(r->msis, 1);
	rig_out8(r, 0x200e, 0);
	rig_out8(r, 0x200e, 1); /* not before the EOI */
	CHECK_EQ(r->msis, 1);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "uart output", uart_output },
		{ "uart autoconfiguration", uart_autoconfig },
		{ "uart transmitter interrupt", uart_thre_interrupt },
		{ "uart slow reader", uart_slow_reader },
		{ "uart dead reader", uart_dead_reader },
		{ "uart input", uart_input },
		{ "uart polled input", uart_polled_input },
		{ "uart much input", uart_much_input },
		{ "uart hang-up", uart_hangup },
		{ "uart loopback", uart_loopback },
		{ "uart unconnected", uart_unconnected },
		{ "uart into a file", uart_into_file },
		{ "uart any bytes", uart_any_bytes },
		{ "keyboard controller resets", kbd_reset },
		{ "keyboard controller", kbd_controller },
		{ "debug exit", debug_exit },
		{ "test device", test_device },
	};

	return rig_main("serial", cases, ARRAY_SIZE(cases), argc, argv);
}
