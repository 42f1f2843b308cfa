/* The fake driver's modules, launches and graphs. A module is a cubin or PTX text, of which it reads the
 * entries' names and how many bytes of arguments they take; arguments are looked through for addresses, and
 * each must lie inside a live allocation. */
#define _GNU_SOURCE
#include "fake.h"
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define BEGIN(name)                                                                                          \
    cu_result r_ = fake_begin(#name, true);                                                                  \
    if (r_) return fake_end(r_)
enum { KPARAM_INFO = 0x17, MAX_ARGS_B = 4096, GRID_YZ = 65535, MAX_NODES = 65536 };

typedef struct {
    handle h;
    const char *image;
} module;
typedef struct {
    handle h;
    module *m;
    char name[128];
    size_t offset_B, args_B;
    int shared_B;
} function;
typedef struct {
    handle h;
    struct graph *g;
    int kind;
    function *f;
    unsigned grid[3];
    cu_memset_node set;
    cu_memcpy_node copy;
    bool joined;
} node;
typedef struct graph {
    handle h;
    node *node[MAX_NODES];
    unsigned n;
} graph;
typedef struct {
    handle h;
    unsigned n;
    int launches;
    node *node[MAX_NODES];
} exec;
enum { N_KERNEL, N_MEMSET, N_MEMCPY };

/* ---- modules */
static bool elf_entry(const char *image, const char *name, size_t *offset_B, size_t *args_B)
{
    const Elf64_Ehdr *h = (const void *)image;
    const Elf64_Shdr *s = (const void *)(image + h->e_shoff);
    const char *names = image + s[h->e_shstrndx].sh_offset;
    for (unsigned i = 0; i < h->e_shnum; i++) {
        const char *sn = names + s[i].sh_name;
        if (strncmp(sn, ".nv.info.", 9) != 0 || strcmp(sn + 9, name) != 0) continue;
        const unsigned char *p = (const unsigned char *)image + s[i].sh_offset, *end = p + s[i].sh_size;
        unsigned n = 0; /* parameters: u32 index, u16 number, u16 offset, u32 with the size from bit 18 */
        for (*args_B = 0; p + 4 <= end; p += p[0] == 4 ? 4 + (p[2] | p[3] << 8) : 4)
            if (p[0] == 4 && p[1] == KPARAM_INFO && p + 16 <= end) {
                *offset_B = (size_t)(p[10] | p[11] << 8);
                *args_B = (size_t)(p[14] >> 2 | p[15] << 6);
                n++;
            }
        return n <= 1;
    }
    return false;
}

static bool ptx_entry(const char *image, const char *name, size_t *args_B)
{
    size_t n = strlen(name);
    for (const char *p = image; (p = strstr(p, ".entry "));) {
        p += 7;
        if (strncmp(p, name, n) != 0 || (p[n] != '(' && p[n] != ' ' && p[n] != '\n')) continue;
        const char *end = strchr(p, '{'), *size = strstr(p, ".b8 ");
        *args_B = 0;
        if (size && (!end || size < end) && (size = strchr(size, '['))) *args_B = (size_t)atol(size + 1);
        return true;
    }
    return false;
}

API cu_result cuModuleLoadDataEx(cu_module *out, const void *image, unsigned n, int *options, void **values)
{
    BEGIN(cuModuleLoadDataEx);
    (void)n, (void)options, (void)values;
    bool elf = memcmp(image, ELFMAG, SELFMAG) == 0;
    if (!elf && !strstr(image, ".version")) return fake_end(INVALID_IMAGE);
    module *m = fake_new(H_MODULE, sizeof *m);
    if (!m) return fake_end(CU_OUT_OF_MEMORY);
    m->image = image;
    fake_log(" module%u %s", m->h.number, elf ? "cubin" : "ptx");
    *out = (cu_module)(void *)m;
    return fake_end(0);
}

API cu_result cuModuleUnload(cu_module m)
{
    BEGIN(cuModuleUnload);
    if (!fake_is(m, H_MODULE)) return fake_end(INVALID_HANDLE);
    fake_log(" module%u", ((handle *)(void *)m)->number);
    fake_kill(m);
    return fake_end(0);
}

API cu_result cuModuleGetFunction(cu_function *out, cu_module m, const char *name)
{
    BEGIN(cuModuleGetFunction);
    if (!fake_is(m, H_MODULE)) return fake_end(INVALID_HANDLE);
    module *x = (module *)(void *)m;
    size_t offset_B = 0, args_B = 0;
    fake_log(" module%u %s", x->h.number, name);
    bool elf = memcmp(x->image, ELFMAG, SELFMAG) == 0;
    if (!(elf ? elf_entry(x->image, name, &offset_B, &args_B) : ptx_entry(x->image, name, &args_B)) ||
        args_B > MAX_ARGS_B)
        return fake_end(NOT_FOUND);
    function *f = fake_new(H_FUNCTION, sizeof *f);
    if (!f) return fake_end(CU_OUT_OF_MEMORY);
    f->m = x;
    f->offset_B = offset_B;
    f->args_B = args_B;
    f->shared_B = INITIAL_SHARED_B;
    snprintf(f->name, sizeof f->name, "%s@%u", name, x->h.number);
    *out = (cu_function)(void *)f;
    return fake_end(0);
}

static bool function_ok(cu_function f)
{
    return fake_is(f, H_FUNCTION) && !((function *)(void *)f)->m->h.dead;
}

API cu_result cuFuncSetAttribute(cu_function f, int attribute, int value)
{
    BEGIN(cuFuncSetAttribute);
    if (!function_ok(f)) return fake_end(INVALID_HANDLE);
    fake_log(" %s %d %d", ((function *)(void *)f)->name, attribute, value);
    if (attribute == CU_FUNC_MAX_DYNAMIC_SHARED) {
        if (value < 0 || value > 232448) return fake_end(CU_INVALID_VALUE);
        ((function *)(void *)f)->shared_B = value;
        return fake_end(0);
    }
    return fake_end(
        attribute == CU_FUNC_CARVEOUT || attribute == CU_FUNC_NON_PORTABLE_CLUSTER ? 0 : CU_INVALID_VALUE);
}

API cu_result cuFuncLoad(cu_function f)
{
    BEGIN(cuFuncLoad);
    return fake_end(function_ok(f) ? 0 : INVALID_HANDLE);
}

API cu_result cuFuncGetParamInfo(cu_function f, size_t i, size_t *offset_B, size_t *size_B)
{
    BEGIN(cuFuncGetParamInfo);
    if (!function_ok(f)) return fake_end(INVALID_HANDLE);
    if (i) { /* asked for to see that there is no second one */
        fake_end(0);
        return CU_INVALID_VALUE;
    }
    *offset_B = ((function *)(void *)f)->offset_B;
    *size_B = ((function *)(void *)f)->args_B;
    return fake_end(0);
}

API cu_result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, cu_function f, int block, size_t shared_B)
{
    BEGIN(cuOccupancyMaxActiveBlocksPerMultiprocessor);
    if (!function_ok(f) || block < 1 || block > 1024) return fake_end(CU_INVALID_VALUE);
    int by_threads = 2048 / block, by_shared = (int)(233472 / (shared_B + 1024));
    *n = by_threads < by_shared ? by_threads : by_shared;
    return fake_end((int)shared_B > ((function *)(void *)f)->shared_B ? CU_INVALID_VALUE : 0);
}

