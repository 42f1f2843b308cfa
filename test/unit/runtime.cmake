# Tests of libcccrt. Included by the tests' CMakeLists.txt. The fake driver stands in for libcuda.
add_subdirectory(fake_cuda)
set(runtime_fixture unit/runtime_make.c unit/runtime_kernels.c)
ccc_unit_test(unit-runtime-format "cccrt_static" unit/runtime_format.c ${runtime_fixture})
ccc_unit_test(unit-runtime-cpu "cccrt_static" unit/runtime_cpu.c ${runtime_fixture})
ccc_unit_test(unit-runtime-contract "cccrt_static" unit/runtime_contract.c)
ccc_unit_test(unit-runtime-cuda "cccrt_static" unit/runtime_cuda.c ${runtime_fixture})
target_compile_definitions(unit-runtime-cuda PRIVATE RUNTIME_LOG="${CMAKE_CURRENT_LIST_DIR}/runtime_cuda.log")
add_executable(unit-runtime-pool unit/runtime_pool.c)
target_link_libraries(unit-runtime-pool PRIVATE cccrt_static ccc_flags)
add_test(NAME unit-runtime-pool COMMAND unit-runtime-pool)
foreach(name IN ITEMS faults threads nomem) # with a main of their own
    set(sources unit/runtime_${name}.c ${runtime_fixture})
    list(TRANSFORM sources PREPEND ${CMAKE_CURRENT_LIST_DIR}/../)
    add_executable(unit-runtime-${name} ${sources})
    target_link_libraries(unit-runtime-${name} PRIVATE cccrt_static ${CRITERION} ccc_flags)
    add_test(NAME unit-runtime-${name} COMMAND unit-runtime-${name})
endforeach()
target_link_options(unit-runtime-nomem PRIVATE LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=posix_memalign)
foreach(test IN ITEMS unit-runtime-cuda unit-runtime-faults unit-runtime-nomem)
    target_link_options(${test} PRIVATE LINKER:--no-as-needed)
    target_link_libraries(${test} PRIVATE fake_cuda) # is loaded already when dlopen asks for libcuda.so.1
endforeach()

# what the library promises: exported symbols, what it links, a header that compiles alone
add_test(NAME runtime-exports COMMAND sh -c "nm -D --defined-only $<TARGET_FILE:cccrt> | sed 's/.* //' | LC_ALL=C sort | diff ${CMAKE_SOURCE_DIR}/runtime/exports.txt -")
if(NOT CCC_SANITIZE AND NOT CCC_TSAN)
    add_test(NAME runtime-links COMMAND sh -c "! readelf -d $<TARGET_FILE:cccrt> | grep NEEDED | grep -v -E 'libc[.]so|libm[.]so|libzstd[.]so|libxxhash[.]so'")
    add_test(NAME runtime-size COMMAND sh -c "strip -o stripped.so $<TARGET_FILE:cccrt> && test $(stat -c %s stripped.so) -lt 500000")
endif()
foreach(language IN ITEMS "c -std=c99" "c -std=c11" "c++ -std=c++17")
    foreach(header IN ITEMS cccrt.h ccc_err.h) # those that are installed
        add_test(NAME "runtime-header-${header}-${language}" COMMAND sh -c
                 "echo '#include \"${header}\"' | ${CMAKE_C_COMPILER} -x ${language} -I${CMAKE_SOURCE_DIR}/runtime -Wall -Wextra -Wpedantic -Werror -fsyntax-only -")
    endforeach()
endforeach()
