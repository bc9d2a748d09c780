/*
 * A libnvidia-ml.so.1 without a driver, for tests and for trying things: it answers from the file
 * that FAKE_NVML_CONFIG names, which may be replaced at any time; config.h and config.c say what
 * can be in it. FAKE_NVML_LOG names a file that gets a line "PID FUNCTION CODE" per call.
 * Events come from FAKE_NVML_EVENTS (or the configuration's name with ".events"), one per line,
 * appended at any time and told once to every set that was there before:
 *
 *	xid GPU NUMBER [GI CI]    dbe GPU    mig GPU    recovery GPU    error CODE
 *
 * -DFAKE_DRIVER=470 and 390 leave out what those drivers did not have yet.
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

#ifndef FAKE_DRIVER
#define FAKE_DRIVER 550
#endif

/* A handle is a place: what lies there is the configuration's to say. */
struct nvmlDevice_st {
	int gpu, mig; /* mig: -1 = the GPU itself */
};

static struct nvmlDevice_st gpus[MAX_GPUS], migs[MAX_GPUS][MAX_MIGS];
static struct config now;
static struct stat read_at;
static int users;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void pause_us(long us) {
	struct timespec t = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&t, NULL);
}

static void number_places(void) {
	for (int i = 0; i < MAX_GPUS; i++) {
		gpus[i] = (struct nvmlDevice_st){i, -1};
		for (int k = 0; k < MAX_MIGS; k++)
			migs[i][k] = (struct nvmlDevice_st){i, k};
	}
}

static void refresh(void) {
	const char *path = getenv("FAKE_NVML_CONFIG");
	struct stat s;
	if (path == NULL || stat(path, &s) != 0) {
		fprintf(stderr, "fake NVML: FAKE_NVML_CONFIG names no file\n");
		abort();
	}
	if (s.st_ino == read_at.st_ino && s.st_size == read_at.st_size && s.st_mtim.tv_sec == read_at.st_mtim.tv_sec && s.st_mtim.tv_nsec == read_at.st_mtim.tv_nsec)
		return;
	read_at = s;
	number_places();
	config_read(&now, path);
}

/* Says whether a rule's name means this function: exactly, without its version, or all. */
static int means(const char *rule, const char *name) {
	size_t n = strlen(rule);
	return strcmp(rule, "*") == 0 || strcmp(rule, name) == 0 || (strncmp(rule, name, n) == 0 && strncmp(name + n, "_v", 2) == 0);
}

static void judge(const struct rules *r, const char *name, long *code, long *delay) {
	for (int i = 0; i < r->n; i++) {
		if (!means(r->of[i].name, name))
			continue;
		if (r->of[i].code >= 0)
			*code = r->of[i].code;
		if (r->of[i].delay_us > 0)
			*delay = r->of[i].delay_us;
	}
}

static void note(const char *name, long code) {
	const char *path = getenv("FAKE_NVML_LOG");
	FILE *f = path != NULL ? fopen(path, "a") : NULL;
	if (f == NULL)
		return;
	fprintf(f, "%d %s %ld\n", (int)getpid(), name, code);
	fclose(f);
}

static int starts(const char *name) { return strncmp(name, "nvmlInit", 8) == 0; }

/* Begins every call, with the lock held unless it returns an error. */
static nvmlReturn_t enter(const char *name, const struct nvmlDevice_st *d) {
	long code = -1, delay = 0;
	pthread_mutex_lock(&lock);
	refresh();
	judge(&now.rules, name, &code, &delay);
	if (code < 0 && users == 0 && !starts(name))
		code = NVML_ERROR_UNINITIALIZED;
	if (d != NULL) {
		if (d->gpu >= now.gpus)
			code = NVML_ERROR_GPU_NOT_FOUND;
		else if (now.gpu[d->gpu].lost)
			code = NVML_ERROR_GPU_IS_LOST;
		else
			judge(&now.gpu[d->gpu].rules, name, &code, &delay);
	}
	if (delay > 0) {
		pthread_mutex_unlock(&lock);
		pause_us(delay);
		pthread_mutex_lock(&lock);
	}
	note(name, code < 0 ? 0 : code);
	if (code <= 0)
		return NVML_SUCCESS;
	pthread_mutex_unlock(&lock);
	return (nvmlReturn_t)code;
}

