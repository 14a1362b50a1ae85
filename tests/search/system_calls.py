"""The n-th system call fails, writes half of what it was given, or kills the process, whoever calls it.

A small C library, loaded with LD_PRELOAD, counts the calls that change files below one folder: those of Python, SQLite,
numpy and FAISS alike. ``fault_arm(n, kinds, mode, errno, sticky, folder)`` arms it, ``fault_seen()`` counts.
"""

import ctypes
import subprocess
import sys
from pathlib import Path

WRITE, SYNC, RENAME, OPEN, REMOVE = 1, 2, 4, 8, 16
FAIL, SHORT, KILL, TORN = 0, 1, 2, 3

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, OPEN = 8, REMOVE = 16 };
enum { FAIL, SHORT, KILL, TORN };

static long left, seen;
static int kinds, mode, number, always;
static char root[PATH_MAX];

void fault_arm(long n, int which, int how, int error, int sticky, const char *folder) {
    seen = 0; left = n; kinds = which; mode = how; number = error; always = sticky;
    snprintf(root, sizeof root, "%s", folder);
}
long fault_seen(void) { return seen; }

static int below(const char *path) {
    char whole[2 * PATH_MAX];
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return strncmp(path, root, strlen(root)) == 0;
}
static int below_fd(int fd) {
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return below(path);
}
/* 1: this is the call. */
static int due(int kind) {
    if (!(kinds & kind)) return 0;
    seen++;
    if (left <= 0) return 0;
    if (--left) return 0;
    if (always) left = 1;
    if (mode == KILL) kill(getpid(), SIGKILL);
    if (mode == TORN && kind != WRITE) kill(getpid(), SIGKILL);
    if (mode == SHORT && kind != WRITE) return 0;
    return 1;
}
#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)
#define PART(call, size) do { \
        if (mode == SHORT) { size = size > 1 ? size / 2 : size; return call; } \
        if (mode == TORN) { size /= 2; (void) !call; kill(getpid(), SIGKILL); } \
        errno = number; return -1; } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (kinds && below_fd(fd) && due(WRITE)) PART(real(fd, data, size), size);
    return real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (kinds && below_fd(fd) && due(WRITE)) PART(real(fd, data, size, at), size);
    return real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (kinds && below_fd(fd) && due(WRITE)) PART(real(fd, data, size, at), size);
    return real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (kinds && below_fd(fd) && due(WRITE)) {
        size_t size = parts[0].iov_len;
        ssize_t (*one)(int, const void *, size_t) = (ssize_t (*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write");
        PART(one(fd, parts[0].iov_base, size), size);
    }
    return real(fd, parts, count);
}
size_t fwrite(const void *data, size_t width, size_t count, FILE *file) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    if (kinds && below_fd(fileno(file)) && due(WRITE)) {
        if (mode == SHORT || mode == TORN) {  /* for a stream less than asked is an error, not a request to go on */
            size_t done = real(data, width, count / 2, file);
            if (mode == TORN) { fflush(file); kill(getpid(), SIGKILL); }
            errno = ENOSPC;
            return done;
        }
        errno = number;
        return 0;
    }
    return real(data, width, count, file);
}
int fsync(int fd) {
    REAL(int, "fsync", int);
    if (kinds && below_fd(fd) && due(SYNC)) { errno = number; return -1; }
    return real(fd);
}
int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    if (kinds && below_fd(fd) && due(SYNC)) { errno = number; return -1; }
    return real(fd);
}
int msync(void *at, size_t size, int flags) {
    REAL(int, "msync", void *, size_t, int);
    if (due(SYNC)) { errno = number; return -1; }
    return real(at, size, flags);
}
int rename(const char *a, const char *b) {
    REAL(int, "rename", const char *, const char *);
    if (kinds && below(b) && due(RENAME)) { errno = number; return -1; }
    return real(a, b);
}
int renameat(int c, const char *a, int d, const char *b) {
    REAL(int, "renameat", int, const char *, int, const char *);
    if (kinds && below(b) && due(RENAME)) { errno = number; return -1; }
    return real(c, a, d, b);
}
int renameat2(int c, const char *a, int d, const char *b, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    if (kinds && below(b) && due(RENAME)) { errno = number; return -1; }
    return real(c, a, d, b, flags);
}
#define OPENING(name) \
int name(const char *path, int flags, ...) { \
    REAL(int, #name, const char *, int, ...); \
    va_list more; va_start(more, flags); mode_t rights = va_arg(more, mode_t); va_end(more); \
    if (kinds && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path) && due(OPEN)) { errno = number; return -1; } \
    return real(path, flags, rights); \
}
OPENING(open)
OPENING(open64)
int openat(int at, const char *path, int flags, ...) {
    REAL(int, "openat", int, const char *, int, ...);
    va_list more; va_start(more, flags); mode_t rights = va_arg(more, mode_t); va_end(more);
    if (kinds && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path) && due(OPEN)) { errno = number; return -1; }
    return real(at, path, flags, rights);
}
FILE *fopen64(const char *path, const char *how) {
    REAL(FILE *, "fopen64", const char *, const char *);
    if (kinds && how[0] != 'r' && below(path) && due(OPEN)) { errno = number; return NULL; }
    return real(path, how);
}
FILE *fopen(const char *path, const char *how) {
    REAL(FILE *, "fopen", const char *, const char *);
    if (kinds && how[0] != 'r' && below(path) && due(OPEN)) { errno = number; return NULL; }
    return real(path, how);
}
int mkdir(const char *path, mode_t rights) {
    REAL(int, "mkdir", const char *, mode_t);
    if (kinds && below(path) && due(OPEN)) { errno = number; return -1; }
    return real(path, rights);
}
int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    if (kinds && below_fd(fd) && due(WRITE)) {
        if (mode == TORN) kill(getpid(), SIGKILL);
        if (mode == SHORT) return real(fd, size);
        errno = number;
        return -1;
    }
    return real(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (kinds && below_fd(fd) && due(WRITE)) {
        if (mode == TORN) kill(getpid(), SIGKILL);
        if (mode == SHORT) return real(fd, size);
        errno = number;
        return -1;
    }
    return real(fd, size);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (kinds && below(path) && due(REMOVE)) { errno = number; return -1; }
    return real(path);
}
int unlinkat(int at, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    if (kinds && path[0] == '/' && below(path) && due(REMOVE)) { errno = number; return -1; }
    return real(at, path, flags);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    if (kinds && below(path) && due(REMOVE)) { errno = number; return -1; }
    return real(path);
}
"""


def compiled(folder: Path) -> Path | None:
    """The library, built into ``folder``; None where there is no C compiler (or no Linux)."""
    source, made = folder / "faults.c", folder / "faults.so"
    source.write_text(_SOURCE)
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(made), str(source), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return made if done.returncode == 0 and sys.platform == "linux" else None


def preloaded() -> ctypes.CDLL | None:
    """The library of this process, if it was started with it."""
    whole = ctypes.CDLL(None)
    if not hasattr(whole, "fault_arm"):
        return None
    whole.fault_arm.argtypes = [ctypes.c_long, *[ctypes.c_int] * 4, ctypes.c_char_p]
    whole.fault_seen.restype = ctypes.c_long
    return whole
