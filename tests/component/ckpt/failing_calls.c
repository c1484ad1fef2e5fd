/* Makes calls on files fail as a broken disk makes them: preloaded by tests.

   ORZ_FAIL_CALL is `read`, `write` or `fsync`; ORZ_FAIL_PATH a part of the paths of files that it fails on, with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(const char *call, int fd) {
  const char *wanted = getenv("ORZ_FAIL_CALL"), *part = getenv("ORZ_FAIL_PATH");
  char link[64], path[4096];
  if (!wanted || !part || strcmp(call, wanted)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!strstr(path, part)) return 0;
  errno = EIO;
  return 1;
}

#define WRAP(kind, type, name, parameters, arguments)                  \
  type name parameters {                                               \
    static type(*real) parameters;                                     \
    if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);     \
    return fails(kind, fd) ? -1 : real arguments;                      \
  }

WRAP("read", ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
WRAP("read", ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
WRAP("read", ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
WRAP("read", ssize_t, preadv, (int fd, const struct iovec *to, int n, off_t at), (fd, to, n, at))
WRAP("read", ssize_t, preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at))
WRAP("read", ssize_t, sendfile, (int to, int fd, off_t *at, size_t n), (to, fd, at, n))
WRAP("read", ssize_t, sendfile64, (int to, int fd, off64_t *at, size_t n), (to, fd, at, n))
WRAP("write", ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
WRAP("write", ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
WRAP("write", ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
WRAP("write", ssize_t, pwritev, (int fd, const struct iovec *from, int n, off_t at), (fd, from, n, at))
WRAP("write", ssize_t, pwritev64, (int fd, const struct iovec *from, int n, off64_t at), (fd, from, n, at))
WRAP("fsync", int, fsync, (int fd), (fd))
WRAP("fsync", int, fdatasync, (int fd), (fd))
