# The readers of weight files, options, import. CCC_TEST_GGUF in the environment names a real GGUF (SmolLM2-135M-Instruct.Q4_1.gguf) for
# the tests that want one; without it they are skipped.
ccc_unit_test(unit-readers "ccc_tensors;ccc_ir" unit/readers_safetensors.c unit/readers_gguf.c unit/readers_facts.c unit/readers_make.c)
ccc_unit_test(unit-import "ccc;ccc_tensors;jansson" unit/import_config.c unit/import_files.c unit/import_graph.c unit/readers_make.c)
target_compile_definitions(unit-import PRIVATE CCC_TEST_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
ccc_golden_test(import)
