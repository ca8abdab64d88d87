add_library(vmsd_curl STATIC curl.c)
target_link_libraries(vmsd_curl PUBLIC vmsd_base)
target_include_directories(vmsd_curl PUBLIC ${CURL_INCLUDE_DIRS})

add_library(vmsd_fetch STATIC fetch.c post.c)
target_link_libraries(vmsd_fetch PUBLIC vmsd_loop PRIVATE vmsd_curl)
