/* Work that threads share. */
#ifndef QVGGT_JOB_H
#define QVGGT_JOB_H
#include <stdatomic.h>
#include <stdint.h>

typedef struct { /* what every job begins with; any number of threads may work on one at once */
    atomic_int next;   /* the next task that nobody has begun */
    atomic_int failed; /* not 0 where there was no memory */
    int32_t threads;   /* about how many will come */
} Job;

/* Return the number of a task that is now the caller's, or -1 if all `tasks` are taken. */
static inline int take(Job *job, int64_t tasks) {
    const int task = atomic_fetch_add(&job->next, 1);
    return task < tasks ? task : -1;
}

#endif