API cu_result cuOccupancyMaxActiveClusters(int *n, cu_function f, const cu_launch *l)
{
    BEGIN(cuOccupancyMaxActiveClusters);
    if (!function_ok(f) || l->n_attrs != 1 || l->attrs[0].id != CU_ATTR_CLUSTER)
        return fake_end(CU_INVALID_VALUE);
    *n = fake_setting("FAKE_CUDA_SM", 132) / (int)l->attrs[0].value.cluster.x;
    return fake_end(0);
}

/* ---- arguments */
API cu_result cuTensorMapEncodeTiled(cu_tensor_map *m, int dtype, unsigned rank, void *base,
                                     const uint64_t *dim, const uint64_t *stride, const uint32_t *box,
                                     const uint32_t *step, int interleave, int swizzle, int promotion,
                                     int fill)
{
    static const uint8_t elem_B[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};
    BEGIN(cuTensorMapEncodeTiled);
    fake_log(" type=%d swizzle=%d promotion=%d", dtype, swizzle, promotion);
    fake_log_pointer((uintptr_t)base);
    bool ok = dtype >= 0 && dtype <= 9 && rank >= 1 && rank <= 5 && (uintptr_t)base % 16 == 0 &&
              (uintptr_t)m % 64 == 0 && !interleave && !fill && promotion <= 3 && swizzle <= 3;
    uint64_t span_B = ok ? elem_B[dtype] : 0;
    memset(m, 0, sizeof *m);
    for (unsigned i = 0; ok && i < rank; i++) {
        uint64_t by = i ? stride[i - 1] : elem_B[dtype];
        fake_log(" %llux%llu/%u", (unsigned long long)dim[i], (unsigned long long)by, box[i]);
        ok = dim[i] >= 1 && dim[i] <= 1ull << 32 && box[i] >= 1 && box[i] <= 256 && step[i] == 1 &&
             (!i || (by % 16 == 0 && by < 1ull << 40));
        span_B += (dim[i] - 1) * by;
        m->opaque[2 + 2 * i] = dim[i];
        m->opaque[3 + 2 * i] = by << 32 | box[i];
    }
    ok = ok && box[0] * elem_B[dtype] % 16 == 0 && (!swizzle || box[0] * elem_B[dtype] <= 16u << swizzle) &&
         fake_inside((uintptr_t)base, span_B, false);
    m->opaque[0] =
        (uint64_t)dtype | (uint64_t)rank << 8 | (uint64_t)swizzle << 16 | (uint64_t)promotion << 24;
    m->opaque[1] = (uintptr_t)base;
    return fake_end(ok ? 0 : CU_INVALID_VALUE);
}

