# The passes: unit tests, and the golden ones, which are run with `ccc opt` and `ccc eval`.
ccc_unit_test(unit-passes ccc_passes unit/passes_random.c unit/passes_layers.c unit/passes_group.c)
ccc_golden_test(passes)
