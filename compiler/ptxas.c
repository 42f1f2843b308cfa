/* ptxas: PTX to cubin, as a child process. Its files lie in a private folder that is removed on every path;
 * its report (-v) is parsed, because a kernel that spills or whose wgmma were serialised is a bug that only
 * ptxas sees. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "codegen_impl.h"

/* Runs argv[0] without environment; what it prints goes to `log`. */
static ccc_status spawn(char *const argv[], const char *log, int *status, ccc_err *err)
{
    posix_spawn_file_actions_t act;
    char *const env[] = {NULL};
    pid_t pid;
    if (posix_spawn_file_actions_init(&act)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    int rc = posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
    if (!rc) rc = posix_spawn_file_actions_addopen(&act, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&act, 1, 2);
    if (!rc) rc = posix_spawn(&pid, argv[0], &act, NULL, argv, env);
    posix_spawn_file_actions_destroy(&act);
    if (rc) return ccc_fail(err, CCC_E_IO, "cannot run '%s': %s", argv[0], strerror(rc));
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return ccc_fail(err, CCC_E_IO, "cannot wait for '%s': %s", argv[0], strerror(errno));
    return CCC_OK;
}

/* First line of a log that tells what went wrong, without its newline. */
static void complaint(const char *log, char out[200])
{
    const char *p = strstr(log, "error");
    if (!p) p = strstr(log, "fatal");
    if (!p) p = log;
    while (p > log && p[-1] != '\n') p--;
    snprintf(out, 200, "%.*s", (int)strcspn(p, "\n"), p);
}

static ccc_status failed(const char *ptxas, int status, const char *log, ccc_err *err)
{
    char line[200];
    complaint(log, line);
    if (WIFSIGNALED(status))
        return ccc_fail(err, CCC_E_IO, "'%s' was ended by signal %d", ptxas, WTERMSIG(status));
    return ccc_fail(err, CCC_E_UNSUPPORTED, "'%s' failed (status %d): %s", ptxas, WEXITSTATUS(status), line);
}

static const char *line_number(const char *line, const char *label,
                               uint32_t *value) /* "<number><label>": where the number begins */
{
    const char *p = strstr(line, label);
    if (!p) return NULL;
    while (p > line && p[-1] >= '0' && p[-1] <= '9') p--;
    *value = (uint32_t)strtoul(p, NULL, 10);
    return p;
}

void ccc_ptxas_parse(ccc_ptxas_report *report, const char *log)
{
    *report = (ccc_ptxas_report){0};
    for (const char *p = log; *p;) {
        char line[512];
        size_t n = strcspn(p, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), p);
        uint32_t v;
        if (line_number(line, " bytes stack frame", &v) && v > report->stack_B) report->stack_B = v;
        if (line_number(line, " bytes spill stores", &v)) report->spill_B += v;
        if (line_number(line, " bytes spill loads", &v)) report->spill_B += v;
        if (line_number(line, " registers", &v) && v > report->n_regs) report->n_regs = v;
        if (strstr(line, "(C75")) report->n_advice++;
        p += n + (p[n] == '\n');
    }
}

static ccc_status run_in(const char *dir, ccc_buf *cubin, ccc_ptxas_report *report, const char *ptxas,
                         const char *arch, const char *ptx, size_t ptx_B, ccc_err *err)
{
    char in[64], out[64], log[64], arch_flag[40];
    snprintf(in, sizeof in, "%s/k.ptx", dir);
    snprintf(out, sizeof out, "%s/k.cubin", dir);
    snprintf(log, sizeof log, "%s/log", dir);
    snprintf(arch_flag, sizeof arch_flag, "-arch=%s", arch);
    CCC_TRY(ccc_write_file(in, ptx, ptx_B, err));
    char *argv[] = {(char *)ptxas, arch_flag, "-v", "-o", out, in, NULL};
    int status = 0;
    ccc_buf text = {0};
    ccc_status s = spawn(argv, log, &status, err);
    if (s == CCC_OK) s = ccc_read_file(&text, log, err);
    if (s == CCC_OK && status != 0) s = failed(ptxas, status, text.data ? text.data : "", err);
    if (s == CCC_OK) ccc_ptxas_parse(report, text.data ? text.data : "");
    if (s == CCC_OK) s = ccc_read_file(cubin, out, err);
    ccc_buf_free(&text);
    return s;
}

