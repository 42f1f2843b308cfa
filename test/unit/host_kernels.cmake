# The host kernel templates compiled for tests by the compiler of the templates, and the program that tests them.
find_program(CCC_CLANG NAMES clang-19 REQUIRED)
set(HK_FLAGS -march=x86-64-v3 -std=c17 -O2 -g -ffp-contract=off -fPIC -Wall -Wextra -Wno-unused-function -Werror)
if(CCC_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL Clang) # the sanitizers of two compilers do not mix; guard pages work in every build
    list(APPEND HK_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=undefined)
endif()
set(HK_OBJECTS)
foreach(name IN ITEMS gather rows elt matmul matmul_pair matmul_fp8 matmul_pair_fp8 rope_kv rope_kv_fp8 attention attention_fp8 argmax load rope_table advance read)
    string(REGEX REPLACE "_pair|_fp8" "" file ${name})
    set(flags -DNAME=hk_${name} -DTEST_HOOKS_${file})
    if(name MATCHES _pair)
        list(APPEND flags -DPAIR=1)
    endif()
    if(name MATCHES _fp8)
        list(APPEND flags -DFP8=1)
    endif()
    set(object ${CMAKE_CURRENT_BINARY_DIR}/hk_${name}.o)
    add_custom_command(OUTPUT ${object}
        COMMAND ${CCC_CLANG} ${HK_FLAGS} ${flags} -DTEMPLATE="../../compiler/kernels/host/${file}.c" -MD -MF ${object}.d
            -c ${CMAKE_CURRENT_LIST_DIR}/host_kernels_shim.c -o ${object}
        DEPENDS ${CMAKE_CURRENT_LIST_DIR}/host_kernels_shim.c DEPFILE ${object}.d VERBATIM)
    list(APPEND HK_OBJECTS ${object})
endforeach()
set(HK_SOURCES)
foreach(part IN ITEMS run rows matmul fp8 attention kv8 load)
    list(APPEND HK_SOURCES ${CMAKE_CURRENT_LIST_DIR}/host_kernels_${part}.c)
endforeach()
ccc_unit_test(unit-host-kernels m ${HK_SOURCES} ${HK_OBJECTS})
if(TARGET ccc) # the same tests of what codegen makes of the templates
    ccc_unit_test(unit-host-kernels-codegen "ccc;m" ${HK_SOURCES} ${CMAKE_CURRENT_LIST_DIR}/host_kernels_codegen.c)
endif()


# The benchmark (not a test): the same templates, specialised with constants.
set(HB_OBJECTS)
foreach(variant IN ITEMS stream tile attention read)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/hb_${variant}.o)
    add_custom_command(OUTPUT ${object}
        COMMAND ${CCC_CLANG} -march=x86-64-v3 -std=c17 -O3 -ffreestanding -fno-builtin -ffp-contract=off -fPIC -Wall -Wextra -Werror -DBENCH_${variant}
            -MD -MF ${object}.d -c ${CMAKE_CURRENT_LIST_DIR}/../bench/host_kernels_shim.c -o ${object}
        DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../bench/host_kernels_shim.c DEPFILE ${object}.d VERBATIM)
    list(APPEND HB_OBJECTS ${object})
endforeach()
find_package(Threads REQUIRED)
add_executable(bench_host_kernels ${CMAKE_CURRENT_LIST_DIR}/../bench/host_kernels.c ${HB_OBJECTS})
target_link_libraries(bench_host_kernels PRIVATE ccc_flags Threads::Threads)
