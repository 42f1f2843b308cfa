# Tests of what must hold when nobody can be trusted: hostile files, failing machines, many processes and threads, the smallest image.
# Included by the tests' CMakeLists.txt. Most need an artifact: tiny.ccart is compiled once, for the CPU and (as PTX) for a GPU.
set(trust_dir ${CMAKE_CURRENT_LIST_DIR})
set(trust_out ${CMAKE_CURRENT_BINARY_DIR}/trust)
file(MAKE_DIRECTORY ${trust_out})
add_test(NAME trust-compile COMMAND ccc_program compile ${trust_dir}/models/tiny -o ${trust_out}/tiny.ccart --target x86-64-v3,sm_90a --ptxas none
    --sizes 1,2,4 --max-num-batched-tokens 64 --max-num-seqs 8 --cache-dir ${trust_out}/cache)
set_tests_properties(trust-compile PROPERTIES FIXTURES_SETUP trust_tiny)
function(trust_test name) # NAME COMMAND...: a test that needs tiny.ccart
    add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${trust_out})
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED trust_tiny)
endfunction()

# ---- hostile files
string(REPLACE " " ";" seal_wrap "ccart_u8 ccart_u16 ccart_u32 ccart_u64 ccart_i32 ccart_i64 ccart_str ccart_blob ccart_code ccart_array")
list(TRANSFORM seal_wrap PREPEND "LINKER:--wrap=")
add_executable(hostile fuzz/hostile.c fuzz/use.c fuzz/change.c fuzz/fields.c fuzz/seal.c)
target_link_options(hostile PRIVATE ${seal_wrap} LINKER:--no-as-needed)
target_link_libraries(hostile PRIVATE cccrt_static fake_cuda ccc_flags)
if(CCC_SANITIZE)
    set(hostile_n 6000)
else()
    set(hostile_n 20000)
endif()
trust_test(trust-hostile hostile ${trust_out}/tiny.ccart ${hostile_n})
ccc_unit_test(unit-runtime-hostile "cccrt_static" unit/runtime_hostile.c unit/runtime_make.c unit/runtime_kernels.c)

# ---- fuzz targets. With libFuzzer (CCC_FUZZ) for fuzz/run; else each is a test that reads its seeds, golden files that fit, and findings.
function(fuzz_target name libraries) # the sources follow
    if(CCC_FUZZ)
        add_executable(fuzz-${name} fuzz/${name}.c ${ARGN})
        target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer LINKER:--no-as-needed)
    else()
        add_executable(fuzz-${name} fuzz/${name}.c fuzz/main.c ${ARGN})
        target_link_options(fuzz-${name} PRIVATE LINKER:--no-as-needed)
        set(inputs ${trust_dir}/fuzz/seeds/${name})
        if(EXISTS ${trust_dir}/fixtures/bad/${name})
            list(APPEND inputs ${trust_dir}/fixtures/bad/${name})
        endif()
        if(name STREQUAL ir)
            list(APPEND inputs ${trust_dir}/golden/ir)
        endif()
        add_test(NAME fuzz-${name} COMMAND fuzz-${name} ${inputs})
    endif()
    target_link_libraries(fuzz-${name} PRIVATE ${libraries} ccc_flags)
endfunction()
if(CCC_FUZZ)
    set(mutator fuzz/mutate.c fuzz/change.c fuzz/fields.c)
endif()
fuzz_target(artifact "cccrt_static;fake_cuda" fuzz/file.c fuzz/use.c fuzz/seal.c ${mutator})
if(CCC_FUZZ)
    target_link_options(fuzz-artifact PRIVATE ${seal_wrap})
endif()
fuzz_target(weights "ccc;cccrt_static" fuzz/file.c)
fuzz_target(config "ccc;cccrt_static" fuzz/file.c)
fuzz_target(expr "ccart" fuzz/file.c)
fuzz_target(ir "ccc_ir")

# ---- failing machines
set(fault_calls open mkostemp close read write pread pwrite fstat rename opendir fopen mkdir fchmod mprotect fsync mmap munmap fread)
add_executable(faults fault/faults.c fault/ops.c fault/shim.c)
if(CCC_SANITIZE OR CCC_TSAN) # which bring a malloc of their own
    list(APPEND fault_calls malloc calloc realloc free aligned_alloc posix_memalign)
    target_compile_definitions(faults PRIVATE SHIM_WRAP_MALLOC)
endif()
list(TRANSFORM fault_calls PREPEND "LINKER:--wrap=")
target_link_options(faults PRIVATE ${fault_calls})
target_link_libraries(faults PRIVATE ccc cccrt_static ccc_flags)
if(CCC_SANITIZE OR CCC_TSAN)
    set(fault_every 41)
else()
    set(fault_every 5) # all of them, by hand: 1
endif()
trust_test(trust-faults faults ${trust_out}/tiny.ccart ${trust_dir}/models/tiny ${trust_out}/faults ${fault_every})

# ---- threads, and a process that lives long
add_executable(threads threads/threads.c fault/shim.c)
if(CCC_SANITIZE OR CCC_TSAN)
    target_compile_definitions(threads PRIVATE SHIM_WRAP_MALLOC)
endif()
target_link_options(threads PRIVATE ${fault_calls} LINKER:--no-as-needed)
target_link_libraries(threads PRIVATE cccrt_static fake_cuda Threads::Threads ccc_flags)
if(CCC_SANITIZE OR CCC_TSAN)
    trust_test(trust-threads threads ${trust_out}/tiny.ccart 100)
else()
    trust_test(trust-threads threads ${trust_out}/tiny.ccart 1000)
endif()

# ---- a fleet with one cache
add_executable(fleet fleet/fleet.c)
target_link_libraries(fleet PRIVATE ccc_cache ccc_flags)
add_test(NAME trust-fleet COMMAND fleet ${trust_out}/fleet 200)
add_test(NAME trust-fleet-compile COMMAND ${trust_dir}/fleet/compile $<TARGET_FILE:ccc_program> ${trust_dir}/models ${trust_out}/fleet-compile 10)

# ---- promises to programs and files that exist
ccc_unit_test(unit-runtime-abi "cccrt_static" unit/runtime_abi.c fuzz/seal.c)
target_compile_definitions(unit-runtime-abi PRIVATE FIXTURE="${trust_dir}/fixtures/v1.0.ccart" LOGITS_OF_1_0=0xc2bb420d3673842ull)

# ---- the smallest image
if(NOT CCC_SANITIZE AND NOT CCC_TSAN AND CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
    foreach(name IN ITEMS jail try)
        add_executable(image-${name} image/${name}.c)
        target_link_libraries(image-${name} PRIVATE ccc_flags)
    endforeach()
    trust_test(trust-image ${trust_dir}/image/run ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${CMAKE_LIBRARY_OUTPUT_DIRECTORY} ${trust_out}/tiny.ccart ${trust_out}/image)
    set_tests_properties(trust-image PROPERTIES SKIP_RETURN_CODE 77)
endif()