static unsigned long wild; /* arguments that look like addresses of device memory and lie in no allocation */
API unsigned long fake_wild_addresses(void);
API unsigned long fake_wild_addresses(void)
{
    return wild;
}

static bool arguments_ok(const function *f, void **params)
{
    fake_log(" args");
    const char *a = params && f->args_B ? params[0] : NULL;
    if (f->args_B && !a) return false;
    bool ok = true;
    for (size_t i = 0; i < f->args_B; i += 8) {
        uint64_t v = 0;
        memcpy(&v, a + i, f->args_B - i < 8 ? f->args_B - i : 8);
        if (fake_near(v)) {
            ok &= fake_inside(v, 1, false);
            wild += !fake_inside(v, 0, false);
            fake_log_pointer(v);
        } else {
            fake_log(" %llx", (unsigned long long)v);
        }
    }
    return ok;
}

static cu_result check_launch(const function *f, const unsigned grid[3], const unsigned block[3],
                              unsigned shared_B, void **params, void **extra)
{
    fake_log(" %s grid=%u,%u,%u block=%u shared=%u", f->name, grid[0], grid[1], grid[2], block[0], shared_B);
    bool ok = grid[0] && grid[1] && grid[2] && grid[0] <= 0x7fffffff && grid[1] <= GRID_YZ &&
              grid[2] <= GRID_YZ && block[0] && block[1] == 1 && block[2] == 1 && block[0] <= 1024 &&
              (int)shared_B <= f->shared_B && !extra;
    return arguments_ok(f, params) && ok ? 0 : CU_INVALID_VALUE;
}

static cu_result check_attr(const unsigned grid[3], unsigned id, const cu_attr_value *v)
{
    fake_log(" attr%u=%u", id, id == CU_ATTR_CLUSTER ? v->cluster.x : (unsigned)v->number);
    if (id == CU_ATTR_CLUSTER)
        return v->cluster.x && v->cluster.y == 1 && v->cluster.z == 1 && v->cluster.x <= 16 &&
                       grid[0] % v->cluster.x == 0
                   ? 0
                   : CU_INVALID_VALUE;
    return id == CU_ATTR_COOPERATIVE || id == CU_ATTR_PROGRAMMATIC ? 0 : CU_INVALID_VALUE;
}

