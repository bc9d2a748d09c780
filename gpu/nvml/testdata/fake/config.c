#include "config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; int code; } codes[] = {
	{"SUCCESS", 0}, {"UNINITIALIZED", 1}, {"INVALID_ARGUMENT", 2}, {"NOT_SUPPORTED", 3}, {"NO_PERMISSION", 4},
	{"NOT_FOUND", 6}, {"INSUFFICIENT_SIZE", 7}, {"DRIVER_NOT_LOADED", 9}, {"TIMEOUT", 10},
	{"LIBRARY_NOT_FOUND", 12}, {"FUNCTION_NOT_FOUND", 13}, {"GPU_IS_LOST", 15}, {"RESET_REQUIRED", 16},
	{"LIB_RM_VERSION_MISMATCH", 18}, {"IN_USE", 19}, {"NO_DATA", 21}, {"GPU_NOT_FOUND", 28}, {"UNKNOWN", 999},
};

static const struct { const char *name; int level; } levels[] = {
	{"INTERNAL", 0}, {"PIX", 10}, {"PXB", 20}, {"PHB", 30}, {"NODE", 40}, {"SYS", 50},
};

static const char *file;
static int line_number;

static void refuse(const char *what, const char *value) {
	fprintf(stderr, "fake NVML: %s:%d: %s: %s\n", file, line_number, what, value);
	abort();
}

static int code_of(const char *text) {
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (strcmp(codes[i].name, text) == 0)
			return codes[i].code;
	char *end;
	long n = strtol(text, &end, 10);
	if (*end != 0)
		refuse("no code of NVML", text);
	return (int)n;
}

static int level_of(const char *text) {
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (strcmp(levels[i].name, text) == 0)
			return levels[i].level;
	refuse("no level of the topology", text);
	return 0;
}

/* "80GiB", "512MiB", "4096" */
static u64 bytes_of(const char *text) {
	char *unit;
	double n = strtod(text, &unit);
	if (strcmp(unit, "GiB") == 0)
		return (u64)(n * (1 << 30));
	if (strcmp(unit, "MiB") == 0)
		return (u64)(n * (1 << 20));
	if (*unit != 0)
		refuse("no size", text);
	return (u64)n;
}

static u64 number_of(const char *text) {
	char *end;
	u64 n = strtoull(text, &end, 0);
	if (*end != 0)
		refuse("no number", text);
	return n;
}

static struct rule *rule_for(struct rules *r, const char *name) {
	for (int i = 0; i < r->n; i++)
		if (strcmp(r->of[i].name, name) == 0)
			return &r->of[i];
	if (r->n == MAX_RULES)
		refuse("too many rules", name);
	struct rule *new = &r->of[r->n++];
	snprintf(new->name, TEXT, "%s", name);
	new->code = -1;
	return new;
}

/* Takes "return.NAME" and "delay_us.NAME". */
static int take_rule(struct rules *r, const char *key, const char *value) {
	if (strncmp(key, "return.", 7) == 0) {
		rule_for(r, key + 7)->code = code_of(value);
		return 1;
	}
	if (strncmp(key, "delay_us.", 9) == 0) {
		rule_for(r, key + 9)->delay_us = (long)number_of(value);
		return 1;
	}
	return 0;
}

static void defaults(struct gpu *g, int i) {
	memset(g, 0, sizeof *g);
	snprintf(g->uuid, TEXT, "GPU-00000000-0000-0000-0000-%012d", i);
	snprintf(g->name, TEXT, "NVIDIA A100-SXM4-80GB");
	g->bus = 7 + (unsigned)i;
	g->minor = (unsigned)i;
	g->cc_major = 8;
	g->total = 80ULL << 30;
	g->reserved = 600ULL << 20;
	g->temperature = 35;
	g->slowdown = 92;
	g->power_mw = 60000;
	g->power_cap_mw = 400000;
	g->sm_mhz = 1410;
	g->mem_mhz = 1593;
	g->persistence = 1;
	g->ecc = 1;
	g->remapped = 1;
	g->recovery = 0;
	g->events = nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeSingleBitEccError | nvmlEventMigConfigChange;
	for (int k = 0; k < MAX_GPUS; k++)
		g->topo[k] = 50;
}

