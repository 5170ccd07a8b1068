/* NVML, as far as it counts who has initialized it, and knows what its GPUs are:
 * $FAKE_NVML_CAPABILITIES is "9.0 8.9" for two, and "?" for one that it cannot tell of. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int users;

int nvmlInit_v2(void) { users++; return 0; }
int nvmlShutdown(void) { return users ? (users--, 0) : 1; /* NVML_ERROR_UNINITIALIZED */ }

static const char *capability(unsigned index)
{
    const char *at = getenv("FAKE_NVML_CAPABILITIES");
    for (at = at && *at ? at : NULL; at && index; index--)
        at = (at = strchr(at, ' ')) ? at + 1 : NULL;
    return at;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    if (!users) return 1;
    for (*count = 0; capability(*count); ++*count) ;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    return (*device = (void *)capability(index)) ? 0 : 6; /* NVML_ERROR_NOT_FOUND */
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    return sscanf(device, "%d.%d", major, minor) == 2 ? 0 : 3; /* NVML_ERROR_NOT_SUPPORTED */
}
