# The driver and the planner.
ccc_unit_test(unit-compile "ccc" unit/compile_key.c unit/schedule.c)
# libccc with libcccrt in one program.
ccc_unit_test(unit-fp8 "ccc;cccrt_static" unit/fp8_run.c)
target_compile_definitions(unit-fp8 PRIVATE CCC_TEST_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
