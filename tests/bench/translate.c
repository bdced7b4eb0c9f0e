/* SPDX-License-Identifier: Apache-2.0 */
/*
 * translate.c - what translation costs, without a guest that runs: the executable segments of ELF files
 * (a kernel's vmlinux, a libc) are translated from begin to end, and what their blocks jump to as well.
 *
 * Under `valgrind --tool=callgrind --toggle-collect=jit_make` it counts the host's instructions, which
 * no other load changes. -o FILE keeps the code: the same as another translator's but for addresses?
 */
#include <elf.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/jit_make.h"
#include "vmx-driver/soft/jit_tr.h"

#define LINKS 65536u /* that are still to be followed */

struct bench {
	struct vmx_vm *vm;
	struct soft_vcpu *v;
	struct soft_cache *cache;
	uint32_t mode;
	uint64_t rip, gpa, size; /* of the segment */
	uint64_t next_gpa;
	struct jit_key todo[LINKS];
	unsigned todo_count;
};

static struct jit_key key_of(const struct bench *b, uint64_t rip, uint32_t mode, jit_recipe recipe)
{
	struct jit_key key = {
		.rip = rip, .gpa = b->gpa + (rip - b->rip), .gpa2 = JIT_NO_PAGE, .mode = b->mode | mode,
		.recipe = recipe,
	};

	if (jit_near_end(rip) && (key.gpa | 4095) + 1 < b->gpa + b->size)
		key.gpa2 = (key.gpa | 4095) + 1;
	return key;
}

static void follow(struct bench *b, struct jit_block *block)
{
	for (unsigned k = 0; k < block->link_count && b->todo_count < LINKS; k++) {
		const struct jit_link *link = &jit_links(block)[k];
		uint64_t rip = jit_link_target(b->cache, link);

		if (rip - b->rip < b->size)
			b->todo[b->todo_count++] = key_of(b, rip, (uint32_t)link->target << 16 & JIT_MODE_BITS,
							  jit_recipe_of(link->recipe));
	}
}

/* Where the code goes on behind the block. */
static uint64_t make(struct bench *b, const struct jit_key *key)
{
	uint64_t made = b->cache->n_blocks;
	struct jit_block *block = jit_make(b->v, key);

	if (!block || b->cache->n_blocks == made)
		return key->rip + 1;
	follow(b, block);
	return b->cache->scratch->end_rip;
}

static void translate(struct bench *b, uint64_t insns)
{
	insns += b->cache->n_insns;
	for (uint64_t rip = b->rip; rip < b->rip + b->size && b->cache->n_insns < insns;) {
		struct jit_key key = key_of(b, rip, 0, 0);

		rip = make(b, &key);
		while (b->todo_count) {
			key = b->todo[--b->todo_count];
			make(b, &key);
		}
	}
}

static void segment(struct bench *b, const uint8_t *file, const Elf64_Phdr *ph, uint64_t insns)
{
	uint64_t size = (ph->p_filesz + (ph->p_vaddr & 4095) + 4095) & ~4095ull;
	void *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		err(1, "mmap");
	memcpy((uint8_t *)ram + (ph->p_vaddr & 4095), file + ph->p_offset, ph->p_filesz);
	b->gpa = b->next_gpa;
	b->next_gpa += size;
	if (vmx_vm_map(b->vm, b->gpa, size, ram, VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC))
		errx(1, "vmx_vm_map");
	b->gpa += ph->p_vaddr & 4095;
	b->rip = ph->p_vaddr;
	b->size = ph->p_filesz;
	b->mode = CODE_64 | MODE_SSE | MODE_AVX | (b->rip >> 63 ? 0 : MODE_USER);
	b->v->ctx = b->rip >> 63 ? CTX_KERNEL : CTX_USER;
	translate(b, insns);
}

static void elf(struct bench *b, const char *path, uint64_t insns)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const Elf64_Ehdr *eh;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", path);
	eh = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (eh == MAP_FAILED || (size_t)st.st_size < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG))
		errx(1, "%s: no ELF file", path);
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		const uint8_t *file = (const uint8_t *)eh;
		const Elf64_Phdr *ph = (const Elf64_Phdr *)(const void *)(file + eh->e_phoff) + i;

		if (ph->p_type == PT_LOAD && ph->p_flags & PF_X) {
			segment(b, file, ph, insns);
			break;
		}
	}
}

static void keep(const struct soft_cache *cache, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		err(1, "%s", path);
	for (unsigned i = 0; i < cache->region_count; i++) {
		const struct jit_region *r = &cache->regions[i];

		fwrite(cache->rw + cache->hot_at + i * cache->hot_size, 1, r->used, f);
		fwrite(cache->rw + cache->cold_at + i * cache->cold_size, 1, r->used_cold, f);
	}
	if (ferror(f) | fclose(f))
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	struct vmx_vm_options options = { .size = sizeof(options), .engine = VMX_ENGINE_SOFT };
	struct bench *b = calloc(1, sizeof(*b));
	struct vmx_vcpu *cpu;
	const char *out = NULL;

	if (argc > 2 && !strcmp(argv[1], "-o")) {
		out = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc < 3)
		errx(1, "usage: translate [-o FILE] INSTRUCTIONS ELF-FILE...");
	if (!b || vmx_vm_create(&options, &b->vm) || vmx_vcpu_create(b->vm, 0, &cpu))
		errx(1, "no virtual machine");
	b->v = soft_vcpu_of(cpu);
	b->cache = soft_vm_from(b->vm)->cache;
	for (int i = 2; i < argc; i++)
		elf(b, argv[i], strtoull(argv[1], NULL, 0));
	if (out)
		keep(b->cache, out);
	printf("%llu instructions, %llu blocks, %.0f bytes of code and %.0f ticks an instruction\n",
	       (unsigned long long)b->cache->n_insns, (unsigned long long)b->cache->n_blocks,
	       (double)b->cache->n_bytes / (double)b->cache->n_insns,
	       (double)b->cache->translation_ticks / (double)b->cache->n_insns);
	return 0;
}
