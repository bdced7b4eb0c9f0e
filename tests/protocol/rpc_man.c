/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_man.c - prints the parts of vmxd-rpc(7) that come from the tables: methods, and errors. */
#include <stdio.h>
#include <string.h>

#include "protocol/methods.h"

/* A line of text: mdoc takes '.' and '\'' at its start for a macro. */
static void text(const char *line)
{
	if (*line == '.' || *line == '\'')
		fputs("\\&", stdout);
	for (; *line; line++) {
		/* One sentence a line. */
		if (line[0] == '.' && line[1] == ' ') {
			puts(".");
			line++;
		} else if (*line == '\\') {
			fputs("\\e", stdout);
		} else {
			putchar(*line);
		}
	}
	putchar('\n');
}

static void limits(const struct schema_field *f)
{
	if (f->values) {
		printf("One of");
		for (const char *const *v = f->values; *v; v++)
			printf("%s %s", v == f->values ? ":" : ",", *v);
		puts(".");
	}
	if (f->type == SCHEMA_INT && f->max > f->min && f->max < 1 << 20)
		printf("From %lld to %lld.\n", (long long)f->min, (long long)f->max);
	if (f->dflt)
		printf("Default: %s.\n", f->dflt);
}

static void fields(const struct schema_field *f)
{
	if (!f->name)
		return;
	puts(".Bl -tag -width Ds -compact");
	for (; f->name; f++) {
		printf(".It Va %s Pq %s%s\n", f->name, schema_type_text(f),
		       f->required ? ", required" : "");
		text(f->summary);
		limits(f);
		if ((f->type == SCHEMA_OBJECTS || f->type == SCHEMA_OBJECT) && f->fields &&
		    f->fields->name && strcmp(f->name, "vms") &&
		    strcmp(f->name, "disk")) /* shown elsewhere */
			fields(f->fields);
	}
	puts(".El");
}

static void methods(void)
{
	puts(".Bl -tag -width Ds");
	for (enum method_id id = 0; id < METHOD_COUNT; id++) {
		const struct method *m = method_get(id);

		printf(".It Ic %s Pq %s\n", m->name, m->access == ACCESS_READ ? "read" : "write");
		text(m->summary);
		if (m->params->name) {
			puts(".Pp\nParameters:");
			fields(m->params);
		}
	}
	puts(".El");
}

static void errors(void)
{
	puts(".Bl -tag -width Ds -compact");
	for (const struct rpc_code_info *c = rpc_codes(); c->code; c++) {
		printf(".It \\-%d Pq Dq %s\n", -c->code, c->reason);
		text(c->summary);
	}
	puts(".El");
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "errors") == 0)
		errors();
	else if (argc == 2 && strcmp(argv[1], "info") == 0)
		fields(method_get(METHOD_VM_INFO)->result);
	else
		methods();
	return 0;
}
