/* A job whose tasks any number of threads take from one counter. */
#ifndef QVGGT_JOB_H
#define QVGGT_JOB_H
#include <stdatomic.h>
#include <stdint.h>

typedef struct { /* the first member of every job */
    atomic_int next;   /* the next task to be taken */
    atomic_int failed; /* 1 if an allocation failed */
    int32_t threads;   /* expected number of threads, for choosing task sizes */
} Job;

/* Take the next task; returns its number, or -1 if all `tasks` are taken. */
static inline int take(Job *job, int64_t tasks) {
    const int task = atomic_fetch_add(&job->next, 1);
    return task < tasks ? task : -1;
}

#endif