static nvmlReturn_t leave(nvmlReturn_t code) {
	pthread_mutex_unlock(&lock);
	return code;
}

#define ENTER(d) \
	do { \
		nvmlReturn_t refused = enter(__func__, d); \
		if (refused != NVML_SUCCESS) return refused; \
	} while (0)

static nvmlReturn_t text(char *to, unsigned room, const char *value) {
	if (strlen(value) >= room)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(to, value, strlen(value) + 1);
	return NVML_SUCCESS;
}

static const struct gpu *of(nvmlDevice_t d) { return &now.gpu[d.handle->gpu]; }
static const struct mig *instance(nvmlDevice_t d) { return d.handle->mig < 0 ? NULL : &now.gpu[d.handle->gpu].migs[d.handle->mig]; }

/* --- the library --- */

static nvmlReturn_t start(void) {
	users++;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlInit(void) { ENTER(NULL); return start(); }
nvmlReturn_t nvmlInit_v2(void) { ENTER(NULL); return start(); }

nvmlReturn_t nvmlShutdown(void) {
	ENTER(NULL);
	users--;
	return leave(NVML_SUCCESS);
}

const char *nvmlErrorString(nvmlReturn_t code) {
	(void)code;
	return "a text of the fake";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *to, unsigned n) { ENTER(NULL); return leave(text(to, n, now.driver)); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *to, unsigned n) { ENTER(NULL); return leave(text(to, n, now.nvml)); }
#if FAKE_DRIVER > 390
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *v) { ENTER(NULL); *v = now.cuda; return leave(NVML_SUCCESS); }
#endif

/* --- which devices --- */

static nvmlReturn_t count(unsigned *n) {
	*n = (unsigned)now.gpus;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetCount(unsigned *n) { ENTER(NULL); return count(n); }
#if FAKE_DRIVER > 390
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *n) { ENTER(NULL); return count(n); }
#endif

static nvmlReturn_t handle(const char *name, unsigned i, nvmlDevice_t *d) {
	nvmlReturn_t refused = enter(name, i < MAX_GPUS ? &gpus[i] : NULL);
	if (refused != NVML_SUCCESS)
		return refused;
	if (i >= (unsigned)now.gpus)
		return leave(NVML_ERROR_INVALID_ARGUMENT);
	d->handle = &gpus[i];
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned i, nvmlDevice_t *d) { return handle(__func__, i, d); }
#if FAKE_DRIVER > 390
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned i, nvmlDevice_t *d) { return handle(__func__, i, d); }
#endif

/* --- who it is --- */

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *to, unsigned n) {
	ENTER(d.handle);
	return leave(text(to, n, instance(d) ? instance(d)->uuid : of(d)->uuid));
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *to, unsigned n) {
	char name[3 * TEXT];
	ENTER(d.handle);
	if (instance(d))
		snprintf(name, sizeof name, "%s MIG %s", of(d)->name, instance(d)->profile);
	else
		snprintf(name, sizeof name, "%s", of(d)->name);
	return leave(text(to, n, name));
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t d, char *to, unsigned n) {
	ENTER(d.handle);
	return leave(of(d)->serial[0] ? text(to, n, of(d)->serial) : NVML_ERROR_NOT_SUPPORTED);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t d, unsigned *n) { ENTER(d.handle); *n = of(d)->minor; return leave(NVML_SUCCESS); }

static void address(const struct gpu *g, nvmlPciInfo_t *p) {
	memset(p, 0, sizeof *p);
	p->domain = g->domain;
	p->bus = g->bus;
	p->device = g->slot;
	snprintf(p->busId, sizeof p->busId, "%08X:%02X:%02X.0", g->domain, g->bus, g->slot);
	snprintf(p->busIdLegacy, sizeof p->busIdLegacy, "%04X:%02X:%02X.0", g->domain & 0xFFFF, g->bus & 0xFF, g->slot & 0xFF);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t d, nvmlPciInfo_t *p) { ENTER(d.handle); address(of(d), p); return leave(NVML_SUCCESS); }
