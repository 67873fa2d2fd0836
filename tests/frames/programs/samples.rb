# SPDX-License-Identifier: Apache-2.0
# A program to be sampled, of which each sample can be judged: on each line stands the name of
# all that may be called from it, if need be in a comment. A block's line says yield.
#
#     ruby samples.rb SECONDS
#
# prints "ready", and begins when a line comes.

def leaf(n)
  s = 0
  i = 0
  while i < n # <
    s += i & 3 # + &
    i += 1 # +
  end
  s
end

def recurse(n)
  if n > 0 # >
    recurse(n - 1) # -
  else
    leaf(10)
  end
  leaf(3)
end

def blocks(n)
  [1, 2].each do |x| # each yield
    leaf(x)
    [3].map { |y| leaf(y) } # map
  end
  {
    a: [n].each_with_index do |x, j| # each_with_index each
      leaf(x)
    end
  }
end

def yields
  yield 1
  yield 2
end

def yielding
  yields do |x|
    leaf(x)
  end
end

def raises(n)
  raise ArgumentError, "x" if n.zero? # raise zero? new exception initialize backtrace set_backtrace
  raises(n - 1)
ensure
  leaf(2)
end

def rescues
  raises(4)
rescue ArgumentError # === respond_to? method_missing
  leaf(2)
else
  leaf(1)
end

def strings(n)
  "#{n} #{leaf(n)}".gsub("1") { |x| x.upcase } # to_s gsub upcase
  [n, 3, 1].sort { |a, b| a <=> b } # sort <=>
  [n, 2].inject { |a, b| a + leaf(b) } # inject each +
  %w[a b].map(&:upcase).join("-") # map upcase join
end

class Thing
  attr_reader :size

  def initialize(size)
    @size = size
    leaf(1)
  end

  def <=>(other)
    size <=> other.size
  end
  include Comparable

  define_method(:defined_so) do |x|
    leaf(x)
  end

  def method_missing(name, *args)
    leaf(args.size) # size
  end

  def respond_to_missing?(name, all) = true # leaf
end

def things
  list = [Thing.new(2), Thing.new(1)] # new initialize
  list.sort # sort <=>
  list[0].defined_so(4) # yield: it is a block
  list[0].ghost(1) # method_missing
  list[0].send(:leaf, 3) # leaf
  list[0] > list[1] # > <=>
end

class Object
  public :leaf
end

def fibers
  fiber = Fiber.new do |x| # new
    leaf(x)
    Fiber.yield 1 # yield
    leaf(2)
  end
  fiber.resume(3) # resume
  fiber.resume # resume
  lines = Enumerator.new do |y| # new initialize
    leaf(2)
    y << 1 # <<
    y << 2 # <<
  end
  lines.next # next
  lines.next # next
end

def churned(n)
  eval("def passing#{n % 7}(x)\n  leaf(x) # leaf\nend", TOPLEVEL_BINDING, "churn.rb", 1) # eval to_s % core#define_method method_added
  send("passing#{n % 7}", 5) # passing send % to_s
end

def work(n)
  recurse(n % 40) # %
  blocks(n)
  yielding
  rescues
  strings(n)
  things
  fibers
  churned(n)
end

def until_then(deadline)
  n = 0
  while Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline # clock_gettime <
    work(n += 1) # +
  end
end

def collecting(deadline)
  while Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline # clock_gettime <
    GC.compact # compact
    work(3)
    sleep 0.01 # sleep
  end
end

$stdout.sync = true
puts "ready"
$stdin.gets
deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + ARGV[0].to_f
threads = [Thread.new { until_then(deadline) }, Thread.new { collecting(deadline) }]
until_then(deadline)
threads.each { |t| t.join } # each join
