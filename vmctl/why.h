/* why.h: why a guest is not well, and what helps. One thread. */
#ifndef VMCTL_WHY_H
#define VMCTL_WHY_H

#include "client.h"
#include "page.h"

/* Of a guest as the API shows it. Asks for its last lines, and adds nothing to the page when all is well. */
void why_show(struct client *c, const json_t *doc, struct page *p);

#endif