#if FAKE_DRIVER > 390
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *p) { ENTER(d.handle); address(of(d), p); return leave(NVML_SUCCESS); }
#endif

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor) {
	ENTER(d.handle);
	*major = (int)of(d)->cc_major;
	*minor = (int)of(d)->cc_minor;
	return leave(NVML_SUCCESS);
}

/* --- its modes --- */

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t d, nvmlEnableState_t *m) {
	ENTER(d.handle);
	*m = of(d)->persistence ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, nvmlComputeMode_t *m) {
	ENTER(d.handle);
	*m = (nvmlComputeMode_t)of(d)->compute_mode;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t d, nvmlEnableState_t *current, nvmlEnableState_t *pending) {
	ENTER(d.handle);
	if (of(d)->ecc < 0)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	*current = *pending = of(d)->ecc ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return leave(NVML_SUCCESS);
}

/* --- memory and load --- */

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *m) {
	ENTER(d.handle);
	const struct mig *i = instance(d);
	m->total = i ? i->total : of(d)->total;
	m->used = i ? i->used : of(d)->used + of(d)->reserved;
	m->free = m->total - m->used;
	return leave(NVML_SUCCESS);
}

#if FAKE_DRIVER > 470
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *m) {
	ENTER(d.handle);
	if (m->version != nvmlMemory_v2)
		return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	const struct mig *i = instance(d);
	m->total = i ? i->total : of(d)->total;
	m->used = i ? i->used : of(d)->used;
	m->reserved = i ? 0 : of(d)->reserved;
	m->free = m->total - m->used - m->reserved;
	return leave(NVML_SUCCESS);
}
#endif

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *u) {
	ENTER(d.handle);
	if (instance(d) || of(d)->mig_mode > 0)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	u->gpu = of(d)->util_gpu;
	u->memory = of(d)->util_mem;
	return leave(NVML_SUCCESS);
}

#define VALUE(type, function, value) \
	nvmlReturn_t function(nvmlDevice_t d, type *v) { ENTER(d.handle); *v = (value); return leave(NVML_SUCCESS); }

VALUE(unsigned, nvmlDeviceGetPowerUsage, of(d)->power_mw)
VALUE(unsigned, nvmlDeviceGetEnforcedPowerLimit, of(d)->power_cap_mw)
#if FAKE_DRIVER > 390
VALUE(u64, nvmlDeviceGetTotalEnergyConsumption, of(d)->energy_mj)
#endif
VALUE(u64, nvmlDeviceGetCurrentClocksThrottleReasons, of(d)->clock_reasons)
#if FAKE_DRIVER > 470
VALUE(u64, nvmlDeviceGetCurrentClocksEventReasons, of(d)->clock_reasons)
#endif
VALUE(u64, nvmlDeviceGetSupportedEventTypes, of(d)->events)

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, nvmlTemperatureSensors_t which, unsigned *t) {
	ENTER(d.handle);
	(void)which;
	*t = of(d)->temperature;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t d, nvmlTemperatureThresholds_t which, unsigned *t) {
	ENTER(d.handle);
	(void)which;
	*t = of(d)->slowdown;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, nvmlClockType_t which, unsigned *mhz) {
	ENTER(d.handle);
	*mhz = which == NVML_CLOCK_MEM ? of(d)->mem_mhz : of(d)->sm_mhz;
	return leave(NVML_SUCCESS);
}

/* --- health --- */

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t d, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, u64 *n) {
	ENTER(d.handle);
	(void)counter;
	if (of(d)->ecc <= 0)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	*n = type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED ? of(d)->ecc_uncorrected : 0;
	return leave(NVML_SUCCESS);
}

#if FAKE_DRIVER > 390
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t d, unsigned *corr, unsigned *uncorr, unsigned *pending, unsigned *failed) {
	ENTER(d.handle);
	if (!of(d)->remapped)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	*corr = (unsigned)of(d)->corr;
	*uncorr = (unsigned)of(d)->uncorr;
	*pending = (unsigned)of(d)->pending;
	*failed = (unsigned)of(d)->failed;
	return leave(NVML_SUCCESS);
}
#endif

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t d, int n, nvmlFieldValue_t *values) {
	ENTER(d.handle);
	for (int i = 0; i < n; i++) {
		values[i].nvmlReturn = NVML_ERROR_INVALID_ARGUMENT;
		if (values[i].fieldId == NVML_FI_DEV_GET_GPU_RECOVERY_ACTION && of(d)->recovery >= 0 && FAKE_DRIVER > 470) {
			values[i].nvmlReturn = NVML_SUCCESS;
			values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
			values[i].value.uiVal = (unsigned)of(d)->recovery;
		}
	}
	return leave(NVML_SUCCESS);
}

