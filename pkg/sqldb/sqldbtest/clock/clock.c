// The wall clock of a PostgreSQL server, moved by a test: the loader puts these functions
// before those of the C library (LD_PRELOAD). By how many seconds the clock is ahead stands
// in the file that SQLDBTEST_CLOCK names, which the test writes while the server runs. Clocks
// that count durations are left alone, as they are when the clock of a machine is set.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static volatile const int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	const char *file = getenv("SQLDBTEST_CLOCK");
	int fd = file ? open(file, O_RDONLY) : -1;
	if (fd < 0)
		abort();
	void *at = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		abort();
	ahead = at;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	if (!real) // a constructor of somebody else's asks first
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int rc = real(id, ts);
	if (rc == 0 && ahead && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *ahead;
	return rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
	struct timespec ts;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *to) {
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	if (to)
		*to = ts.tv_sec;
	return ts.tv_sec;
}
