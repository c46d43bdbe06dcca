/* run.c: walks a bound program over a span of mini-batches in one parallel region.
 *
 * This is the only file that knows threads. Every worker walks the same list of steps and computes its own part of each;
 * where a step asks for it, all meet at a barrier. The steps from one barrier to the next are a phase. Where there is work
 * enough, each worker's share of a phase is cut into pieces, and who has done its own takes those of others. Should the
 * runtime grant fewer workers than the program has parts (nested parallelism, thread limits, a forked child), each worker
 * computes several parts: the bits stay the same.
 */
#if !defined(_WIN32)
#define _GNU_SOURCE
#endif

#include <stdatomic.h>
#include <string.h>

#include "fastmlp.h"
#include "isa/runtime.h"
#include "kernels/table.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#include <time.h>
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define relax() _mm_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("yield")
#else
#define relax() ((void)0)
#endif

double fm_seconds(void) {
#if defined(_WIN32)
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (double)now.QuadPart / (double)frequency.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

int fm_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int fm_openmp_version(void) {
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}

int fm_openmp_threads(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

/* ---- denormals: flushed to zero inside a run, per thread, as the thread had it afterwards ---- */

#if defined(__x86_64__) || defined(_M_X64)
typedef unsigned int float_mode;
static float_mode flush_denormals(void) {
    float_mode before = _mm_getcsr();
    _mm_setcsr(before | 0x8040u); /* FTZ and DAZ */
    return before;
}
static void restore_denormals(float_mode before) { _mm_setcsr((_mm_getcsr() & ~0x8040u) | (before & 0x8040u)); }
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static float_mode flush_denormals(void) {
    float_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (UINT64_C(1) << 24)));
    return before;
}
static void restore_denormals(float_mode before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
typedef int float_mode;
static float_mode flush_denormals(void) { return 0; }
static void restore_denormals(float_mode before) { (void)before; }
#endif

/* ---- the barrier ---- */

/* A worker that waits spins about 50 microseconds, as long as a context switch and back would cost, and then sleeps until
 * it is woken: on a crowded machine the others, whom it waits for, get its core, and a sleeper that is woken is let in
 * before those who only compute. Where the system has no such sleep, it offers its core to others each time round. */
enum { SPINS_BEFORE_SLEEP = 1000 };

/* The workers of one run. */
typedef struct team {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int round;
    atomic_int sleepers;
    atomic_int slept;                /* whether anybody ever did: the machine is crowded */
    _Alignas(64) atomic_llong last;  /* where the span ends: worker 0 may bring it forward */
    _Alignas(64) atomic_llong chunk; /* how many chunks were taken */
    int workers;
} team;

static void sleep_while(team *b, int round) {
#if defined(__linux__)
    atomic_store_explicit(&b->slept, 1, memory_order_relaxed);
    atomic_fetch_add(&b->sleepers, 1);
    syscall(SYS_futex, &b->round, FUTEX_WAIT_PRIVATE, round, NULL, NULL, 0); /* returns at once if the round is over */
    atomic_fetch_sub(&b->sleepers, 1);
#elif defined(_WIN32)
    (void)b, (void)round;
    SwitchToThread();
#else
    (void)b, (void)round;
    sched_yield();
#endif
}

static void wake_all(team *b) {
#if defined(__linux__)
    if (atomic_load(&b->sleepers) > 0) syscall(SYS_futex, &b->round, FUTEX_WAKE_PRIVATE, b->workers, NULL, NULL, 0);
#else
    (void)b;
#endif
}

static void meet(team *b) {
    if (b->workers == 1) return;
    const int round = atomic_load_explicit(&b->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == b->workers - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store(&b->round, round + 1); /* sequentially consistent: a sleeper is seen, or sees the new round */
        wake_all(b);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; ++spins) {
        if (spins < SPINS_BEFORE_SLEEP)
            relax();
        else
            sleep_while(b, round);
    }
}

/* ---- the walk ---- */

/* How many mini-batches pass between two looks at the clock, unless somebody had to sleep. */
enum { BATCHES_PER_LOOK = 8 };

/* Worker 0 ends the span after this mini-batch if the time is up. It says so before a barrier of the mini-batch, and
 * the others look after it, so all end at the same place (a program on several threads has a barrier; see assembly.py). */
static void watch(const fm_call *call, team *b, int64_t batch, double start) {
    const int due =
        (batch - call->first) % BATCHES_PER_LOOK == 0 || atomic_load_explicit(&b->slept, memory_order_relaxed);
    if (due && fm_seconds() - start > call->budget) atomic_store_explicit(&b->last, batch + 1, memory_order_relaxed);
}

/* Notes where n input rows stand, and those behind them. */
static void find_rows(const fm_call *call, int64_t first_row, int64_t n, const char **rows) {
    const fm_source *x = &call->source[0];
    for (int64_t i = 0; i < n + FM_ROWS_AHEAD; ++i) {
        const int64_t place = first_row + i < call->n_rows ? first_row + i : call->n_rows - 1;
        const int64_t row = call->order32   ? (int64_t)call->order32[place]
                            : call->order64 ? (int64_t)call->order64[place]
                                            : place;
        rows[i] = x->data + row * x->row_stride;
    }
}

/* Runs a step's kernel on one part of it, and adds up its time where that is asked for. */
static inline void run_part(const fm_program *p, const fm_call *call, const fm_frame *frame, const fm_step *step, int s,
                            const fm_part *part, int timed) {
    const double start = timed ? fm_seconds() : 0.0;
    if (part->r0 < part->r1 && part->c0 < part->c1) p->kernels->kernels[step->op](step, frame, part);
    if (timed) call->step_seconds[s] += fm_seconds() - start;
}

/* Takes chunks of the mini-batch until there are none left; `taken` is how many had been taken before the first. */
static void walk_chunks(const fm_program *p, const fm_call *call, team *b, int worker, fm_frame *frame, int64_t taken) {
    const fm_chunks *all = &p->chunks;
    const int64_t first_row = frame->first_row;
    fm_step *own = p->steps + p->n_steps + worker * (all->end - all->first);
    for (int64_t i; (i = atomic_fetch_add_explicit(&b->chunk, 1, memory_order_relaxed) - taken) < all->count;) {
        frame->row0 = all->starts[i];
        frame->rows_here = all->starts[i + 1] - frame->row0;
        frame->first_row = first_row + frame->row0;
        if (frame->rows) find_rows(call, frame->first_row, frame->rows_here, frame->rows);
        for (const fm_move *m = all->moves; m < all->moves + all->n_moves; ++m)
            own[m->step - all->first].at[m->slot] =
                p->steps[m->step].at[m->slot] + frame->row0 * m->per_row + i * m->per_chunk;
        for (int s = all->first; s < all->end; ++s) {
            fm_part part = p->parts[(size_t)s * (size_t)p->n_threads];
            if (s < all->sums && part.r1 > frame->rows_here) part.r1 = (int32_t)frame->rows_here;
            run_part(p, call, frame, &own[s - all->first], s, &part, call->step_seconds && worker == 0);
        }
    }
    frame->first_row = first_row;
    frame->row0 = frame->rows_here = 0;
}

/* Runs the steps of a phase, s..end-1, on one part of each. What a part needs of the same phase is of the same number. */
static void run_phase(const fm_program *p, const fm_call *call, const fm_frame *frame, int worker, int s, int end,
                      int part) {
    const int parts = p->n_threads * p->pieces;
    for (; s < end; ++s)
        run_part(p, call, frame, &p->steps[s], s, &p->parts[(size_t)s * (size_t)parts + (size_t)part],
                 call->step_seconds && worker == 0);
}

/* How many pieces of a thread's share are taken: the number of the phase << 16 | pieces. */
typedef _Atomic int64_t piece_count;

static piece_count *taken_of(const fm_program *p, int share) { return (void *)(p->shares + (size_t)share * FM_SHARE); }

/* Takes a piece of a share: its number, or `pieces` if there is none left in this phase. */
static int take(piece_count *taken, int64_t phase, int pieces) {
    int64_t seen = atomic_load_explicit(taken, memory_order_relaxed), count;
    do {
        count = seen >> 16 == phase ? seen & 0xffff : 0;
        if (count == pieces) return pieces;
    } while (!atomic_compare_exchange_weak_explicit(taken, &seen, phase << 16 | (count + 1), memory_order_relaxed,
                                                    memory_order_relaxed));
    return (int)count;
}

/* Runs a phase on pieces of this worker's share, then of the others', until there are none left. */
static void share_phase(const fm_program *p, const fm_call *call, const fm_frame *frame, int worker, int64_t phase,
                        int s, int end) {
    for (int i = 0; i < p->n_threads; ++i) {
        const int share = (worker + i) % p->n_threads;
        for (int piece; (piece = take(taken_of(p, share), phase, p->pieces)) < p->pieces;)
            run_phase(p, call, frame, worker, s, end, share * p->pieces + piece);
    }
}

static void walk(const fm_program *program, const fm_call *call, team *b, int worker) {
    fm_fetch fetch = {0};
    fm_frame frame = {
        .fetch = &fetch,
        .source = call->source,
        .order32 = call->order32,
        .order64 = call->order64,
        .n_rows = call->n_rows,
        .out_stride = call->out_stride,
        .seed = call->seed,
    };
    const int workers = b->workers;
    const int64_t epoch = call->rest ? call->epoch_rows / call->batch_rows + 1 : 0; /* mini-batches of one */
    const fm_program *before = program;
    int64_t taken = 0, phase = 0;
    const double begun = call->budget > 0 ? fm_seconds() : 0;
    for (int64_t batch = call->first; batch < atomic_load_explicit(&b->last, memory_order_relaxed); ++batch) {
        if (call->budget > 0 && worker == 0) watch(call, b, batch, begun);
        const int64_t done = batch - call->first;
        const fm_program *p = program;
        int64_t rows = call->batch_rows;
        frame.first_row = batch * rows;
        if (call->rest) {
            const int64_t place = batch % epoch * rows;
            frame.first_row = batch / epoch * call->epoch_rows + place;
            if (batch % epoch == epoch - 1) p = call->rest, rows = call->epoch_rows - place;
            /* Each program's barriers are enough for itself alone. */
            if (p != before) meet(b), before = p;
        }
        frame.hyper = call->hyper ? call->hyper + done * call->hyper_stride : NULL;
        frame.loss = call->losses ? call->losses + batch : NULL;
        frame.out = call->out ? call->out + frame.first_row * call->out_stride : NULL;
        frame.step = call->step + (uint64_t)done;
        frame.rows = p->rows ? p->rows + worker * ((p->chunks.count ? p->chunks.room : rows) + FM_ROWS_AHEAD) : NULL;
        if (frame.rows && !p->chunks.count) find_rows(call, frame.first_row, rows, frame.rows);
        for (int s = 0, end; s < p->n_steps; s = end) {
            const fm_chunks *all = p->chunks.count ? &p->chunks : NULL;
            if (p->steps[s].barrier) meet(b);
            if (all && s == all->first) {
                walk_chunks(p, call, b, worker, &frame, taken);
                taken += all->count + workers; /* everybody asks once more than there are chunks */
                end = all->end;
                continue;
            }
            for (end = s + 1; end < p->n_steps && !p->steps[end].barrier && !(all && end == all->first);) ++end;
            if (p->pieces > 1)
                share_phase(p, call, &frame, worker, ++phase, s, end);
            else
                for (int t = worker; t < p->n_threads; t += workers) run_phase(p, call, &frame, worker, s, end, t);
        }
    }
}

static void forget_shares(const fm_program *p) {
    for (int i = 0; i < p->n_threads; ++i) atomic_init(taken_of(p, i), 0);
}

int64_t fm_run(const fm_program *program, const fm_call *call) {
    team b = {.workers = 1};
    atomic_init(&b.last, call->last);
    atomic_init(&b.chunk, 0);
    forget_shares(program);
    if (call->rest) forget_shares(call->rest);
#ifdef _OPENMP
    if (program->n_threads > 1 && !fm_runtime.forked) {
#pragma omp parallel num_threads(program->n_threads)
        {
            const float_mode before = flush_denormals();
#pragma omp single
            b.workers = omp_get_num_threads();
            walk(program, call, &b, omp_get_thread_num());
            restore_denormals(before);
        }
        return atomic_load_explicit(&b.last, memory_order_relaxed);
    }
#endif
    const float_mode before = flush_denormals();
    walk(program, call, &b, 0);
    restore_denormals(before);
    return atomic_load_explicit(&b.last, memory_order_relaxed);
}

/* ---- binding ---- */

int fm_bind(fm_program *p) {
    const fm_chunks *all = &p->chunks;
    const int repeated = all->count ? all->end - all->first : 0, parts = p->n_threads * p->pieces;
    p->kernels = fm_kernels_current(p->bits);
    for (int s = 0; s < p->n_steps + repeated * p->n_threads; ++s) {
        fm_step *step = &p->steps[s];
        if (step->op < 0 || step->op >= FM_OPS || !p->kernels->kernels[step->op]) return FM_BAD_OPCODE;
        for (int i = 0; i < FM_OPERANDS; ++i) {
            if (step->at[i] < 0) {
                step->at[i] = 0;
                continue;
            }
            const int64_t base = step->at[i] >> 48, offset = step->at[i] & ((INT64_C(1) << 48) - 1);
            if (base >= FM_BASES || !p->base[base] || offset >= p->base_size[base]) return FM_BAD_OPERAND;
            if (((uintptr_t)p->base[base] + (uintptr_t)offset) % 64 != 0) return FM_BAD_ALIGNMENT;
            step->at[i] = (int64_t)(intptr_t)(p->base[base] + offset);
        }
        for (int t = 0; s < p->n_steps && t < parts; ++t) {
            const fm_part *part = &p->parts[(size_t)s * (size_t)parts + (size_t)t];
            if (part->r0 < 0 || part->c0 < 0 || part->r0 > part->r1 || part->c0 > part->c1) return FM_BAD_PART;
        }
    }
    return FM_OK;
}

const char *fm_status_text(int status) {
    static const char *const text[] = {
        [FM_OK] = "no error",
        [FM_UNKNOWN_ISA] = "this instruction set is not known",
        [FM_ISA_NOT_BUILT] = "this instruction set was not built for this kind of processor",
        [FM_ISA_NOT_SUPPORTED] = "this processor lacks this instruction set",
        [FM_BAD_OPCODE] = "a step's opcode is not known",
        [FM_BAD_OPERAND] = "a step's operand lies outside its memory",
        [FM_BAD_PART] = "a step's part is not a range",
        [FM_BAD_ALIGNMENT] = "a step's operand is not aligned to 64 bytes",
    };
    return status >= 0 && status < (int)(sizeof text / sizeof text[0]) ? text[status] : "unknown status";
}