/* --- processes --- */

/* A list is told with its true length when the room is too small. MIG names the instance. */
#define PROCESSES(name, type, ...) \
	nvmlReturn_t name(nvmlDevice_t d, unsigned *n, type *list) { \
		ENTER(d.handle); \
		unsigned room = *n; \
		*n = (unsigned)of(d)->nprocs; \
		if (room < *n) return leave(NVML_ERROR_INSUFFICIENT_SIZE); \
		for (unsigned i = 0; i < *n; i++) { \
			const struct process *p = &of(d)->procs[i]; \
			list[i] = (type){.pid = p->pid, .usedGpuMemory = p->memory, __VA_ARGS__}; \
		} \
		return leave(NVML_SUCCESS); \
	}

PROCESSES(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t)
#if FAKE_DRIVER > 390
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, .gpuInstanceId = p->gi, .computeInstanceId = p->ci)
#endif
#if FAKE_DRIVER > 470
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, .gpuInstanceId = p->gi, .computeInstanceId = p->ci)
#endif

/* --- MIG --- */

#if FAKE_DRIVER > 390
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned *current, unsigned *pending) {
	ENTER(d.handle);
	if (of(d)->mig_mode < 0)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	*current = (unsigned)of(d)->mig_mode;
	*pending = (unsigned)of(d)->mig_pending;
	return leave(NVML_SUCCESS);
}

VALUE(unsigned, nvmlDeviceGetMaxMigDeviceCount, MAX_MIGS - 1)

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned k, nvmlDevice_t *m) {
	ENTER(d.handle);
	if (k >= MAX_MIGS)
		return leave(NVML_ERROR_INVALID_ARGUMENT);
	if (of(d)->mig_mode <= 0 || !of(d)->migs[k].there)
		return leave(NVML_ERROR_NOT_FOUND);
	m->handle = &migs[d.handle->gpu][k];
	return leave(NVML_SUCCESS);
}

#define OF_INSTANCE(function, value) \
	nvmlReturn_t function(nvmlDevice_t d, unsigned *v) { \
		ENTER(d.handle); \
		if (!instance(d)) return leave(NVML_ERROR_INVALID_ARGUMENT); \
		*v = (value); \
		return leave(NVML_SUCCESS); \
	}

OF_INSTANCE(nvmlDeviceGetGpuInstanceId, instance(d)->gi)
OF_INSTANCE(nvmlDeviceGetComputeInstanceId, instance(d)->ci)

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t d, nvmlDeviceAttributes_t *a) {
	ENTER(d.handle);
	if (!instance(d))
		return leave(NVML_ERROR_INVALID_ARGUMENT);
	memset(a, 0, sizeof *a);
	a->multiprocessorCount = instance(d)->sms;
	a->memorySizeMB = instance(d)->total >> 20;
	return leave(NVML_SUCCESS);
}
#endif

/* --- topology --- */

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level) {
	ENTER(a.handle);
	*level = (nvmlGpuTopologyLevel_t)of(a)->topo[b.handle->gpu];
	return leave(NVML_SUCCESS);
}

