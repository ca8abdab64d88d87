/* What a user wishes of guests, apart from their specs. Private to supervisor/. */
#ifndef WISH_H
#define WISH_H

#include "report.h"

enum wish_verb { WISH_START, WISH_STOP, WISH_RESTART, WISH_REBUILD, WISH_REMOVE };
void wish_serve(struct http_request *r, struct guest *g, enum wish_verb verb);
/* The same of several at once, told as one stream: then those that depend on each other go down and come up in order.
 * Body: {"verb": "stop", "guests": ["db", …], "purge": false}. */
void wishes_post(struct http_request *r, void *arg);

#endif
