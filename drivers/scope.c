#include "cgroup.h"
#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

OWN_DEFINE(bus, sd_bus *, sd_bus_flush_close_unref)
OWN_DEFINE(message, sd_bus_message *, sd_bus_message_unref)
OWN_DEFINE(slot, sd_bus_slot *, sd_bus_slot_unref)

struct scope_job { char path[128]; char result[32]; };

/* From a guest's own time limit to the kill of what is left of it. */
enum { STOP_SLACK_MS = 5000, STATE_ASK_US = 1000000 };

bool scope_wanted(void)
{
    return sd_booted() > 0;
}

static int job_removed(sd_bus_message *m, void *arg, sd_bus_error *error)
{
    struct scope_job *job = arg;
    const char *path, *result;
    uint32_t id;

    (void)error;
    if (sd_bus_message_read(m, "uoss", &id, &path, NULL, &result) >= 0 && !strcmp(path, job->path))
        snprintf(job->result, sizeof job->result, "%s", result);
    return 0;
}

/* When the host goes down: vmsd first, which stops the guests in their order; then whom it could not, each with the time
 * that it may take; then networks and firewall. */
static int add_end(sd_bus_message *call, int64_t stop_ms)
{
    return sd_bus_message_append(call, "(sv)(sv)(sv)(sv)", "KillSignal", "i", (int32_t)KEEPER_SIG_HOST_DOWN, "TimeoutStopUSec",
                                 "t", (uint64_t)(stop_ms + STOP_SLACK_MS) * 1000, "Before", "as", 1, "vmsd.service", "After",
                                 "as", 2, "network.target", "nftables.service");
}

/* Limits are written below the scope, which is ours (Delegate); systemd itself is to set none. */
static int add_properties(sd_bus_message *call, pid_t pid, int64_t stop_ms)
{
    int r;

    if ((r = sd_bus_message_open_container(call, 'a', "(sv)")) < 0 ||
        (r = sd_bus_message_append(call, "(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", "guest of vmsd", "Slice", "s",
                                   "vms.slice", "Delegate", "b", 1, "CollectMode", "s", "inactive-or-failed", "TasksMax",
                                   "t", UINT64_MAX, "PIDs", "au", 1, (uint32_t)pid)) < 0 ||
        (r = add_end(call, stop_ms)) < 0)
        return r;
    return sd_bus_message_close_container(call);
}

static int scope_call(sd_bus *bus, const char *unit, pid_t pid, int64_t stop_ms, struct scope_job *job, sd_bus_error *error)
{
    OWN(message) sd_bus_message *call = NULL;
    OWN(message) sd_bus_message *reply = NULL;
    const char *path;
    int r;

    if ((r = sd_bus_message_new_method_call(bus, &call, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                            "org.freedesktop.systemd1.Manager", "StartTransientUnit")) < 0 ||
        (r = sd_bus_message_append(call, "ss", unit, "fail")) < 0 || (r = add_properties(call, pid, stop_ms)) < 0 ||
        (r = sd_bus_message_append(call, "a(sa(sv))", 0)) < 0 || (r = sd_bus_call(bus, call, 0, error, &reply)) < 0 ||
        (r = sd_bus_message_read(reply, "o", &path)) < 0)
        return r;
    snprintf(job->path, sizeof job->path, "%s", path);
    return 0;
}

int scope_start(uint32_t id, pid_t pid, int64_t stop_ms, struct deadline d, struct vm_err *e)
{
    OWN(bus) sd_bus *bus = NULL;
    OWN(slot) sd_bus_slot *slot = NULL;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    struct scope_job job = {0};
    char unit[32];
    int r;

    snprintf(unit, sizeof unit, "vms-%u.scope", id);
    if ((r = sd_bus_open_system(&bus)) < 0)
        return vm_fail(e, VM_E_UNAVAILABLE, "system bus: %s; systemd runs, so guests need it for their scopes",
                       strerror(-r));
    sd_bus_set_method_call_timeout(bus, (uint64_t)(deadline_left(d) + 1) * 1000);
    if ((r = sd_bus_match_signal(bus, &slot, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                 "org.freedesktop.systemd1.Manager", "JobRemoved", job_removed, &job)) < 0)
        return vm_fail(e, deadline_left(d) ? VM_E_BACKEND : VM_E_TIMEOUT, "%s: listen to systemd: %s", unit, strerror(-r));
    /* The last scope of that name may be gone from the kernel a moment before it is from systemd's list. */
    while ((r = scope_call(bus, unit, pid, stop_ms, &job, &error)) < 0 &&
           sd_bus_error_has_name(&error, "org.freedesktop.systemd1.UnitExists") && deadline_left(d) > 0) {
        sd_bus_error_free(&error);
        sleep_ms(5);
    }
    if (r < 0) {
        vm_fail(e, deadline_left(d) ? VM_E_BACKEND : VM_E_TIMEOUT, "%s: %s", unit, error.message ? error.message : strerror(-r));
        sd_bus_error_free(&error);
        return -1;
    }
    while (!*job.result) {
        if ((r = sd_bus_process(bus, NULL)) < 0)
            return vm_fail(e, deadline_left(d) ? VM_E_BACKEND : VM_E_TIMEOUT, "%s: %s", unit, strerror(-r));
        if (r == 0 && (deadline_left(d) == 0 || sd_bus_wait(bus, (uint64_t)deadline_left(d) * 1000) < 0))
            return vm_fail(e, VM_E_TIMEOUT, "%s: systemd did not start it in time", unit);
    }
    if (strcmp(job.result, "done"))
        return vm_fail(e, VM_E_BACKEND, "%s: systemd says '%s'", unit, job.result);
    return 0;
}

bool drv_host_ends(void)
{
    OWN(bus) sd_bus *bus = NULL;
    OWN(str) char *state = NULL;

    if (!scope_wanted() || sd_bus_open_system(&bus) < 0 || sd_bus_set_method_call_timeout(bus, STATE_ASK_US) < 0 ||
        sd_bus_get_property_string(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                   "org.freedesktop.systemd1.Manager", "SystemState", NULL, &state) < 0)
        return false;
    return !strcmp(state, "stopping");
}