/* The GPU at the other end of a link, or -1: links are numbered in the order of the peers. */
static int other_end(const struct gpu *g, unsigned link) {
	for (int k = 0; k < MAX_GPUS; k++) {
		if (link < (unsigned)g->nvlink[k])
			return k;
		link -= (unsigned)g->nvlink[k];
	}
	return -1;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t d, unsigned link, nvmlEnableState_t *up) {
	ENTER(d.handle);
	if (link >= NVML_NVLINK_MAX_LINKS)
		return leave(NVML_ERROR_INVALID_ARGUMENT);
	*up = link < (unsigned)of(d)->switched || other_end(of(d), link) >= 0 ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t d, unsigned link, nvmlPciInfo_t *p) {
	ENTER(d.handle);
	int k = other_end(of(d), link);
	struct gpu nvswitch = {.bus = 0xC0};
	if (k < 0 && link >= (unsigned)of(d)->switched)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	address(k >= 0 ? &now.gpu[k] : &nvswitch, p);
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuP2PCapsIndex_t index, nvmlGpuP2PStatus_t *status) {
	ENTER(a.handle);
	(void)index;
	int linked = (of(a)->nvlink[b.handle->gpu] > 0 && of(b)->nvlink[a.handle->gpu] > 0) || (of(a)->switched && of(b)->switched);
	*status = linked ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
	return leave(NVML_SUCCESS);
}

/* --- events --- */

struct nvmlEventSet_st {
	long heard; /* bytes of the events' file */
	u64 mask[MAX_GPUS];
};

static FILE *events_open(void) {
	char path[4096];
	const char *named = getenv("FAKE_NVML_EVENTS");
	if (named != NULL)
		snprintf(path, sizeof path, "%s", named);
	else
		snprintf(path, sizeof path, "%s.events", getenv("FAKE_NVML_CONFIG"));
	return fopen(path, "r");
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
	ENTER(NULL);
	set->handle = calloc(1, sizeof *set->handle);
	FILE *f = events_open();
	if (f != NULL) {
		fseek(f, 0, SEEK_END);
		set->handle->heard = ftell(f);
		fclose(f);
	}
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
	ENTER(NULL);
	free(set.handle);
	return leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t d, u64 mask, nvmlEventSet_t set) {
	ENTER(d.handle);
	if (mask & ~of(d)->events)
		return leave(NVML_ERROR_NOT_SUPPORTED);
	set.handle->mask[d.handle->gpu] |= mask;
	return leave(NVML_SUCCESS);
}

/* Reads one line of the file into an event; a line without its end waits. 0 = none. */
static int next(nvmlEventSet_t set, nvmlEventData_t *e, nvmlReturn_t *code) {
	char line[TEXT], word[TEXT];
	int gpu = 0;
	u64 number = 0;
	long gi = -1, ci = -1;
	FILE *f = events_open();
	if (f == NULL)
		return 0;
	fseek(f, set.handle->heard, SEEK_SET);
	int got = fgets(line, sizeof line, f) != NULL && strchr(line, '\n') != NULL;
	if (got)
		set.handle->heard = ftell(f);
	fclose(f);
	if (!got)
		return 0;
	memset(e, 0, sizeof *e);
	if (sscanf(line, "error %llu", &number) == 1) {
		*code = (nvmlReturn_t)number;
		return 1;
	}
	if (sscanf(line, "%127s %d %llu %ld %ld", word, &gpu, &number, &gi, &ci) < 2 || gpu < 0 || gpu >= MAX_GPUS)
		return 0;
	e->eventType = strcmp(word, "xid") == 0 ? nvmlEventTypeXidCriticalError
		: strcmp(word, "dbe") == 0 ? nvmlEventTypeDoubleBitEccError
		: strcmp(word, "mig") == 0 ? nvmlEventMigConfigChange
		: nvmlEventTypeGpuRecoveryAction;
	e->device.handle = &gpus[gpu];
	e->eventData = number;
	e->gpuInstanceId = (unsigned)gi;
	e->computeInstanceId = (unsigned)ci;
	*code = NVML_SUCCESS;
	return (set.handle->mask[gpu] & e->eventType) != 0;
}

static nvmlReturn_t wait_for(const char *name, nvmlEventSet_t set, nvmlEventData_t *e, unsigned ms) {
	nvmlReturn_t code = enter(name, NULL);
	if (code != NVML_SUCCESS)
		return code;
	pthread_mutex_unlock(&lock);
	for (unsigned waited = 0;; waited += 5) {
		if (next(set, e, &code))
			return code;
		if (waited >= ms)
			return NVML_ERROR_TIMEOUT;
		pause_us(5000);
	}
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *e, unsigned ms) { return wait_for(__func__, set, e, ms); }
#if FAKE_DRIVER > 390
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *e, unsigned ms) { return wait_for(__func__, set, e, ms); }
#endif
