/* Runs a program as little is allowed as can be: jail ROOT PROGRAM ARGUMENTS... The root folder becomes /,
 * read-only; the user is nobody; new programs, new processes and sockets end the process. Needs to be root;
 * exit status 77 where that is not so. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534, MOST = 64 };

static void check(int failed, const char *what)
{
    if (!failed) return;
    fprintf(stderr, "jail: %s: %s\n", what, strerror(errno));
    exit(1);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define HIGH(i)                                                                                              \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (i) + 4))
#define LOW(i) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (i)))
#define IF(k, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(k), then, otherwise)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define FORBID(call) IF(__NR_##call, 0, 1), KILL

/* `path` is the one string, at its address in this program, that may be executed: the program that is
 * started. */
static void lock(const char *path)
{
    struct sock_filter rules[] = {
        LOAD(arch),
        IF(AUDIT_ARCH_X86_64, 1, 0),
        KILL,
        LOAD(nr),
        FORBID(fork),
        FORBID(vfork),
        FORBID(execveat),
        FORBID(socket),
        FORBID(socketpair),
        FORBID(connect),
        FORBID(bind),
        FORBID(ptrace),
        FORBID(mount),
        FORBID(io_uring_setup),
        IF(__NR_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K,
                 SECCOMP_RET_ERRNO |
                     ENOSYS), /* its flags cannot be looked at; the C library then uses clone */
        IF(__NR_clone, 0, 4),
        LOW(0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
        ALLOW,
        KILL,
        IF(__NR_execve, 0, 5),
        LOW(0),
        IF((uint32_t)(uintptr_t)path, 0, 2),
        HIGH(0),
        IF((uint64_t)(uintptr_t)path >> 32, 1, 0),
        KILL,
        ALLOW,
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
    check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "seccomp");
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    if (geteuid() != 0) {
        fprintf(stderr, "jail: only root can lock things up\n");
        return 77;
    }
    if (unshare(CLONE_NEWNS) == 0) { /* where it is not allowed: the files are root's, and the user is not */
        check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
        check(mount(argv[1], argv[1], NULL, MS_BIND, NULL), "bind");
        check(mount("none", argv[1], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV, NULL), "read-only");
    }
    check(chdir(argv[1]) || chroot(".") || chdir("/"), "chroot");
    check(setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY), "user");
    check(access("/", W_OK) == 0, "the root can be written");
    const char *path = argv[2];
    char *environment[] = {NULL};
    lock(path);
    execve(path, argv + 2, environment);
    check(1, path);
}
