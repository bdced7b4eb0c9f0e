/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static void print_event(json_object *params)
{
	printf("%s %" PRId64 " %s", json_get_str(params, "time", ""),
	       json_get_int(params, "seq", 0), json_get_str(params, "type", ""));
	json_object_object_foreach(params, key, value) {
		if (strcmp(key, "time") && strcmp(key, "seq") && strcmp(key, "type"))
			printf(" %s=%s", key, json_object_get_string(value));
	}
	putchar('\n');
	fflush(stdout);
}

int verb_events(struct ctl *ctl)
{
	json_object *params = json_object_new_object(), *result;
	double number, left = -1;
	int r;

	if ((has_option(ctl, OPTION_FROM) && !option_number(ctl, OPTION_FROM, 1e15, &number)) ||
	    (has_option(ctl, OPTION_COUNT_EVENTS) &&
	     !option_number(ctl, OPTION_COUNT_EVENTS, 1e15, &left))) {
		json_object_put(params);
		return EXIT_USAGE;
	}
	if (has_option(ctl, OPTION_FROM))
		json_add_int(params, "from", (int64_t)number);
	r = ctl_call(ctl, "events.subscribe", params, &result);
	if (r != EXIT_OK)
		return r;
	if (json_get_int(result, "lost", 0))
		ctl_note(ctl, "%" PRId64 " events are no longer known",
			 json_get_int(result, "lost", 0));
	json_object_put(result);
	while (left != 0) {
		json_object *message;

		r = client_next(ctl->client, -1, &message);
		if (r < 0)
			return ctl_error(ctl, r, NULL);
		if (ctl->json)
			print_json(json_get(message, "params"));
		else
			print_event(json_get(message, "params"));
		json_object_put(message);
		if (left > 0)
			left--;
	}
	return EXIT_OK;
}
