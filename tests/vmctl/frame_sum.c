/* The check of a frame, for double.py: a byte at a time is too slow in Python. */
#include <vmsd/proto.h>

uint32_t vmctl_test_frame_sum(const char *head, const char *payload, size_t n);

uint32_t vmctl_test_frame_sum(const char *head, const char *payload, size_t n)
{
    return frame_sum(frame_sum(2166136261u, head, 24), payload, n);
}
