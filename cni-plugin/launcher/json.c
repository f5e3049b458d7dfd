// SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include <stdint.h>
#include <string.h>

struct cursor {
	const char *at, *end;
};

static void skip_space(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

static bool take(struct cursor *c, char wanted)
{
	skip_space(c);
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

static int hex4(struct cursor *c)
{
	int value = 0;

	if (c->end - c->at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const char ch = *c->at++;
		const int digit = ch >= '0' && ch <= '9'   ? ch - '0'
				  : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
				  : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
							   : -1;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

struct sink {
	char *to;
	size_t size, used;
};

static void put(struct sink *s, uint32_t byte)
{
	if (s->used < s->size)
		s->to[s->used] = (char)byte;
	s->used++;
}

static void put_code_point(struct sink *s, uint32_t cp)
{
	if (cp < 0x80) {
		put(s, cp);
		return;
	}
	const int more = cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
	put(s, (0xf00u >> more & 0xf0) | cp >> (6 * more));
	for (int i = more - 1; i >= 0; i--)
		put(s, 0x80 | (cp >> (6 * i) & 0x3f));
}

static bool escape(struct cursor *c, struct sink *s)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char ch = c->at < c->end ? *c->at++ : '\0';
	const char *plain = ch ? strchr(from, ch) : NULL;

	if (plain) {
		put(s, (unsigned char)to[plain - from]);
		return true;
	}
	int cp = ch == 'u' ? hex4(c) : -1;
	if (cp < 0)
		return false;
	if (cp >= 0xd800 && cp < 0xdc00 && c->end - c->at >= 6 && c->at[0] == '\\' && c->at[1] == 'u') {
		struct cursor ahead = {c->at + 2, c->end};
		const int low = hex4(&ahead);
		if (low >= 0xdc00 && low < 0xe000) {
			cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
			c->at = ahead.at;
		}
	}
	put_code_point(s, (uint32_t)cp);
	return true;
}

// A string after its opening quote, up to behind the closing one.
static bool string(struct cursor *c, struct sink *s)
{
	while (c->at < c->end) {
		const char ch = *c->at++;
		if (ch == '"')
			return true;
		if (ch != '\\')
			put(s, (unsigned char)ch);
		else if (!escape(c, s))
			return false;
	}
	return false;
}

// Any value; false: malformed. Strings and literals go to the sink; brackets are counted, strings inside them
// followed.
static bool value(struct cursor *c, struct sink *s, enum json_type *type)
{
	struct sink nowhere = {0};
	size_t depth = 0;

	*type = JSON_STRING;
	if (take(c, '"'))
		return string(c, s);
	*type = JSON_LITERAL;
	for (skip_space(c); c->at < c->end; skip_space(c)) {
		const char ch = *c->at;
		if (depth == 0 && (ch == ',' || ch == '}' || ch == ']'))
			return *type == JSON_ABSENT || s->used > 0;
		c->at++;
		if (ch == '{' || ch == '[') {
			*type = JSON_ABSENT;
			depth++;
		} else if (ch == '}' || ch == ']') {
			depth--;
		} else if (ch == '"') {
			if (!string(c, &nowhere))
				return false;
		} else if (depth == 0) {
			put(s, (unsigned char)ch);
		}
	}
	return false;
}

enum json_type json_member(const char *json, size_t length, const char *key, char *to, size_t size)
{
	struct cursor c = {json, json + length};
	enum json_type found = JSON_ABSENT;

	if (!take(&c, '{'))
		return JSON_ABSENT;
	do {
		char name[64];
		struct sink name_sink = {name, sizeof(name), 0}, kept = {to, size, 0}, ignored = {0};
		enum json_type type;
		if (!take(&c, '"') || !string(&c, &name_sink) || !take(&c, ':'))
			break;
		const bool is_it = name_sink.used == strlen(key) && memcmp(name, key, name_sink.used) == 0;
		if (!value(&c, is_it ? &kept : &ignored, &type))
			break;
		if (!is_it)
			continue;
		found = kept.used < size ? type : JSON_ABSENT;
		to[found == JSON_ABSENT ? 0 : kept.used] = '\0';
	} while (take(&c, ','));
	return found;
}
