// SPDX-License-Identifier: Apache-2.0
// Throws and catches, all the time: the unwinder's own frames are on the stack, and
// what it lands on has just lost its own.
#include <map>
#include <stdexcept>
#include <string>

static volatile unsigned long sink;

__attribute__((noinline)) static void fail(unsigned n)
{
  std::string s(n % 40, 'x');
  if (n % 3 == 0)
    throw std::runtime_error(s);
  std::map<unsigned, std::string> m;
  for (unsigned i = 0; i < 20; i++)
    m[i * n % 17] = s;
  sink = sink + m.size();
}

__attribute__((noinline)) static void through(unsigned n, unsigned depth)
{
  std::string kept("kept");
  if (depth)
    through(n, depth - 1);
  else
    fail(n);
  sink = sink + kept.size();
}

int main()
{
  for (unsigned n = 0;; n++)
    try {
      through(n, n % 20);
    } catch (const std::exception &e) {
      sink = sink + 1;
    }
}
