#ifndef DSPY_NVML_DISPATCH_H
#define DSPY_NVML_DISPATCH_H

/* Maps the library. NULL, or why it could not be. Once per process. */
const char *dspy_nvml_open(const char *path);

/* Where the library lies, or NULL. */
const char *dspy_nvml_path(void);

#endif
