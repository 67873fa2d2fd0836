/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON as strict as RFC 8259 has it, for tests of what we write: a value as a
 * tree, or an exception that says at which byte it is none.
 */
#ifndef USTACK_TESTS_JSON_READER_H
#define USTACK_TESTS_JSON_READER_H

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace json_reader {

struct Json {
	enum { NONE, BOOL, NUMBER, STRING, ARRAY, OBJECT } type = NONE;
	bool yes = false;
	std::string text; /* of a string, decoded to UTF-8; of a number, as written */
	std::vector<Json> items;
	std::map<std::string, Json> members;

	bool has(const std::string &key) const { return members.count(key) != 0; }
	const Json &operator[](const std::string &key) const { return members.at(key); }
	const Json &operator[](size_t i) const { return items.at(i); }
	uint64_t number() const { return std::stoull(text); }
};

class Reader {
public:
	explicit Reader(const std::string &s) : s_(s) {}

	Json all()
	{
		Json v = value();
		space();
		if (at_ != s_.size())
			bad("more behind the value");
		return v;
	}

private:
	[[noreturn]] void bad(const std::string &why) const
	{
		throw std::runtime_error(why + " at byte " + std::to_string(at_) + " of " + s_);
	}
	char peek() const { return at_ < s_.size() ? s_[at_] : '\0'; }
	char next()
	{
		if (at_ == s_.size())
			bad("it ends");
		return s_[at_++];
	}
	void space()
	{
		while (peek() && std::string(" \t\r\n").find(peek()) != std::string::npos)
			at_++;
	}
	void want(const std::string &word)
	{
		if (s_.compare(at_, word.size(), word))
			bad("no " + word);
		at_ += word.size();
	}
	Json value()
	{
		Json v;

		space();
		switch (peek()) {
		case '{': object(v); break;
		case '[': array(v); break;
		case '"': v.type = Json::STRING; v.text = string(); break;
		case 't': want("true"); v.type = Json::BOOL; v.yes = true; break;
		case 'f': want("false"); v.type = Json::BOOL; break;
		default: number(v);
		}
		return v;
	}
	void object(Json &v)
	{
		v.type = Json::OBJECT;
		want("{");
		for (space(); peek() != '}'; space()) {
			if (!v.members.empty()) {
				want(",");
				space();
			}
			std::string key = string();
			space();
			want(":");
			if (!v.members.emplace(key, value()).second)
				bad("twice: " + key);
		}
		want("}");
	}
	void array(Json &v)
	{
		v.type = Json::ARRAY;
		want("[");
		for (space(); peek() != ']'; space()) {
			if (!v.items.empty())
				want(",");
			v.items.push_back(value());
		}
		want("]");
	}
	void number(Json &v) /* we write no others than these */
	{
		v.type = Json::NUMBER;
		while (peek() >= '0' && peek() <= '9')
			v.text += next();
		if (v.text.empty() || (v.text.size() > 1 && v.text[0] == '0'))
			bad("no number");
	}
	std::string string()
	{
		std::string out;

		want("\"");
		for (char c; (c = next()) != '"';) {
			if (static_cast<unsigned char>(c) < 0x20)
				bad("a bare control character");
			if (c == '\\')
				escaped(out);
			else if (static_cast<unsigned char>(c) < 0x80)
				out += c;
			else
				utf8(out, c);
		}
		return out;
	}
	void utf8(std::string &out, char first)
	{
		unsigned char c = static_cast<unsigned char>(first);
		int more = c >= 0xf0 && c < 0xf5 ? 3 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xc2 && c < 0xe0 ? 1 : -1;

		if (more < 0)
			bad("not UTF-8");
		for (out += first; more; more--) {
			if ((peek() & 0xc0) != 0x80)
				bad("not UTF-8");
			out += next();
		}
	}
	void escaped(std::string &out)
	{
		const std::string from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
		char c = next();
		uint32_t n = 0;

		if (from.find(c) != std::string::npos) {
			out += to[from.find(c)];
			return;
		}
		if (c != 'u')
			bad("no such escape");
		for (int i = 0; i < 4; i++) {
			std::string digit(1, next());
			if (!isxdigit(static_cast<unsigned char>(digit[0])))
				bad("no hex digit");
			n = n * 16 + static_cast<uint32_t>(std::stoul(digit, nullptr, 16));
		}
		if (n < 0x80) {
			out += static_cast<char>(n);
		} else if (n < 0x800) {
			out += static_cast<char>(0xc0 | n >> 6);
			out += static_cast<char>(0x80 | (n & 0x3f));
		} else {
			out += static_cast<char>(0xe0 | n >> 12);
			out += static_cast<char>(0x80 | (n >> 6 & 0x3f));
			out += static_cast<char>(0x80 | (n & 0x3f));
		}
	}

	const std::string s_;
	size_t at_ = 0;
};

inline Json read(const std::string &s) { return Reader(s).all(); }

} // namespace json_reader

#endif