API cu_result cuLaunchKernelEx(const cu_launch *l, cu_function f, void **params, void **extra)
{
    BEGIN(cuLaunchKernelEx);
    if (!function_ok(f) || (l->stream && !fake_is(l->stream, H_STREAM))) return fake_end(INVALID_HANDLE);
    cu_result r = check_launch((function *)(void *)f, l->grid, l->block, l->shared_B, params, extra);
    for (unsigned i = 0; i < l->n_attrs && !r; i++)
        r = check_attr(l->grid, l->attrs[i].id, &l->attrs[i].value);
    return fake_end(r);
}

/* ---- graphs */
API cu_result cuGraphCreate(cu_graph *out, unsigned flags)
{
    BEGIN(cuGraphCreate);
    graph *g = flags ? NULL : fake_new(H_GRAPH, sizeof *g);
    *out = (cu_graph)(void *)g;
    if (g) fake_log(" graph%u", g->h.number);
    return fake_end(g ? 0 : CU_OUT_OF_MEMORY);
}

API cu_result cuGraphDestroy(cu_graph g)
{
    BEGIN(cuGraphDestroy);
    if (!fake_is(g, H_GRAPH)) return fake_end(INVALID_HANDLE);
    fake_kill(g);
    return fake_end(0);
}

static cu_result add_node(cu_node *out, cu_graph g, const cu_node *deps, size_t n_deps, int kind, node **made)
{
    graph *x = (graph *)(void *)g;
    if (!fake_is(g, H_GRAPH)) return INVALID_HANDLE;
    if (deps || n_deps || x->n == MAX_NODES) return CU_INVALID_VALUE;
    node *n = fake_new(H_NODE, sizeof *n);
    if (!n) return CU_OUT_OF_MEMORY;
    n->g = x;
    n->kind = kind;
    x->node[x->n++] = n;
    *out = (cu_node)(void *)n;
    *made = n;
    fake_log(" node%u", x->n - 1);
    return 0;
}

API cu_result cuGraphAddKernelNode_v2(cu_node *out, cu_graph g, const cu_node *deps, size_t n_deps,
                                      const cu_kernel_node *p)
{
    BEGIN(cuGraphAddKernelNode_v2);
    node *n;
    cu_result r = function_ok(p->func) ? add_node(out, g, deps, n_deps, N_KERNEL, &n) : INVALID_HANDLE;
    if (r) return fake_end(r);
    n->f = (function *)(void *)p->func;
    memcpy(n->grid, p->grid, sizeof n->grid);
    return fake_end(check_launch(n->f, p->grid, p->block, p->shared_B, p->params, p->extra));
}

API cu_result cuGraphKernelNodeSetAttribute(cu_node n, unsigned id, const cu_attr_value *value)
{
    BEGIN(cuGraphKernelNodeSetAttribute);
    if (!fake_is(n, H_NODE) || ((node *)(void *)n)->kind != N_KERNEL) return fake_end(INVALID_HANDLE);
    return fake_end(id == CU_ATTR_PROGRAMMATIC ? CU_INVALID_VALUE
                                               : check_attr(((node *)(void *)n)->grid, id, value));
}

API cu_result cuGraphAddMemsetNode(cu_node *out, cu_graph g, const cu_node *deps, size_t n_deps,
                                   const cu_memset_node *p, cu_context c)
{
    BEGIN(cuGraphAddMemsetNode);
    node *n;
    cu_result r = add_node(out, g, deps, n_deps, N_MEMSET, &n);
    if (r) return fake_end(r);
    n->set = *p;
    fake_log_pointer(p->dst);
    fake_log(" %u %zu", p->value, p->width);
    return fake_end(c && p->element_B == 1 && p->height == 1 && p->width &&
                            fake_inside(p->dst, p->width, false)
                        ? 0
                        : CU_INVALID_VALUE);
}

API cu_result cuGraphAddMemcpyNode(cu_node *out, cu_graph g, const cu_node *deps, size_t n_deps,
                                   const cu_memcpy_node *p, cu_context c)
{
    BEGIN(cuGraphAddMemcpyNode);
    node *n;
    cu_result r = add_node(out, g, deps, n_deps, N_MEMCPY, &n);
    if (r) return fake_end(r);
    n->copy = *p;
    fake_log_pointer(p->dst);
    fake_log_pointer(p->src);
    fake_log(" %zu", p->width_B);
    bool ok = c && p->src_type == CU_MEMORY_DEVICE && p->dst_type == CU_MEMORY_DEVICE && p->height == 1 &&
              p->depth == 1;
    return fake_end(ok && fake_inside(p->dst, p->width_B, false) && fake_inside(p->src, p->width_B, false)
                        ? 0
                        : CU_INVALID_VALUE);
}

