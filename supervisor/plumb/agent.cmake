add_library(vmsd_agentmux STATIC agent.c agent_stream.c agent_wait.c)
target_link_libraries(vmsd_agentmux PUBLIC vmsd_loop)
