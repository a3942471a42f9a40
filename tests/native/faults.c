// Makes a chosen system call or allocation of a process fail. Loaded by LD_PRELOAD; see tests/knocks.py.
//
// Counted are calls on files below the folders in BILSTM_FAULT_FOLDERS (separated by ':'), and allocations of many
// bytes by other libraries than DuckDB. Counts are shared with forked processes, so that who forks can read them.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum Kind { WRITE, FSYNC, RENAME, OPEN, ALLOCATE, KINDS };
enum { LARGE = 1 << 16 };

static long* counts;  // of each kind, shared
static int armed, chosen, onwards;
static long nth;

void faults_arm(int kind, long n, int all_after) {
  memset(counts, 0, KINDS * sizeof *counts);
  chosen = kind;
  nth = n;
  onwards = all_after;
  armed = 1;
}

long faults_count(int kind) { return counts[kind]; }

__attribute__((constructor)) static void begin(void) {
  counts = (long*)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static int fails(enum Kind kind) {
  if (!armed) return 0;
  long count = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
  return (int)kind == chosen && (count == nth || (onwards && count > nth));
}

static int is_watched(const char* path) {
  const char* folders = getenv("BILSTM_FAULT_FOLDERS");
  if (!armed || !folders || !path) return 0;
  char absolute[8192];
  if (path[0] != '/') {
    if (!getcwd(absolute, 4096)) return 0;
    size_t length = strlen(absolute);
    snprintf(absolute + length, sizeof absolute - length, "/%s", path);
    path = absolute;
  }
  while (*folders) {
    size_t length = strcspn(folders, ":");
    if (length && strncmp(path, folders, length) == 0) return 1;
    folders += length + (folders[length] == ':');
  }
  return 0;
}

static int is_watched_file(int file) {
  if (!armed) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_watched(path);
}

// DuckDB does not survive every failed allocation.
static int is_ours(const void* caller) {
  Dl_info library;
  return armed && (!dladdr(caller, &library) || !library.dli_fname || !strstr(library.dli_fname, "duckdb"));
}
#define FAIL_ALLOCATION(condition, value) \
  FAIL_IF((condition) && is_ours(__builtin_return_address(0)), ALLOCATE, ENOMEM, value)

#define NEXT(name)                                             \
  static __typeof__(&name) next;                               \
  if (!next) *(void**)&next = dlsym(RTLD_NEXT, #name)
#define FAIL_IF(condition, kind, error, value) \
  if ((condition) && fails(kind)) {            \
    errno = error;                             \
    return value;                              \
  }

ssize_t write(int file, const void* data, size_t size) {
  NEXT(write);
  FAIL_IF(is_watched_file(file), WRITE, ENOSPC, -1)
  return next(file, data, size);
}

ssize_t pwrite(int file, const void* data, size_t size, off_t at) {
  NEXT(pwrite);
  FAIL_IF(is_watched_file(file), WRITE, ENOSPC, -1)
  return next(file, data, size, at);
}

ssize_t pwrite64(int file, const void* data, size_t size, off64_t at) {
  NEXT(pwrite64);
  FAIL_IF(is_watched_file(file), WRITE, ENOSPC, -1)
  return next(file, data, size, at);
}

int fsync(int file) {
  NEXT(fsync);
  FAIL_IF(is_watched_file(file), FSYNC, EIO, -1)
  return next(file);
}

int fdatasync(int file) {
  NEXT(fdatasync);
  FAIL_IF(is_watched_file(file), FSYNC, EIO, -1)
  return next(file);
}

int rename(const char* from, const char* to) {
  NEXT(rename);
  FAIL_IF(is_watched(from) || is_watched(to), RENAME, EIO, -1)
  return next(from, to);
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  NEXT(renameat);
  FAIL_IF(is_watched(from) || is_watched(to), RENAME, EIO, -1)
  return next(from_folder, from, to_folder, to);
}

#define MODE                                       \
  mode_t mode = 0;                                 \
  if (flags & (O_CREAT | __O_TMPFILE)) {           \
    va_list arguments;                             \
    va_start(arguments, flags);                    \
    mode = (mode_t)va_arg(arguments, unsigned);    \
    va_end(arguments);                             \
  }

int open(const char* path, int flags, ...) {
  MODE
  NEXT(open);
  FAIL_IF(is_watched(path), OPEN, EMFILE, -1)
  return next(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  MODE
  NEXT(open64);
  FAIL_IF(is_watched(path), OPEN, EMFILE, -1)
  return next(path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  MODE
  NEXT(openat);
  FAIL_IF(is_watched(path), OPEN, EMFILE, -1)
  return next(folder, path, flags, mode);
}

int openat64(int folder, const char* path, int flags, ...) {
  MODE
  NEXT(openat64);
  FAIL_IF(is_watched(path), OPEN, EMFILE, -1)
  return next(folder, path, flags, mode);
}

FILE* fopen(const char* path, const char* how) {
  NEXT(fopen);
  FAIL_IF(is_watched(path), OPEN, EMFILE, NULL)
  return next(path, how);
}

FILE* fopen64(const char* path, const char* how) {
  NEXT(fopen64);
  FAIL_IF(is_watched(path), OPEN, EMFILE, NULL)
  return next(path, how);
}

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
  FAIL_ALLOCATION(size >= LARGE, NULL)
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  FAIL_ALLOCATION(count && size >= LARGE / count, NULL)
  return __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) {
  FAIL_ALLOCATION(size >= LARGE, NULL)
  return __libc_realloc(old, size);
}

void* memalign(size_t alignment, size_t size) {
  FAIL_ALLOCATION(size >= LARGE, NULL)
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** made, size_t alignment, size_t size) {
  FAIL_ALLOCATION(size >= LARGE, ENOMEM)
  *made = __libc_memalign(alignment, size);
  return *made ? 0 : ENOMEM;
}

void* mmap(void* address, size_t size, int protection, int flags, int file, off_t at) {
  NEXT(mmap);
  FAIL_ALLOCATION((flags & MAP_ANONYMOUS) && (protection & PROT_WRITE) && size >= LARGE, MAP_FAILED)
  return next(address, size, protection, flags, file, at);
}
