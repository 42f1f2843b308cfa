/* The one way to report an error, shared by libccc and libcccrt. Header only, so that neither library depends on the other.
 * A function that can fail returns ccc_status and takes `ccc_err *err` last. The message is written where the failure is
 * detected: one line, complete, no capital, no full stop ("cannot open 'x.json': No such file or directory"). Callers pass it on
 * unchanged. `err` may be NULL everywhere. Bugs of ours are assert()ed, the world's faults are reported. */
#ifndef CCC_ERR_H
#define CCC_ERR_H
#include <stdarg.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ccc_status { /* values are pinned: they are part of the ABI */
    CCC_OK = 0,
    CCC_E_IO = 1,          /* a file or stream could not be read or written */
    CCC_E_PARSE = 2,       /* text or JSON that is not well-formed */
    CCC_E_TYPE = 3,        /* a graph, model or argument whose shapes or types do not fit */
    CCC_E_UNSUPPORTED = 4, /* understood, but this version cannot do it */
    CCC_E_CORRUPT = 5,     /* damaged or hostile artifact, weights or cache object */
    CCC_E_VERSION = 6,     /* written by a newer version */
    CCC_E_DEVICE = 7,      /* no device, wrong device, or a driver call failed */
    CCC_E_NOMEM = 8,       /* host or device memory */
    CCC_E_ARG = 9,         /* a caller's argument is out of its stated range */
    CCC_E_LOST = 10        /* the device context is unusable after an earlier fault; only close works */
} ccc_status;

typedef struct ccc_err { /* owned by the caller; untouched on success */
    ccc_status code;
    int line, col;  /* 1-based position in the input, 0 if it has none */
    char msg[504];
} ccc_err;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), unused))
#endif
static ccc_status ccc_fail(ccc_err *err, ccc_status code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        err->line = err->col = 0;
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        for (char *p = err->msg; *p; p++) /* names come from files: one line, and nothing that a terminal obeys */
            if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
    }
    return code;
}

#define CCC_TRY(expr)                                                                                                \
    do {                                                                                                             \
        ccc_status status_ = (expr);                                                                                 \
        if (status_ != CCC_OK) return status_;                                                                       \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
