# SPDX-License-Identifier: Apache-2.0
# frozen_string_literal: true
#
# Work that YJIT compiles, for the tests of helpers/runtimes/ruby: methods that call each
# other, blocks, singleton methods, modules, recursion, exceptions, evaluated code.
#
#     ruby --yjit -rustack_notes yjit.rb SECONDS [WHAT]
#
# WHAT, joined by commas, is done all the while: `methods` and `constants` are defined
# anew, so that compiled code is no longer valid; `new` code is evaluated; `trace`: a
# TracePoint now and then; `collect`, `compact`: GC; `threads`; `ractors`; `fork`. It
# prints "ready" when it is warm.
$stdout.sync = true
seconds = Float(ARGV[0] || 10)
what = (ARGV[1] || "").split(",")
FACTOR = 3

module Shop
  module Counted
    def count_up(n)
      total = 0
      i = 0
      while i < n
        total += i & 7
        i += 1
      end
      total
    end
  end

  class Item
    include Counted
    attr_reader :price

    def initialize(price)
      @price = price
    end

    def self.free?(item)
      item.price == 0
    end

    def total(n)
      part = @price * FACTOR
      rest = taxed(part, n)
      part + rest
    end

    def taxed(amount, n = 2)
      return amount if n == 0
      taxed(amount - n, n - 1)
    end

    def kind
      @price.odd? ? :odd : :even
    end

    define_method(:doubled) { @price + @price }
  end

  class << self
    def fibonacci(n)
      n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2)
    end

    def careful(n)
      raise ArgumentError if n == 3
      n + 1
    rescue ArgumentError
      0
    ensure
      @last = n
    end
  end
end

def serve(items)
  sum = 0
  items.each do |item|
    sum += item.total(5)
    sum += item.count_up(40)
    sum += 1 if Shop::Item.free?(item)
    sum += item.doubled if item.kind == :odd
  end
  sum += Shop.fibonacci(9)
  5.times { |n| sum += Shop.careful(n) }
  sum
end

ITEMS = (0...8).map { |n| Shop::Item.new(n) }.freeze
changes = {
  "methods" => ->(i) { eval("class Shop::Item; def taxed(amount, n = 2)\nreturn amount if n == 0\ntaxed(amount - n - #{i & 1}, n - 1)\nend; end") },
  "constants" => ->(i) { Object.send(:remove_const, :FACTOR) if Object.const_defined?(:FACTOR); Object.const_set(:FACTOR, i & 3) },
  "new" => ->(i) { eval("def made_#{i}(x)\n  y = x + #{i}\n  y * 2\nend\n20.times { made_#{i}(1) }\nundef made_#{i}") },
  "trace" => ->(i) { TracePoint.new(:line) {}.enable { serve(ITEMS) } if i % 50 == 1 },
  "collect" => ->(_) { GC.start },
  "compact" => ->(_) { GC.compact },
  "threads" => ->(_) { 2.times.map { Thread.new { serve(ITEMS) } }.each(&:join) },
  "fork" => ->(i) { Process.wait(fork { 200.times { serve(ITEMS) }; exit!(0) }) if i % 20 == 1 },
  "ractors" => ->(i) { Ractor.new { 200.times.sum { |n| [n, n.to_s].size } }.take if i % 20 == 1 },
}.slice(*what).values
$VERBOSE = nil

100.times { serve(ITEMS) }
puts "ready"
round = 0
finish = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
while Process.clock_gettime(Process::CLOCK_MONOTONIC) < finish
  round += 1
  100.times { serve(ITEMS) }
  changes.each { |change| change.call(round) }
end
puts "rounds #{round}"
