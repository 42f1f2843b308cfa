/* Finds the subcommand in a table and runs it. */
#include "cmd.h"
#include <stdio.h>
#include <string.h>

static void usage(FILE *to, const char *program, const char *about, const command *table)
{
    fprintf(to, "usage: %s COMMAND [options]\n%s\n\ncommands:\n", program, about);
    for (const command *c = table; c->name; c++) fprintf(to, "  %-10s %s\n", c->name, c->help);
    fprintf(to, "\n%s COMMAND --help explains a command; %s --version prints the version.\n", program, program);
}

int command_main(const char *program, const char *about, const char *version, const command *table, int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr, program, about, table);
        return 2;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        usage(stdout, program, about, table);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("%s %s\n", program, version);
        return 0;
    }
    for (const command *c = table; c->name; c++)
        if (!strcmp(argv[1], c->name)) return c->run(argc - 1, argv + 1);
    fprintf(stderr, "%s: unknown command '%s'; see %s --help\n", program, argv[1], program);
    return 2;
}
