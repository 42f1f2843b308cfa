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
add_custom_target(codegen_objects DEPENDS ${objects})
ccc_unit_test(unit-cache ccc_cache unit/cache_test.c)
ccc_unit_test(unit-codegen ccc unit/codegen_test.c)
ccc_unit_test(unit-codegen-image ccc unit/codegen_image_test.c)
target_compile_definitions(unit-codegen-image PRIVATE CODEGEN_OBJECTS="${CMAKE_CURRENT_BINARY_DIR}")
add_dependencies(unit-codegen-image codegen_objects)
