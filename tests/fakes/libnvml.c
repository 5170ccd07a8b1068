/* NVML, as far as it counts who has initialized it. */
int users;

int nvmlInit_v2(void) { users++; return 0; }
int nvmlShutdown(void) { return users ? (users--, 0) : 1; /* NVML_ERROR_UNINITIALIZED */ }
