#ifndef STUBS_H
#define STUBS_H

#include "../../supervisor/job.h"

struct heard { unsigned dirty, events; char event[200]; /* text of the last */ };
extern struct heard heard;

#endif
