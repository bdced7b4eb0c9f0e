/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include <stdio.h>

#include "cli/cli.h"

int verb_version(struct ctl *ctl)
{
	json_object *info = NULL, *both;
	struct rpc_error error;
	const char *daemon = NULL;

	/* Without a daemon there is still a client. */
	if (client_new(ctl->socket, &ctl->client) == 0 &&
	    client_call(ctl->client, "daemon.info", NULL, 2000, &info, &error) == 0)
		daemon = json_get_str(info, "version", NULL);
	if (ctl->json) {
		both = json_object_new_object();
		json_add_str(both, "vmctl", PACKAGE_VERSION);
		json_add_str(both, "vmxd", daemon);
		print_json(both);
		json_object_put(both);
	} else {
		puts("vmctl " PACKAGE_VERSION);
		if (daemon)
			printf("vmxd %s\n", daemon);
	}
	json_object_put(info);
	return EXIT_OK;
}