static ccc_status private_folder(char dir[32], ccc_err *err)
{
    strcpy(dir, "/tmp/ccc-ptxas-XXXXXX");
    return mkdtemp(dir)
               ? CCC_OK
               : ccc_fail(err, CCC_E_IO, "cannot make a folder in /tmp for ptxas: %s", strerror(errno));
}

static void remove_folder(const char *dir)
{
    static const char *const names[] = {"k.ptx", "k.cubin", "log"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

ccc_status ccc_ptxas_run(ccc_buf *cubin, ccc_ptxas_report *report, const char *ptxas, const char *arch,
                         const char *ptx, size_t ptx_B, ccc_err *err)
{
    char dir[32];
    CCC_TRY(private_folder(dir, err));
    ccc_status s = run_in(dir, cubin, report, ptxas, arch, ptx, ptx_B, err);
    remove_folder(dir);
    return s;
}

static ccc_status ask_version(char out[32], const char *ptxas, ccc_err *err)
{
    char dir[32], log[64];
    ccc_buf text = {0};
    int status = 0;
    CCC_TRY(private_folder(dir, err));
    snprintf(log, sizeof log, "%s/log", dir);
    ccc_status s = spawn((char *[]){(char *)ptxas, "--version", NULL}, log, &status, err);
    if (s == CCC_OK) s = ccc_read_file(&text, log, err);
    remove_folder(dir);
    const char *v = s == CCC_OK && status == 0 && text.data ? strstr(text.data, ", V") : NULL;
    size_t n = v ? strspn(v + 3, "0123456789.") : 0;
    if (s == CCC_OK && (n == 0 || n > 31))
        s = ccc_fail(err, CCC_E_UNSUPPORTED, "'%s --version' names no version: is it ptxas?", ptxas);
    if (s == CCC_OK) snprintf(out, 32, "%.*s", (int)n, v + 3);
    ccc_buf_free(&text);
    return s;
}

/* Remembered in the cache by path, size and time of change: asking costs a process. */
ccc_status ccc_ptxas_version(char out[32], const char *ptxas, ccc_cache *cache, ccc_err *err)
{
    struct stat st;
    if (stat(ptxas, &st)) return ccc_fail(err, CCC_E_IO, "cannot use ptxas '%s': %s", ptxas, strerror(errno));
    if (!cache) return ask_version(out, ptxas, err);
    ccc_factors f = {0};
    ccc_buf known = {0};
    bool found = false;
    ccc_factor_str(&f, "label", "ptxas version");
    ccc_factor_str(&f, "path", ptxas);
    ccc_factor_int(&f, "size", st.st_size);
    ccc_factor_int(&f, "mtime_s", st.st_mtim.tv_sec);
    ccc_factor_int(&f, "mtime_ns", st.st_mtim.tv_nsec);
    ccc_status s = ccc_cache_get(cache, CCC_CACHE_KERNEL, &f, &known, &found, err);
    if (s == CCC_OK && found && known.size_B > 0 && known.size_B < 32) {
        snprintf(out, 32, "%.*s", (int)known.size_B, known.data);
    } else if (s == CCC_OK) {
        s = ask_version(out, ptxas, err);
        if (s == CCC_OK) s = ccc_cache_put(cache, CCC_CACHE_KERNEL, &f, out, strlen(out), err);
    }
    ccc_buf_free(&known);
    ccc_factors_free(&f);
    return s;
}

static bool executable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

ccc_status ccc_find_ptxas(char out[PATH_MAX], const char *configured, const char *folders, ccc_err *err)
{
    out[0] = 0;
    if (configured && configured[0]) {
        if (!strcmp(configured, "none")) return CCC_OK;
        if (strlen(configured) >= PATH_MAX || !executable(configured))
            return ccc_fail(err, CCC_E_ARG, "ptxas '%s' is not a program; give its path, or none",
                            configured);
        snprintf(out, PATH_MAX, "%s", configured);
        return CCC_OK;
    }
    for (const char *p = folders ? folders : ""; *p;) {
        size_t n = strcspn(p, ":");
        if (n > 0 && n + sizeof "/ptxas" < PATH_MAX) {
            snprintf(out, PATH_MAX, "%.*s/ptxas", (int)n, p);
            if (executable(out)) return CCC_OK;
        }
        p += n + (p[n] == ':');
    }
    out[0] = 0;
    return CCC_OK;
}
