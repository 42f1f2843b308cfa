# Sources of import and options; compiler/CMakeLists.txt includes this. The readers of weight files are shared with libcccrt.
set(CCC_IMPORT_SOURCES config.c import.c import_build.c import_config.c import_gguf.c import_hf.c import_kv.c import_quantize.c arch_llama.c)
add_library(ccc_tensors STATIC)
foreach(source IN ITEMS tensors jsonscan safetensors gguf facts)
    target_sources(ccc_tensors PRIVATE ${CMAKE_SOURCE_DIR}/runtime/${source}.c)
endforeach()
target_link_libraries(ccc_tensors PRIVATE ccc_flags)
set(CCC_IMPORT_LIBS ccc_tensors jansson m)