static unsigned instance_of(long n) { return n < 0 ? 0xFFFFFFFFu : (unsigned)n; }

/* "PID MEMORY [GI CI]"; MEMORY may be na. */
static void take_process(struct gpu *g, const char *value) {
	char memory[TEXT];
	unsigned pid;
	long gi = -1, ci = -1;
	if (sscanf(value, "%u %127s %ld %ld", &pid, memory, &gi, &ci) < 2 || g->nprocs == MAX_PROCS)
		refuse("no process", value);
	g->procs[g->nprocs++] = (struct process){
		.pid = pid, .gi = instance_of(gi), .ci = instance_of(ci),
		.memory = strcmp(memory, "na") == 0 ? ~0ULL : bytes_of(memory),
	};
}

static void take_text(char *to, const char *value) { snprintf(to, TEXT, "%s", value); }

static int compute_mode_of(const char *text) {
	if (strcmp(text, "default") == 0)
		return NVML_COMPUTEMODE_DEFAULT;
	if (strcmp(text, "exclusive_process") == 0)
		return NVML_COMPUTEMODE_EXCLUSIVE_PROCESS;
	if (strcmp(text, "prohibited") == 0)
		return NVML_COMPUTEMODE_PROHIBITED;
	refuse("no compute mode", text);
	return 0;
}

static unsigned peer_of(const char *text) {
	u64 n = number_of(text);
	if (n >= MAX_GPUS)
		refuse("no such GPU", text);
	return (unsigned)n;
}

static void take_gpu(struct gpu *g, const char *key, const char *value) {
#define IS(name) (strcmp(key, name) == 0)
	if (take_rule(&g->rules, key, value)) return;
	if (IS("uuid")) take_text(g->uuid, value);
	else if (IS("name")) take_text(g->name, value);
	else if (IS("serial")) take_text(g->serial, value);
	else if (IS("pci")) { if (sscanf(value, "%x:%x:%x", &g->domain, &g->bus, &g->slot) != 3) refuse("no PCI address", value); }
	else if (IS("minor")) g->minor = (unsigned)number_of(value);
	else if (IS("cc")) { if (sscanf(value, "%u.%u", &g->cc_major, &g->cc_minor) != 2) refuse("no compute capability", value); }
	else if (IS("memory_total")) g->total = bytes_of(value);
	else if (IS("memory_used")) g->used = bytes_of(value);
	else if (IS("memory_reserved")) g->reserved = bytes_of(value);
	else if (IS("util_gpu")) g->util_gpu = (unsigned)number_of(value);
	else if (IS("util_mem")) g->util_mem = (unsigned)number_of(value);
	else if (IS("temp")) g->temperature = (unsigned)number_of(value);
	else if (IS("slowdown")) g->slowdown = (unsigned)number_of(value);
	else if (IS("power_mw")) g->power_mw = (unsigned)number_of(value);
	else if (IS("power_cap_mw")) g->power_cap_mw = (unsigned)number_of(value);
	else if (IS("energy_mj")) g->energy_mj = number_of(value);
	else if (IS("clock_reasons")) g->clock_reasons = number_of(value);
	else if (IS("persistence")) g->persistence = (int)number_of(value);
	else if (IS("compute_mode")) g->compute_mode = compute_mode_of(value);
	else if (IS("ecc")) g->ecc = atoi(value);
	else if (IS("ecc_uncorrected")) g->ecc_uncorrected = number_of(value);
	else if (IS("remapped")) { if (sscanf(value, "%d %d %d %d", &g->corr, &g->uncorr, &g->pending, &g->failed) != 4) refuse("no remapped rows", value); }
	else if (IS("recovery_action")) g->recovery = atoi(value);
	else if (IS("events")) g->events = number_of(value);
	else if (IS("lost")) g->lost = (int)number_of(value);
	else if (IS("proc")) take_process(g, value);
	else if (IS("mig")) g->mig_mode = g->mig_pending = atoi(value);
	else if (IS("mig_pending")) g->mig_pending = atoi(value);
	else if (IS("switched")) g->switched = (int)number_of(value);
	else if (strncmp(key, "topo.", 5) == 0) g->topo[peer_of(key + 5)] = level_of(value);
	else if (strncmp(key, "nvlink.", 7) == 0) g->nvlink[peer_of(key + 7)] = (int)number_of(value);
	else refuse("no key of a GPU", key);
}

