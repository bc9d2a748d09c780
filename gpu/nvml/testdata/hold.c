/*
 * Holds memory of the first GPU that CUDA gives it, until its standard input ends: a process to
 * look at. hold MIB. It needs the driver's libcuda.so.1 and nothing else of CUDA.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *cuda;

static void *find(const char *name) {
	void *f = dlsym(cuda, name);
	if (f == NULL) {
		fprintf(stderr, "hold: libcuda.so.1 has no %s\n", name);
		exit(3);
	}
	return f;
}

static void check(const char *what, int code) {
	if (code != 0) {
		fprintf(stderr, "hold: %s: error %d of CUDA\n", what, code);
		exit(4);
	}
}

int main(int argc, char **argv) {
	unsigned long long at;
	void *context;
	int device;
	size_t bytes = (size_t)(argc > 1 ? atol(argv[1]) : 1024) << 20;
	cuda = dlopen("libcuda.so.1", RTLD_NOW);
	if (cuda == NULL) {
		fprintf(stderr, "hold: %s\n", dlerror());
		return 3;
	}
	int (*init)(unsigned) = (int (*)(unsigned))find("cuInit");
	int (*get)(int *, int) = (int (*)(int *, int))find("cuDeviceGet");
	int (*create)(void **, unsigned, int) = (int (*)(void **, unsigned, int))find("cuCtxCreate_v2");
	int (*alloc)(unsigned long long *, size_t) = (int (*)(unsigned long long *, size_t))find("cuMemAlloc_v2");
	check("cuInit", init(0));
	check("cuDeviceGet", get(&device, 0));
	check("cuCtxCreate", create(&context, 0, device));
	check("cuMemAlloc", alloc(&at, bytes));
	printf("%d\n", (int)getpid());
	fflush(stdout);
	char c;
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
