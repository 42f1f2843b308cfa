/* What must not be possible in the jail: try fork|exec|socket|write. Ends with status 0 if it was. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char *none[] = {NULL};
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "fork") == 0) return fork() < 0;
    if (strcmp(what, "exec") == 0) return execve("/bin/cccrt", none, none) != 0;
    if (strcmp(what, "socket") == 0) return socket(AF_UNIX, SOCK_STREAM, 0) < 0;
    if (strcmp(what, "write") == 0) return open("/file", O_CREAT | O_WRONLY, 0600) < 0;
    return 1;
}
