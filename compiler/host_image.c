/* A host kernel as data: LLVM's relocatable object is laid out here, once, into flat bytes that run wherever
 * they are mapped. Code and constants stay at fixed distances, so every reference can be resolved now; what
 * cannot be (an absolute address, an imported function, writable or thread-local data) is refused. The loader
 * then needs no linker: copy, protect, call base + entry. The image must be mapped at a multiple of 64 bytes.
 * The object is checked like any input, although LLVM made it. */
#include <elf.h>
#include <string.h>
#include "codegen_impl.h"

enum { MAX_SECTIONS = 256, MAX_ALIGN = 64, MAX_IMAGE = 64 << 20 };
typedef struct {
    const uint8_t *obj;
    size_t obj_B;
    const Elf64_Shdr *sh;
    unsigned n_sh;
    const Elf64_Sym *sym;
    size_t n_sym;
    const char *str, *shstr;
    size_t str_B, shstr_B;
    bool placed[MAX_SECTIONS];
    uint64_t at[MAX_SECTIONS]; /* where a placed section lies in the image */
    uint64_t size_B;
    uint8_t *image;
} layout;

static ccc_status bad(ccc_err *err, const char *what)
{
    return ccc_fail(err, CCC_E_UNSUPPORTED, "host kernel: malformed object: %s", what);
}
static bool inside(const layout *l, uint64_t at, uint64_t size_B)
{
    return at <= l->obj_B && size_B <= l->obj_B - at;
}
static const char *text_at(const char *table, size_t table_B, uint64_t at)
{
    return at < table_B ? table + at : "";
}

static ccc_status string_table(const layout *l, unsigned index, const char **out, size_t *out_B, ccc_err *err)
{
    if (index >= l->n_sh || l->sh[index].sh_type != SHT_STRTAB ||
        !inside(l, l->sh[index].sh_offset, l->sh[index].sh_size) || l->sh[index].sh_size == 0 ||
        l->obj[l->sh[index].sh_offset + l->sh[index].sh_size - 1] != 0)
        return bad(err, "string table");
    *out = (const char *)l->obj + l->sh[index].sh_offset;
    *out_B = l->sh[index].sh_size;
    return CCC_OK;
}

static ccc_status read_headers(layout *l, ccc_err *err)
{
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)l->obj;
    if (l->obj_B < sizeof *eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
        eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_type != ET_REL || eh->e_machine != EM_X86_64 ||
        eh->e_shentsize != sizeof(Elf64_Shdr))
        return bad(err, "not a relocatable x86-64 file");
    if (eh->e_shnum == 0 || eh->e_shnum > MAX_SECTIONS || eh->e_shoff % 8 ||
        !inside(l, eh->e_shoff, eh->e_shnum * sizeof(Elf64_Shdr)))
        return bad(err, "section headers");
    l->sh = (const Elf64_Shdr *)(l->obj + eh->e_shoff);
    l->n_sh = eh->e_shnum;
    CCC_TRY(string_table(l, eh->e_shstrndx, &l->shstr, &l->shstr_B, err));
    for (unsigned i = 0; i < l->n_sh; i++) {
        const Elf64_Shdr *s = &l->sh[i];
        if (s->sh_type == SHT_NOBITS || s->sh_type == SHT_NULL) continue;
        if (!inside(l, s->sh_offset, s->sh_size)) return bad(err, "section outside the file");
        if (s->sh_type != SHT_SYMTAB) continue;
        if (l->sym || s->sh_entsize != sizeof(Elf64_Sym) || s->sh_offset % 8) return bad(err, "symbol table");
        l->sym = (const Elf64_Sym *)(l->obj + s->sh_offset);
        l->n_sym = s->sh_size / sizeof(Elf64_Sym);
        CCC_TRY(string_table(l, s->sh_link, &l->str, &l->str_B, err));
    }
    return l->sym ? CCC_OK : bad(err, "no symbols");
}

static const char *section_name(const layout *l, unsigned i)
{
    return text_at(l->shstr, l->shstr_B, l->sh[i].sh_name);
}

static ccc_status place(layout *l, unsigned i, ccc_err *err)
{
    const Elf64_Shdr *s = &l->sh[i];
    uint64_t align = s->sh_addralign ? s->sh_addralign : 1;
    if (align > MAX_ALIGN || (align & (align - 1)) || s->sh_size > MAX_IMAGE)
        return bad(err, "alignment or size of a section");
    l->at[i] = (l->size_B + align - 1) & ~(align - 1);
    l->size_B = l->at[i] + s->sh_size;
    l->placed[i] = true;
    return l->size_B <= MAX_IMAGE ? CCC_OK : bad(err, "more than 64 MiB");
}

/* Code first, then constants, each in the object's order. Unwind tables describe frames to a debugger or C++;
 * nothing reads them here. */
