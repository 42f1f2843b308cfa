# The driver and the planner.
ccc_unit_test(unit-compile "ccc" unit/compile_key.c)
