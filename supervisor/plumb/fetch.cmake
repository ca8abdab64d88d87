add_library(vmsd_fetch STATIC fetch.c)
target_link_libraries(vmsd_fetch PUBLIC vmsd_loop PRIVATE PkgConfig::CURL)
