# SPDX-License-Identifier: Apache-2.0
require "json"
require "zlib"

def fib(n) = n < 2 ? n : fib(n - 1) + fib(n - 2)

def work
  data = JSON.generate((0...200).map { |i| { k: i, v: i.to_s } })
  JSON.parse(data)
  data.scan(/(\d+)\D+/)
  Zlib::Deflate.deflate(data * 10)
  (0...200).sort_by { |i| i * 7919 % 101 }
  fib(12)
  Fiber.new { 50.times { |i| Fiber.yield(i) } }.then { |f| 50.times { f.resume } }
  begin
    Integer("x")
  rescue ArgumentError
  end
end

loop { work }
