/* A libcuda that checkpoints nothing: its entry points keep each process's state in a file.
 *
 * FAKE_CUDA names a folder. In it, all text:
 *
 *   state.PID    number of the state that PID is in; no file: 0, running
 *   fail.STEP    CUresult that STEP returns instead of doing anything
 *   hang.STEP    STEP never returns; the process is left in the middle of it
 *   kill.STEP    STEP kills the target, as a crash of its checkpoint thread does
 *   calls        appended: "STEP PID" of each call, STEP as in checkpoint.py
 *
 * The state machine is the documented one (cuda.h 12.8), the errors are driver 580.159's: a
 * step from the wrong state is CUDA_ERROR_ILLEGAL_STATE; a process that we may not signal, or
 * that is not there, CUDA_ERROR_OPERATING_SYSTEM.
 * Memory is malloc'd, at most 1 MiB of what is asked; calls of a process that is not
 * running wait, as the real ones do.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3,
       OPERATING_SYSTEM = 304, ILLEGAL_STATE = 401, NOT_READY = 600, NOT_PERMITTED = 800,
       NOT_SUPPORTED = 801, UNKNOWN = 999 };
enum { RUNNING, LOCKED, CHECKPOINTED, FAILED, CHECKPOINTING, RESTORING };

static int initialised;

static char *path(const char *kind, const char *name) {
    static char made[4096];
    snprintf(made, sizeof made, "%s/%s.%s", getenv("FAKE_CUDA"), kind, name);
    return made;
}

static int number(const char *where, int otherwise) {
    int found = otherwise;
    FILE *file = fopen(where, "r");
    if (!file) return otherwise;
    if (fscanf(file, "%d", &found) != 1) found = otherwise;
    fclose(file);
    return found;
}

static char *state_path(int pid) {
    char name[32];
    snprintf(name, sizeof name, "%d", pid);
    return path("state", name);
}

static void set_state(int pid, int state) {
    char final[4096], fresh[4104];
    strcpy(final, state_path(pid));
    snprintf(fresh, sizeof fresh, "%s.new", final);
    FILE *file = fopen(fresh, "w");
    fprintf(file, "%d\n", state);
    fclose(file);
    rename(fresh, final);
}

static void note(const char *step, int pid) {
    char where[4096];
    snprintf(where, sizeof where, "%s/calls", getenv("FAKE_CUDA"));
    FILE *file = fopen(where, "a");
    if (!file) return;
    fprintf(file, "%s %d\n", step, pid);
    fclose(file);
}

static int planned(const char *step, int pid, int between) {
    note(step, pid);
    if (!initialised && strcmp(step, "init")) return NOT_INITIALIZED;
    if (access(path("kill", step), F_OK) == 0) {
        kill(pid, SIGKILL);
        usleep(100000);
        return OPERATING_SYSTEM;
    }
    if (access(path("hang", step), F_OK) == 0) {
        if (pid && between >= 0) set_state(pid, between);
        for (;;) pause();
    }
    return number(path("fail", step), SUCCESS);
}

static int reachable(int pid) {
    return kill(pid, 0) == 0 ? SUCCESS : OPERATING_SYSTEM;
}

static int move(const char *step, int pid, int from, int between, int to) {
    int code = planned(step, pid, between);
    if (code) return code;
    if ((code = reachable(pid))) return code;
    if (number(state_path(pid), RUNNING) != from) return ILLEGAL_STATE;
    set_state(pid, to);
    return SUCCESS;
}

int cuInit(unsigned flags) {
    int code = planned("init", 0, -1);
    initialised = code == SUCCESS && flags == 0;
    return code;
}

int cuCheckpointProcessGetState(int pid, int *state) {
    int code = planned("state", pid, -1);
    if (code) return code;
    if ((code = reachable(pid))) return code;
    *state = number(state_path(pid), RUNNING);
    return SUCCESS;
}

struct lock_args { unsigned timeout_ms, reserved0; unsigned long long reserved1[7]; };

int cuCheckpointProcessLock(int pid, struct lock_args *args) {
    if (!args || !args->timeout_ms || args->reserved0 || args->reserved1[6]) return INVALID_VALUE;
    return move("lock", pid, RUNNING, RUNNING, LOCKED);
}

int cuCheckpointProcessCheckpoint(int pid, void *args) {
    return args ? INVALID_VALUE : move("checkpoint", pid, LOCKED, CHECKPOINTING, CHECKPOINTED);
}

int cuCheckpointProcessRestore(int pid, void *args) {
    return args ? INVALID_VALUE : move("restore", pid, CHECKPOINTED, RESTORING, LOCKED);
}

int cuCheckpointProcessUnlock(int pid, void *args) {
    return args ? INVALID_VALUE : move("unlock", pid, LOCKED, LOCKED, RUNNING);
}

int cuGetErrorName(int code, const char **name) {
    static const struct { int code; const char *name; } names[] = {
        {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"}, {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
        {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {OPERATING_SYSTEM, "CUDA_ERROR_OPERATING_SYSTEM"},
        {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE"}, {NOT_READY, "CUDA_ERROR_NOT_READY"},
        {NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED"}, {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
    };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code) { *name = names[i].name; return SUCCESS; }
    *name = NULL;
    return INVALID_VALUE;
}

/* What a program that uses the GPU calls: for the bench's target. */

static void wait_until_running(void) {
    while (number(state_path(getpid()), RUNNING) != RUNNING) usleep(2000);
}

static void *some(size_t bytes) {
    wait_until_running();
    return calloc(1, bytes < 1 << 20 ? bytes : 1 << 20);
}

int cuDeviceGetCount(int *count) { *count = 1; return initialised ? SUCCESS : NOT_INITIALIZED; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    return (*context = some(1)) ? SUCCESS : OUT_OF_MEMORY;
}
int cuCtxSetCurrent(void *context) { return context ? SUCCESS : INVALID_VALUE; }
int cuCtxSynchronize(void) { wait_until_running(); return SUCCESS; }
int cuMemAlloc_v2(void **at, size_t bytes) {
    if (bytes > (size_t)80 << 30) return OUT_OF_MEMORY;
    return (*at = some(bytes)) ? SUCCESS : OUT_OF_MEMORY;
}
int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
    (void)flags;
    return (*at = some(bytes)) ? SUCCESS : OUT_OF_MEMORY;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    wait_until_running();
    *free_bytes = (size_t)79 << 30;
    *total_bytes = (size_t)80 << 30;
    return SUCCESS;
}
int cuMemsetD32_v2(void *at, unsigned value, size_t count) {
    wait_until_running();
    if (count > 1 << 18) count = 1 << 18;
    for (size_t i = 0; i < count; i++) ((unsigned *)at)[i] = value;
    return SUCCESS;
}
int cuMemcpyDtoH_v2(void *to, void *from, size_t bytes) {
    wait_until_running();
    memcpy(to, from, bytes);
    return SUCCESS;
}
