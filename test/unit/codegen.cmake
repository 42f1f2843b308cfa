# Tests of code generation and of the cache. Included by the tests' CMakeLists.txt.
find_program(CCC_CLANG NAMES clang-19 REQUIRED)
set(objects)
foreach(case RANGE 8)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/codegen_object_${case}.o)
    add_custom_command(OUTPUT ${object}
        COMMAND ${CCC_CLANG} --target=x86_64-linux-gnu -march=x86-64-v3 -O1 -ffreestanding -fPIC -fvisibility=hidden -Wall -Wextra -Werror
            -DCASE=${case} -c ${CMAKE_CURRENT_LIST_DIR}/codegen_objects.c -o ${object}
        DEPENDS ${CMAKE_CURRENT_LIST_DIR}/codegen_objects.c VERBATIM)
    list(APPEND objects ${object})
endforeach()
foreach(case RANGE 8)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/codegen_pdl_${case}.bc)
    add_custom_command(OUTPUT ${object}
        COMMAND ${CCC_CLANG} --target=nvptx64-nvidia-cuda -march=sm_90a -Xclang -target-feature -Xclang +ptx83 -O2 -ffreestanding -nogpulib
            -fconvergent-functions -Xclang -disable-llvm-passes -Wall -Wextra -Werror -DCASE=${case} -emit-llvm
            -c ${CMAKE_CURRENT_LIST_DIR}/codegen_pdl.c -o ${object}
        DEPENDS ${CMAKE_CURRENT_LIST_DIR}/codegen_pdl.c VERBATIM)
    list(APPEND objects ${object})
endforeach()
add_custom_target(codegen_objects DEPENDS ${objects})
ccc_unit_test(unit-cache ccc_cache unit/cache_test.c)
ccc_unit_test(unit-codegen ccc unit/codegen_test.c)
ccc_unit_test(unit-codegen-image ccc unit/codegen_image_test.c)
ccc_unit_test(unit-codegen-nomem ccc unit/codegen_nomem_test.c)
target_link_options(unit-codegen-nomem PRIVATE LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free)
ccc_unit_test(unit-codegen-pdl ccc unit/codegen_pdl_test.c)
foreach(test IN ITEMS unit-codegen-image unit-codegen-pdl)
    target_compile_definitions(${test} PRIVATE CODEGEN_OBJECTS="${CMAKE_CURRENT_BINARY_DIR}")
    add_dependencies(${test} codegen_objects)
endforeach()
