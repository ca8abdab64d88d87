/* What a user wishes of one guest, apart from its spec. Private to supervisor/. */
#ifndef WISH_H
#define WISH_H

#include "report.h"

enum wish_verb { WISH_START, WISH_STOP, WISH_RESTART, WISH_REBUILD, WISH_REMOVE };
void wish_serve(struct http_request *r, struct guest *g, enum wish_verb verb);

#endif
