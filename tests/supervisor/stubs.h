#ifndef STUBS_H
#define STUBS_H

#include "../../supervisor/job.h"

struct heard { unsigned dirty, events; };
extern struct heard heard;

#endif
