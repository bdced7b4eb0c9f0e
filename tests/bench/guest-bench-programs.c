/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-bench-programs.c - workloads that are others' programs: Debian's Lua and zlib, linked in.
 */
#include <config.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tests/bench/guest-bench.h"

#define TEXT_SIZE 65536u
#define PACKED_SIZE (2u * TEXT_SIZE)

/* Makes tables, sorts, formats and joins strings, calls closures. */
void bench_lua(struct work *w, uint64_t n)
{
	static const char program[] =
		"local function mix(i) return (i * 7919) % 1009 end "
		"local t = {} for i = 1, 2000 do t[i] = mix(i) end table.sort(t) "
		"local s = 0 for i, v in ipairs(t) do s = s + v * i end "
		"local seen = {} for _, v in ipairs(t) do seen['k' .. v % 97] = (seen['k' .. v % 97] or 0) + 1 end "
		"local words = {} for i = 1, 300 do words[#words + 1] = string.format('%d:%s', i, t[i]) end "
		"return #table.concat(words) + s + seen.k1";

	for (uint64_t i = 0; i < n; i++) {
		lua_State *lua = luaL_newstate();

		if (!lua)
			exit(1);
		luaL_openlibs(lua);
		if (luaL_dostring(lua, program))
			exit(1);
		w->sink += (uint64_t)lua_tointeger(lua, -1);
		lua_close(lua);
	}
}

/* Text of a sort: words by a generator, some of them again. */
static void fill_text(unsigned char *text)
{
	uint32_t s = 12345;

	for (unsigned i = 0; i < TEXT_SIZE; i++) {
		s = s * 1664525u + 1013904223u;
		text[i] = i > 512 && (s >> 28) < 10 ? text[i - 300 - (s >> 20 & 63)] :
						       "etaoin shrdlu\n"[s >> 24 & 7];
	}
}

void prepare_deflate(struct work *w)
{
	fill_text((unsigned char *)w->a);
}

void prepare_inflate(struct work *w)
{
	prepare_deflate(w);
	bench_deflate(w, 1);
}

void bench_deflate(struct work *w, uint64_t n)
{
	unsigned char *text = (unsigned char *)w->a, *packed = (unsigned char *)w->b;

	for (uint64_t i = 0; i < n; i++) {
		uLongf len = PACKED_SIZE;

		if (compress2(packed, &len, text, TEXT_SIZE, 6) != Z_OK)
			exit(1);
		w->packed = len;
	}
}

void bench_inflate(struct work *w, uint64_t n)
{
	unsigned char *text = (unsigned char *)w->a, *packed = (unsigned char *)w->b;

	for (uint64_t i = 0; i < n; i++) {
		uLongf len = TEXT_SIZE;

		if (uncompress(text, &len, packed, w->packed) != Z_OK || len != TEXT_SIZE)
			exit(1);
		w->sink += text[i % TEXT_SIZE];
	}
}
