/* SPDX-License-Identifier: Apache-2.0 */
/* plug_config.c - the lists of pluggable devices in a VM's configuration, and its file. */
#include "daemon/plug_internal.h"

#include <stdio.h>
#include <string.h>

#include "daemon/events.h"
#include "daemon/store.h"

size_t units_count(json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

json_object *units_find(json_object *list, const char *id, size_t *ret_index)
{
	for (size_t i = 0; i < units_count(list); i++) {
		json_object *unit = json_object_array_get_idx(list, i);

		if (strcmp(json_get_str(unit, "id", ""), id) == 0) {
			if (ret_index)
				*ret_index = i;
			return unit;
		}
	}
	return NULL;
}

const struct plug_kind *plug_find(json_object *config, const char *id)
{
	for (size_t k = 0; k < PLUG_KINDS; k++)
		if (units_find(json_get(config, plug_kinds[k].list), id, NULL))
			return &plug_kinds[k];
	return NULL;
}

/* Members keep their order for people: the id comes first. */
void plug_set_id(json_object *config, const struct plug_kind *kind, json_object *unit)
{
	char id[UNIT_ID_MAX + 1];

	for (unsigned n = 0;; n++) {
		snprintf(id, sizeof(id), "%s%u", kind->word, n);
		if (!plug_find(config, id))
			break;
	}
	json_add_str(unit, "id", id);
}

void plug_name_units(json_object *config)
{
	for (size_t k = 0; k < PLUG_KINDS; k++) {
		json_object *list = json_get(config, plug_kinds[k].list);

		if (!list && plug_kinds[k].list_default)
			json_add(config, plug_kinds[k].list, plug_kinds[k].list_default());
		for (size_t i = 0; i < units_count(list); i++) {
			json_object *unit = json_object_array_get_idx(list, i);

			if (!json_get(unit, "id"))
				plug_set_id(config, &plug_kinds[k], unit);
		}
	}
}

int plug_check_ids(json_object *config, struct rpc_error *error)
{
	for (size_t k = 0; k < PLUG_KINDS; k++) {
		json_object *list = json_get(config, plug_kinds[k].list);

		for (size_t i = 0; i < units_count(list); i++) {
			const char *id = json_get_str(json_object_array_get_idx(list, i), "id", NULL);
			char field[32];
			size_t first;

			if (!id || (plug_find(config, id) == &plug_kinds[k] &&
				    units_find(list, id, &first) && first == i))
				continue;
			snprintf(field, sizeof(field), "%s[%zu].id", plug_kinds[k].list, i);
			return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", field,
					"%s: \"%s\" is taken", field, id);
		}
	}
	return 0;
}

static void tell(struct vm *vm, const char *event, const struct plug_kind *kind, const char *id)
{
	json_object *body = json_object_new_object();

	json_add_str(body, "vm", vm->name);
	json_add_str(body, "kind", kind->word);
	json_add_str(body, "id", id);
	log_line(vm->daemon->log, LOG_LEVEL_INFO, "vm %s: %s %s: %s", vm->name, kind->word, id,
		 strchr(event, '.') + 1);
	events_add(vm->daemon, event, body);
}

/* 0, or a negative errno: the configuration has it, its file has not. */
static int save(struct vm *vm)
{
	int r = store_save(vm->daemon, vm->name, vm->config);

	if (r < 0)
		log_line(vm->daemon->log, LOG_LEVEL_ERROR, "vm %s: its configuration cannot be kept: %s",
			 vm->name, strerror(-r));
	return r;
}

int plug_config_add(struct vm *vm, const struct plug_kind *kind, json_object *unit)
{
	const char *id = json_get_str(unit, "id", "");

	if (units_find(json_get(vm->config, kind->list), id, NULL))
		return 0;
	if (!json_get(vm->config, kind->list))
		json_add(vm->config, kind->list, json_object_new_array());
	json_object_array_add(json_get(vm->config, kind->list), json_object_get(unit));
	if (kind->known && vm->link)
		kind->known(vm, id);
	tell(vm, "vm.device_added", kind, id);
	return save(vm);
}

int plug_config_remove(struct vm *vm, const struct plug_kind *kind, const char *name)
{
	json_object *list = json_get(vm->config, kind->list);
	char id[UNIT_ID_MAX + 1];
	size_t index;

	snprintf(id, sizeof(id), "%s", name);
	if (!units_find(list, id, &index))
		return 0;
	json_object_array_del_idx(list, index, 1);
	if (kind->gone)
		kind->gone(vm, id);
	tell(vm, "vm.device_removed", kind, id);
	return save(vm);
}

static void add_members(json_object *to, json_object *from)
{
	json_object_object_foreach(from, key, value)
		json_add(to, key, json_object_get(value));
}

json_object *plug_unit_json(const struct vm *vm, const struct plug_kind *kind, json_object *unit)
{
	const char *id = json_get_str(unit, "id", "");
	json_object *known = units_find(vm->units, id, NULL), *more;
	json_object *result = json_object_new_object();

	add_members(result, unit);
	if (kind->describe) {
		more = kind->describe(vm, id);
		add_members(result, more);
		json_object_put(more);
	}
	json_add_str(result, "state", !vm->link ? "configured" : !known ? "starting" :
		     json_get_bool(known, "removing", false) ? "removing" : "attached");
	if (known && json_get_int(known, "slot", -1) >= 0)
		json_add_int(result, "slot", json_get_int(known, "slot", 0));
	return result;
}
