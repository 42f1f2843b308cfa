# Driver, planner and artifact writer.
set(CCC_PLAN_SOURCES compile.c report.c schedule.c plan.c plan_expr.c plan_weights.c plan_traffic.c plan_hook.c plan_kernels.c plan_attention.c pack.c
    ${CMAKE_CURRENT_BINARY_DIR}/build_id.c)
set(CCC_PLAN_LIBS ccart m)
set(build_id ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_CURRENT_BINARY_DIR}/build_id.c -P ${CMAKE_CURRENT_SOURCE_DIR}/build_id.cmake)
execute_process(COMMAND ${build_id})
add_custom_target(ccc_build_id BYPRODUCTS ${CMAKE_CURRENT_BINARY_DIR}/build_id.c COMMAND ${build_id})
