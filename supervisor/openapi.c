/* The API's own description: docs/openapi.json as it was when this was built. */
#include "api.h"

#include "openapi.h" /* made by CMake out of docs/openapi.json */

void openapi_get(struct http_request *r, void *arg)
{
    (void)arg;
    http_reply_text(r, 200, "application/json", (const char *)openapi_json, openapi_json_len);
}
