/* unpack.h: how vms-unpack ends, and how much it lets through. */
#ifndef UNPACK_H
#define UNPACK_H

enum unpack_exit { UNPACK_DONE = 0, UNPACK_REFUSED = 1 /* the archive's fault */, UNPACK_BROKEN = 2, UNPACK_FULL = 3 };

enum { UNPACK_ENTRIES_MAX = 2000000, UNPACK_DEPTH_MAX = 128, UNPACK_PATH_MAX = 4000, UNPACK_NAME_MAX = 255 };
#define UNPACK_BYTES_MAX (32ull << 30)

#endif
