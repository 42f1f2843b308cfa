# Driver, planner and artifact writer.
set(CCC_PLAN_SOURCES compile.c report.c schedule.c schedule_table.c schedule_apply.c tune.c plan.c plan_expr.c plan_weights.c plan_traffic.c plan_hook.c plan_kernels.c plan_attention.c pack.c
    ${CMAKE_CURRENT_BINARY_DIR}/build_id.c ${CMAKE_CURRENT_BINARY_DIR}/schedules.S)
# Measured schedules, as text that ends with a 0.
set(schedules)
foreach(target IN ITEMS sm_90a)
    set(file ${CMAKE_CURRENT_SOURCE_DIR}/schedules/${target}.def)
    list(APPEND schedules ${file})
    string(APPEND schedules_text "    .globl ccc_schedule_${target}\n    .hidden ccc_schedule_${target}\nccc_schedule_${target}:\n    .incbin \"${file}\"\n    .byte 0\n")
endforeach()
file(CONFIGURE OUTPUT schedules.S CONTENT "    .section .rodata\n${schedules_text}    .section .note.GNU-stack,\"\",%progbits\n" @ONLY)
set_source_files_properties(${CMAKE_CURRENT_BINARY_DIR}/schedules.S PROPERTIES OBJECT_DEPENDS "${schedules}")
set(CCC_PLAN_LIBS ccart m)
set(build_id ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_CURRENT_BINARY_DIR}/build_id.c -P ${CMAKE_CURRENT_SOURCE_DIR}/build_id.cmake)
execute_process(COMMAND ${build_id})
add_custom_target(ccc_build_id BYPRODUCTS ${CMAKE_CURRENT_BINARY_DIR}/build_id.c COMMAND ${build_id})