static void take_mig(struct mig *m, const char *key, const char *value) {
	if (IS("gi")) m->gi = (unsigned)number_of(value);
	else if (IS("ci")) m->ci = (unsigned)number_of(value);
	else if (IS("uuid")) take_text(m->uuid, value);
	else if (IS("profile")) take_text(m->profile, value);
	else if (IS("memory_total")) m->total = bytes_of(value);
	else if (IS("memory_used")) m->used = bytes_of(value);
	else if (IS("sms")) m->sms = (unsigned)number_of(value);
	else refuse("no key of an instance", key);
}

static void take_system(struct config *c, const char *key, const char *value) {
	if (take_rule(&c->rules, key, value)) return;
	if (IS("driver_version")) take_text(c->driver, value);
	else if (IS("nvml_version")) take_text(c->nvml, value);
	else if (IS("cuda")) c->cuda = (int)number_of(value);
	else refuse("no key of the system", key);
}

static struct mig *new_mig(struct config *c, int i, int k) {
	struct mig *m = &c->gpu[i].migs[k];
	memset(m, 0, sizeof *m);
	m->there = 1;
	m->gi = (unsigned)k + 1;
	m->sms = 14;
	m->total = 10ULL << 30;
	snprintf(m->profile, TEXT, "1g.10gb");
	snprintf(m->uuid, TEXT, "MIG-00000000-0000-0000-%04d-%012d", i, k);
	return m;
}

static char *trim(char *text) {
	while (isspace((unsigned char)*text)) text++;
	char *end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1])) *--end = 0;
	return text;
}

void config_read(struct config *c, const char *path) {
	memset(c, 0, sizeof *c);
	snprintf(c->driver, TEXT, "550.54.15");
	snprintf(c->nvml, TEXT, "12.550.54.15");
	c->cuda = 12040;
	FILE *f = fopen(path, "r");
	file = path;
	line_number = 0;
	if (f == NULL) {
		refuse("it cannot be opened", path);
		return;
	}
	struct gpu *g = NULL;
	struct mig *m = NULL;
	char buffer[512];
	while (fgets(buffer, sizeof buffer, f) != NULL) {
		line_number++;
		char *comment = strchr(buffer, '#');
		if (comment != NULL) *comment = 0;
		char *line = trim(buffer);
		int i, k;
		if (*line == 0) continue;
		if (sscanf(line, "[gpu %d]", &i) == 1) {
			if (i != c->gpus || i >= MAX_GPUS) refuse("GPUs are numbered in order", line);
			g = &c->gpu[c->gpus++];
			m = NULL;
			defaults(g, i);
			continue;
		}
		if (sscanf(line, "[mig %d %d]", &i, &k) == 2) {
			if (i < 0 || i >= c->gpus || k < 0 || k >= MAX_MIGS) refuse("no such instance", line);
			m = new_mig(c, i, k);
			continue;
		}
		char *equals = strchr(line, '=');
		if (equals == NULL) refuse("no assignment", line);
		*equals = 0;
		char *key = trim(line), *value = trim(equals + 1);
		if (m != NULL) take_mig(m, key, value);
		else if (g != NULL) take_gpu(g, key, value);
		else take_system(c, key, value);
	}
	fclose(f);
}
