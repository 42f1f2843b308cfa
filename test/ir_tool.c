/* irtool: the graph library on its own, for golden tests: reads a graph (text, or JSON when it begins with
 * '{') from standard input, and prints it as text or JSON. Errors go to standard error, exit status 1. */
#include "../ir/ir.h"
#include <stdio.h>
#include <string.h>

static ccc_status convert(const char *form, ccc_buf *out, ccc_err *err)
{
    ccc_buf in = {0};
    ccc_graph *g = NULL;
    ccc_status status = ccc_read_file(&in, "-", err);
    if (status == CCC_OK) {
        const char *p = in.data + strspn(in.data, " \t\r\n");
        status = (*p == '{' ? ccc_json_read : ccc_ir_parse)(&g, in.data, in.size_B, "stdin", err);
    }
    if (status == CCC_OK && (strcmp(form, "json") == 0 ? ccc_json_write : ccc_ir_print)(g, out) != CCC_OK)
        status = ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_graph_free(g);
    ccc_buf_free(&in);
    return status;
}

int main(int argc, char **argv)
{
    ccc_buf out = {0};
    ccc_err err;
    if (argc != 2 || (strcmp(argv[1], "print") != 0 && strcmp(argv[1], "json") != 0)) {
        fprintf(stderr, "usage: irtool print|json < graph\n");
        return 2;
    }
    ccc_status status = convert(argv[1], &out, &err);
    if (status == CCC_OK) fwrite(out.data, 1, out.size_B, stdout);
    else fprintf(stderr, "irtool: %s\n", err.msg);
    ccc_buf_free(&out);
    return status == CCC_OK ? 0 : 1;
}
