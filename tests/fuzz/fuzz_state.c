/* What is left in a guest's run_dir, damaged: the state file of a vms-keeper, and the note of a libvirt domain. Refused, or
 * written and read again as the same. */
#include "fuzz.h"

#include <drivers/keeper.h>
#include <drivers/libvirt.h>
#include <fcntl.h>
#include <unistd.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

static char dir[] = "/dev/shm/fuzz_state.XXXXXX"; /* where fsync costs nothing */
static int dir_fd = -1;

static void remove_dir(void)
{
    unlinkat(dir_fd, "libvirt", 0);
    unlinkat(dir_fd, "state", 0);
    unlinkat(dir_fd, "shares", 0);
    rmdir(dir);
}

static void make_dir(void)
{
    MUST(mkdtemp(dir) && (dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    atexit(remove_dir);
}

static void state(const char *text)
{
    OWN(str) char *written = NULL;
    struct state s, again;

    if (!state_parse(text, &s))
        return;
    MUST(s.keeper.pid > 0 && s.nspawn.pid >= 0 && s.leader.pid >= 0);
    MUST(s.by < KEEPER_KIND_COUNT && s.phase < PHASE_COUNT && s.end < END_COUNT && strlen(s.boot) < sizeof s.boot);
    for (const char *at = s.text; *at; at++)
        MUST(*at >= ' ' && *at <= '~');
    if (!keeper_files[s.by])
        return;
    state_write(dir_fd, &s);
    MUST(path_read(dir_fd, keeper_files[s.by], STATE_BYTES_MAX, &written, NULL, NULL) == 0);
    MUST(state_parse(written, &again) && again.phase == s.phase && again.end == s.end && again.status == s.status);
    MUST(again.keeper.pid == s.keeper.pid && again.keeper.start == s.keeper.start && !strcmp(again.text, s.text));
}

static void note(const uint8_t *data, size_t n)
{
    OWN(virt_note) struct virt_note v = { 0 }, again = { 0 };
    struct vm_err e = { 0 };

    MUST(path_write(dir_fd, "libvirt", (const char *)data, n, 0600, NULL) == 0);
    if (virt_note_read(dir, &v, &e) < 0) {
        MUST(e.text[0] && text_is_clean(e.text, strlen(e.text)));
        return;
    }
    MUST(v.uid != 0 && v.qemu.pid >= 0 && v.console.pid >= 0);
    MUST(virt_note_write(dir, &v, NULL) == 0 && virt_note_read(dir, &again, NULL) == 0);
    MUST(again.uid == v.uid && again.qemu.pid == v.qemu.pid && again.opened.n == v.opened.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    bool is_note = next_byte(&data, &n) & 1;
    OWN(str) char *text = strndup((const char *)data, n);

    if (dir_fd < 0)
        make_dir();
    MUST(text);
    if (is_note)
        note(data, n);
    else
        state(text);
    return 0;
}
