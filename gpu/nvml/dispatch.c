//go:build linux && cgo && (amd64 || arm64)

/*
 * go-nvml leaves every function of NVML undefined, for the dynamic linker to find in the library
 * that is mapped later. A function that the installed driver lacks then ends the process in the
 * middle of a call ("symbol lookup error", exit 127), and where symbols are bound at start
 * (LD_BIND_NOW, -z now) the process does not even reach main. So each is defined here, hidden,
 * and looks for the driver's own when it is called: what is not there answers
 * NVML_ERROR_FUNCTION_NOT_FOUND like any other error.
 *
 * The prototypes differ, and the forwarding does not look at them: all of nvml.h passes at most
 * seven arguments, each an integer, an enum, a pointer, or a struct of one pointer, and returns
 * an enum. Under the calling conventions of amd64 and arm64 all those go through
 * general registers and, past the sixth, one word of stack. TestSymbols holds the list against
 * go-nvml, TestPrototypes the claim about arguments against its nvml.h.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatch.h"

typedef uintptr_t word;
typedef word (*function)(word, word, word, word, word, word, word);

enum { FUNCTION_NOT_FOUND = 13 };

static void *library;

const char *dspy_nvml_open(const char *path) {
	library = dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
	return library != NULL ? NULL : dlerror();
}

const char *dspy_nvml_path(void) {
	struct link_map *map;
	if (library == NULL || dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
		return NULL;
	return map->l_name;
}

static function find(function *known, const char *name) {
	function f = __atomic_load_n(known, __ATOMIC_ACQUIRE);
	if (f == NULL && library != NULL) {
		f = (function)dlsym(library, name);
		__atomic_store_n(known, f, __ATOMIC_RELEASE);
	}
	return f;
}

#define HIDDEN __attribute__((visibility("hidden")))

#define FORWARD(name) \
	HIDDEN word name(word a, word b, word c, word d, word e, word f, word g) { \
		static function known; \
		function of_driver = find(&known, #name); \
		return of_driver != NULL ? of_driver(a, b, c, d, e, f, g) : FUNCTION_NOT_FOUND; \
	}

#include "symbols.h"

HIDDEN const char *nvmlErrorString(word code) {
	static function known;
	function of_driver = find(&known, "nvmlErrorString");
	return of_driver != NULL ? (const char *)of_driver(code, 0, 0, 0, 0, 0, 0) : "unknown";
}