static unsigned place(const graph *g, const void *n)
{
    unsigned i = 0;
    while (i < g->n && g->node[i] != n) i++;
    return i;
}

API cu_result cuGraphAddDependencies_v2(cu_graph g, const cu_node *from, const cu_node *to,
                                        const cu_edge *data, size_t n)
{
    BEGIN(cuGraphAddDependencies_v2);
    graph *x = (graph *)(void *)g;
    if (!fake_is(g, H_GRAPH)) return fake_end(INVALID_HANDLE);
    for (size_t i = 0; i < n; i++) {
        unsigned a = place(x, from[i]), b = place(x, to[i]);
        if (a >= x->n || b >= x->n || a >= b) return fake_end(INVALID_HANDLE);
        bool programmatic = data[i].type == CU_EDGE_PROGRAMMATIC;
        fake_log(" %u->%u%s", a, b, programmatic ? " programmatic" : "");
        if (data[i].to_port || data[i].from_port != (programmatic ? CU_PORT_PROGRAMMATIC : 0) ||
            data[i].type > 1)
            return fake_end(CU_INVALID_VALUE);
        if (programmatic && (x->node[a]->kind != N_KERNEL || x->node[b]->kind != N_KERNEL))
            return fake_end(CU_INVALID_VALUE);
        x->node[b]->joined = true;
    }
    return fake_end(0);
}

API cu_result cuGraphInstantiateWithFlags(cu_exec *out, cu_graph g, unsigned long long flags)
{
    BEGIN(cuGraphInstantiateWithFlags);
    graph *x = (graph *)(void *)g;
    if (!fake_is(g, H_GRAPH) || flags) return fake_end(INVALID_HANDLE);
    for (unsigned i = 1; i < x->n; i++)
        if (!x->node[i]->joined)
            return fake_end(CU_INVALID_VALUE); /* a node that nothing orders: never meant by libcccrt */
    exec *e = fake_new(H_EXEC, sizeof *e);
    if (!e) return fake_end(CU_OUT_OF_MEMORY);
    e->n = x->n;
    memcpy(e->node, x->node, sizeof e->node);
    fake_log(" exec%u of graph%u, %u nodes", e->h.number, x->h.number, e->n);
    *out = (cu_exec)(void *)e;
    return fake_end(0);
}

API cu_result cuGraphUpload(cu_exec e, cu_stream s)
{
    BEGIN(cuGraphUpload);
    return fake_end(fake_is(e, H_EXEC) && (!s || fake_is(s, H_STREAM)) ? 0 : INVALID_HANDLE);
}

API cu_result cuGraphLaunch(cu_exec e, cu_stream s)
{
    BEGIN(cuGraphLaunch);
    if (!fake_is(e, H_EXEC) || (s && !fake_is(s, H_STREAM))) return fake_end(INVALID_HANDLE);
    exec *x = (exec *)(void *)e;
    fake_log(" exec%u", x->h.number);
    int slow = fake_setting("FAKE_CUDA_SLOW", 0);
    if (slow && ++x->launches % slow == 0) usleep(50000);
    for (unsigned i = 0; i < x->n; i++) {
        const node *n = x->node[i];
        if (n->kind == N_KERNEL && n->f->m->h.dead) return fake_end(INVALID_HANDLE);
        if (n->kind == N_MEMSET) memset((void *)(uintptr_t)n->set.dst, (int)n->set.value, n->set.width);
        if (n->kind == N_MEMCPY)
            memcpy((void *)(uintptr_t)n->copy.dst, (const void *)(uintptr_t)n->copy.src, n->copy.width_B);
    }
    return fake_end(0);
}

API cu_result cuGraphExecDestroy(cu_exec e)
{
    BEGIN(cuGraphExecDestroy);
    if (!fake_is(e, H_EXEC)) return fake_end(INVALID_HANDLE);
    fake_log(" exec%u", ((exec *)(void *)e)->h.number);
    fake_kill(e);
    return fake_end(0);
}
