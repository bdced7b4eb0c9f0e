/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/server.h"

struct events {
	uint64_t next;
	json_object *ring[EVENTS_KEPT]; /* event n is at n % EVENTS_KEPT */
};

struct events *events_new(void)
{
	struct events *events = calloc(1, sizeof(*events));

	if (events)
		events->next = 1;
	return events;
}

struct events *events_free(struct events *events)
{
	if (!events)
		return NULL;
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		json_object_put(events->ring[i]);
	free(events);
	return NULL;
}

uint64_t events_first(const struct events *events)
{
	return events->next > EVENTS_KEPT ? events->next - EVENTS_KEPT : 1;
}

uint64_t events_next(const struct events *events)
{
	return events->next;
}

json_object *events_get(const struct events *events, uint64_t seq)
{
	return json_object_get(events->ring[seq % EVENTS_KEPT]);
}

static void add_time(json_object *body)
{
	struct timespec now;
	struct tm tm;
	char day[32], text[48];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%03ldZ", day, now.tv_nsec / 1000000);
	json_add_str(body, "time", text);
}

void events_add(struct daemon *daemon, const char *type, json_object *body)
{
	struct events *events = daemon->events;
	json_object **slot = &events->ring[events->next % EVENTS_KEPT];

	if (!body)
		return;
	json_add_int(body, "seq", (int64_t)events->next);
	json_add_str(body, "type", type);
	add_time(body);
	json_object_put(*slot);
	*slot = body;
	events->next++;
	server_push_events(daemon->server);
}
