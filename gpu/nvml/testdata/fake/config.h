/* What the fake pretends: read from a file, which may change at any time. */
#ifndef FAKE_CONFIG_H
#define FAKE_CONFIG_H

#include <nvml.h>

enum { MAX_GPUS = 16, MAX_MIGS = 8, MAX_PROCS = 32, MAX_RULES = 64, TEXT = 128 };

typedef unsigned long long u64;

struct process {
	unsigned pid, gi, ci;
	u64 memory;
};

/* "return.NAME = CODE" and "delay_us.NAME = N"; "*" is every name. */
struct rule {
	char name[TEXT];
	long code;     /* -1 = as usual */
	long delay_us; /* 0 = at once */
};

struct rules {
	int n;
	struct rule of[MAX_RULES];
};

struct mig {
	int there;
	unsigned gi, ci, sms;
	char uuid[TEXT], profile[TEXT];
	u64 total, used;
};

struct gpu {
	char uuid[TEXT], name[TEXT], serial[TEXT];
	unsigned domain, bus, slot, minor, cc_major, cc_minor;
	u64 total, used, reserved;
	unsigned util_gpu, util_mem, temperature, slowdown;
	unsigned power_mw, power_cap_mw, sm_mhz, mem_mhz;
	u64 energy_mj, clock_reasons, ecc_uncorrected, events;
	int persistence, compute_mode, ecc;         /* ecc: -1 = the model has none */
	int mig_mode, mig_pending;                  /* -1 = it cannot be cut */
	int remapped, corr, uncorr, pending, failed; /* remapped: 0 = not supported */
	int recovery;                               /* -1 = a driver that does not know it */
	int lost;
	int nprocs;
	struct process procs[MAX_PROCS];
	int topo[MAX_GPUS], nvlink[MAX_GPUS], switched;
	struct mig migs[MAX_MIGS];
	struct rules rules;
};

struct config {
	char driver[TEXT], nvml[TEXT];
	int cuda;
	int gpus;
	struct gpu gpu[MAX_GPUS];
	struct rules rules;
};

/* Reads path into c. What it cannot read it reports on standard error and ends the
 * process: a test with a slip in it must not pass. */
void config_read(struct config *c, const char *path);

#endif