static ccc_status place_all(layout *l, ccc_err *err)
{
    for (int code = 1; code >= 0; code--)
        for (unsigned i = 0; i < l->n_sh; i++) {
            const Elf64_Shdr *s = &l->sh[i];
            if (!(s->sh_flags & SHF_ALLOC) || s->sh_size == 0 || !!(s->sh_flags & SHF_EXECINSTR) != code)
                continue;
            if (!strcmp(section_name(l, i), ".eh_frame")) continue;
            if (s->sh_flags & SHF_TLS)
                return ccc_fail(err, CCC_E_UNSUPPORTED, "host kernel has thread-local data ('%s')",
                                section_name(l, i));
            if (s->sh_flags & SHF_WRITE)
                return ccc_fail(err, CCC_E_UNSUPPORTED,
                                "host kernel has writable data, or constants that hold addresses ('%s')",
                                section_name(l, i));
            if (s->sh_type != SHT_PROGBITS)
                return ccc_fail(err, CCC_E_UNSUPPORTED, "host kernel has an unknown section '%s'",
                                section_name(l, i));
            CCC_TRY(place(l, i, err));
        }
    return CCC_OK;
}

/* Image address of a symbol that is defined in a placed section. */
static ccc_status resolve(const layout *l, uint32_t index, uint64_t *out, ccc_err *err)
{
    if (index >= l->n_sym) return bad(err, "symbol number");
    const Elf64_Sym *y = &l->sym[index];
    const char *name = text_at(l->str, l->str_B, y->st_name);
    if (y->st_shndx == SHN_UNDEF)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "host kernel calls '%s', which its template does not define",
                        name);
    if (y->st_shndx >= l->n_sh || !l->placed[y->st_shndx])
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "host kernel refers to '%s', which lies in no section of the image", name);
    if (y->st_value > l->sh[y->st_shndx].sh_size) return bad(err, "symbol outside its section");
    *out = l->at[y->st_shndx] + y->st_value;
    return CCC_OK;
}

static ccc_status relocate(layout *l, unsigned target, const Elf64_Rela *r, ccc_err *err)
{
    uint32_t type = ELF64_R_TYPE(r->r_info), width = type == R_X86_64_PC64 ? 8 : 4;
    if (type != R_X86_64_PC32 && type != R_X86_64_PLT32 && type != R_X86_64_PC64)
        return ccc_fail(
            err, CCC_E_UNSUPPORTED,
            "host kernel needs relocation type %u in '%s'; only distances inside the image can be resolved",
            type, section_name(l, target));
    uint64_t symbol, size_B = l->sh[target].sh_size;
    CCC_TRY(resolve(l, ELF64_R_SYM(r->r_info), &symbol, err));
    if (size_B < width || r->r_offset > size_B - width) return bad(err, "relocation outside its section");
    if (r->r_addend < -MAX_IMAGE || r->r_addend > MAX_IMAGE) return bad(err, "addend of a relocation");
    uint64_t place = l->at[target] + r->r_offset;
    uint64_t distance = symbol + (uint64_t)r->r_addend - place; /* fits 32 bits: the image is small */
    memcpy(l->image + place, &distance, width);
    return CCC_OK;
}

static ccc_status relocate_all(layout *l, ccc_err *err)
{
    for (unsigned i = 0; i < l->n_sh; i++) {
        const Elf64_Shdr *s = &l->sh[i];
        if (s->sh_type == SHT_REL) return bad(err, "relocations without addends");
        if (s->sh_type != SHT_RELA || s->sh_info >= l->n_sh || !l->placed[s->sh_info]) continue;
        if (s->sh_entsize != sizeof(Elf64_Rela) || s->sh_offset % 8) return bad(err, "relocations");
        const Elf64_Rela *r = (const Elf64_Rela *)(l->obj + s->sh_offset);
        for (size_t k = 0; k < s->sh_size / sizeof *r; k++) CCC_TRY(relocate(l, s->sh_info, &r[k], err));
    }
    return CCC_OK;
}

static ccc_status find_entry(const layout *l, const char *entry, uint32_t *entry_B, ccc_err *err)
{
    for (uint32_t i = 0; i < l->n_sym; i++) {
        if (l->sym[i].st_shndx == SHN_UNDEF ||
            strcmp(text_at(l->str, l->str_B, l->sym[i].st_name), entry) != 0)
            continue;
        uint64_t at;
        CCC_TRY(resolve(l, i, &at, err));
        if (!(l->sh[l->sym[i].st_shndx].sh_flags & SHF_EXECINSTR)) return bad(err, "entry is not code");
        *entry_B = (uint32_t)at;
        return CCC_OK;
    }
    return ccc_fail(err, CCC_E_UNSUPPORTED, "host kernel: no entry '%s' in the object", entry);
}

ccc_status ccc_host_image(ccc_buf *out, uint32_t *entry_B, const void *obj, size_t obj_B, const char *entry,
                          ccc_err *err)
{
    layout l = {.obj = obj, .obj_B = obj_B};
    if ((uintptr_t)obj % 8) return bad(err, "not aligned in memory");
    CCC_TRY(read_headers(&l, err));
    CCC_TRY(place_all(&l, err));
    size_t start = out->size_B;
    static const uint8_t zero[4096];
    for (uint64_t n = 0; n < l.size_B; n += sizeof zero)
        ccc_buf_put(out, zero, l.size_B - n < sizeof zero ? l.size_B - n : sizeof zero);
    if (out->failed)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a host kernel of %llu bytes",
                        (unsigned long long)l.size_B);
    l.image = (uint8_t *)out->data + start;
    for (unsigned i = 0; i < l.n_sh; i++)
        if (l.placed[i]) memcpy(l.image + l.at[i], l.obj + l.sh[i].sh_offset, l.sh[i].sh_size);
    CCC_TRY(relocate_all(&l, err));
    return find_entry(&l, entry, entry_B, err);
}
