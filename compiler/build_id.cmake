# Writes OUT: ccc_build_id(), a hash of the sources that decide what a compile yields. Run at every build; the file changes only with them.
file(GLOB sources ${SOURCE}/ir/*.[ch] ${SOURCE}/ir/*.def ${SOURCE}/passes/*.[ch] ${SOURCE}/passes/*.def ${SOURCE}/compiler/*.[ch] ${SOURCE}/compiler/*.def ${SOURCE}/compiler/schedules/*.def
    ${SOURCE}/compiler/kernels/*.h ${SOURCE}/compiler/kernels/*.def ${SOURCE}/runtime/ccart*.[ch])
list(SORT sources)
set(all "")
foreach(f IN LISTS sources)
    file(SHA256 ${f} h)
    file(RELATIVE_PATH name ${SOURCE} ${f})
    string(APPEND all "${name} ${h}\n")
endforeach()
string(SHA256 id "${all}")
string(SUBSTRING ${id} 0 32 id)
file(CONFIGURE OUTPUT ${OUT} CONTENT "#include \"${SOURCE}/compiler/report.h\"\nconst char *ccc_build_id(void) { return \"${id}\"; }\n" @ONLY)
