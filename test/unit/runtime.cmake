# Tests of libcccrt. Included by the tests' CMakeLists.txt. The fake driver stands in for libcuda.
add_subdirectory(fake_cuda)
set(runtime_fixture unit/runtime_make.c unit/runtime_kernels.c)
ccc_unit_test(unit-runtime-format "cccrt_static" unit/runtime_format.c ${runtime_fixture})
ccc_unit_test(unit-runtime-cpu "cccrt_static" unit/runtime_cpu.c ${runtime_fixture})
