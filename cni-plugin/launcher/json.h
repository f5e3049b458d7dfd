// SPDX-License-Identifier: Apache-2.0
// The text of a top-level member of a JSON object, without building a tree. Strings and nesting are followed
// exactly; what is not JSON ends the search, since the plugin itself will say what is wrong with it.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum json_type { JSON_ABSENT, JSON_STRING, JSON_LITERAL };

// Finds `key` among the members of the object in `json`; the last one wins, as in JSON.parse. A string's
// value is decoded (UTF-8), a literal's (number, true, false, null) is its text; what is nested or longer
// than `size` counts as absent.
enum json_type json_member(const char *json, size_t length, const char *key, char *value, size_t size);
