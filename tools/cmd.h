/* The subcommands of ccc and cccrt: one file each; the tables are in ccc.c and cccrt.c. argv[0] is the subcommand; the result is the exit status. */
#ifndef CCC_TOOL_CMD_H
#define CCC_TOOL_CMD_H
typedef struct { const char *name; int (*run)(int argc, char **argv); const char *help; } command;
int command_main(const char *program, const char *about, const char *version, const command *table, int argc, char **argv);

int cmd_import(int argc, char **argv);
int cmd_compile(int argc, char **argv);
int cmd_opt(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_cache(int argc, char **argv);
int cmd_tune(int argc, char **argv);

int rt_info(int argc, char **argv);
int rt_verify(int argc, char **argv);
int rt_prepare(int argc, char **argv);
int rt_run(int argc, char **argv);
int rt_bench(int argc, char **argv);
int rt_tune(int argc, char **argv);
#endif
