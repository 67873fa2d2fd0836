# SPDX-License-Identifier: Apache-2.0
# A program that knows its own stack. Where it is asked for, `mark` keeps what Ruby says of
# it, and tells whoever traces it by an lseek to a number; on one line, so that nothing lies
# between. At the end, what Ruby said: [mark, [[label, path, line], ...]] lines of JSON.
#
#     ruby stacks.rb ROUNDS [SCENE]...
#
# prints "ready", and begins when a line comes.
require "json"
require "tempfile"

class Recorder
  attr_reader :said

  def initialize(number)
    @n = number << 40
    @null = File.open("/dev/null")
    @said = []
  end

  def mark = (@said << [@n += 1, caller_locations(0)]; @null.sysseek(@n))

  def self.of_thread = Thread.current.thread_variable_get(:recorder)
end

def mark = Recorder.of_thread.mark

# A thread, or the main one, with a recorder; its fibers find it too.
RECORDERS = []
NUMBERS = Mutex.new
def recording
  recorder = NUMBERS.synchronize { RECORDERS << Recorder.new(RECORDERS.size + 1); RECORDERS.last }
  Thread.current.thread_variable_set(:recorder, recorder)
  yield
end

# ---- calls --------------------------------------------------------------------------

def down(n)
  return mark if n.zero?

  n.odd? ? down(n - 1) : [n].each { |x| down(x - 1) }
end

def deep(n) = n.zero? ? mark : deep(n - 1)

class Base
  def call(x) = x.then { mark }
  def <=>(other) = (mark; object_id <=> other.object_id)
  include Comparable
  def to_s = (mark; "base")
  def method_missing(name, *args) = name == :ghost ? args.map { mark } : super
  def respond_to_missing?(name, all = false) = name == :ghost || super
  def each
    yield 1
    mark
  end
  include Enumerable
  def self.const_missing(name) = (mark; name)
  def coerce(other) = (mark; [other, 1])
  def hash = (mark; 1)
  def eql?(other) = (mark; true)
end

class Derived < Base
  define_method(:dynamic) { |x|
    tap { mark }
    x.times { mark }
  }
  define_method(:from_method, Base.instance_method(:call))
  alias_method :aliased, :call
  def call(x)
    super
    super(
      x
    )
    mark
  end
  class_eval "def evaled(x)\n\n  x.each { mark }\nend", "evaled/with a path of its own, that is rather long, so long that not all of it is copied into the identity of its code by the kernel.rb", 40
  def a_method_with_a_name_that_is_longer_than_what_the_kernel_copies_of_it_into_its_identity_so_that_it_has_to_be_read = mark
end

module Refined
  refine Integer do
    def marked = mark
  end
end
using Refined

def calls
  base = Base.new
  derived = Derived.new
  derived.call(1)
  derived.dynamic(2)
  derived.from_method(3)
  derived.aliased(4)
  derived.evaled([1, 2])
  derived.a_method_with_a_name_that_is_longer_than_what_the_kernel_copies_of_it_into_its_identity_so_that_it_has_to_be_read
  derived.ghost(1, 2)
  derived.send(:dynamic, 1)
  derived.public_send(:call, 1)
  derived.method(:call).to_proc.call(1)
  derived.method(:call).unbind.bind_call(derived, 5)
  [base, derived, base].sort
  [base, derived].max
  "#{base} #{derived}"
  Base::Nowhere
  base.map { |x| mark; x }
  base.each_with_index { |x, i| mark }
  base.each_slice(2) { mark }
  1 + base rescue mark
  { base => 1 }[derived]
  1.marked
  [1, 2].each_with_object([]) { |x, a| a << mark }
  "a-b".gsub(/-/) { mark.to_s }
  Hash.new { |h, k| mark; h[k] = 1 }[:a]
  [[2], [1]].sort_by { |a| mark; a[0] }
  derived.instance_exec(1) { |x| mark }
  Derived.class_exec { mark }
  derived.instance_eval("mark; [1].map { mark }", "in/eval.rb", 77)
  eval("mark\n1.times do\n  mark\nend\n", binding, "evil.rb", 5)
  ->(x) { mark }.(1)
  proc { |x| next mark }.call
  [:mark].each { |m| send(m) }
  %i[itself].map(&:to_proc).each { |f| f.call(mark) }
  catch(:done) { [1].each { mark; throw :done } }
  Struct.new(:a) { def b = mark }.new(1).b
  Class.new(Derived) { def initialize = (mark; super()) }.new
  ObjectSpace.each_object(Class).first(1).each { mark }
  [3, 1, 2].inject { |a, b| mark; a + b }
  while (i = (i || 0) + 1) < 3
    mark
  end
  mark if [1, 2].all? { |x| mark; x }
end

# ---- exceptions ------------------------------------------------------------------------

class Trouble < StandardError
  def message = (mark; "trouble")
end

def fails(n)
  n.zero? ? raise(Trouble) : fails(n - 1)
ensure
  mark
end

def retries
  tries ||= 0
  fails(3)
rescue Trouble => e
  mark
  e.message
  (tries += 1) < 3 ? retry : mark
else
  mark
ensure
  [1].each { mark }
end

def leaves
  [1, 2].each do |x|
    begin
      return mark if x == 2
      next
    ensure
      mark
    end
  end
end

def exceptions
  retries
  leaves
  begin
    begin
      fails(1)
    rescue Trouble
      mark
      raise ArgumentError, "again"
    end
  rescue ArgumentError, TypeError
    mark
  end
  fails(2) rescue mark
  begin
    Integer("x")
  rescue ArgumentError
    mark
  end
  catch(:out) { 2.times { begin; throw :out; ensure; mark; end } }
  loop { mark; raise StopIteration }
  begin
    deep_fail = ->(n) { n.zero? ? raise("x") : deep_fail.(n - 1) }
    deep_fail.(20)
  rescue => e
    mark
  end
end

# ---- fibers, threads, ractors --------------------------------------------------------

def fibers
  fiber = Fiber.new do |x|
    mark
    inner = Fiber.new { mark; Fiber.yield 1; down(5); mark }
    inner.resume
    Fiber.yield mark
    inner.resume
    mark
  end
  mark
  fiber.resume(1)
  fiber.resume
  lines = Enumerator.new { |y| 3.times { |i| mark; y << i } }
  lines.next
  mark
  lines.next
  lines.lazy.map { |x| mark; x }.first(2)
  generator = Enumerator.produce(1) { |x| mark; x + 1 }
  generator.take(3)
end

def threads
  queue = Queue.new
  4.times.map do |i|
    Thread.new do
      recording do
        20.times { down(i * 3); queue << mark; Thread.pass }
        fibers
        exceptions
      end
    end
  end.each(&:join)
  mark
end

def ractors
  before, $VERBOSE = $VERBOSE, nil
  ractor = Ractor.new(RECORDERS.size + 1) do |number|
    recorder = Recorder.new(number)
    recorder.mark
    5.times { [1].map { recorder.mark } }
    recorder.said.map { |n, locations| [n, locations.map { |l| [l.label, l.path, l.lineno] }] }
  end
  RECORDERS << Struct.new(:said).new(ractor.take)
  $VERBOSE = before
end

# ---- code that comes and goes ---------------------------------------------------------

def churn
  30.times do |i|
    name = "t#{rand(1000)}"
    eval("def #{name}(x)\n  [x].each { |y| mark }\nend", TOPLEVEL_BINDING, "churn#{rand(3)}.rb", rand(5))
    send(name, i)
    Object.class_eval { remove_method(name) }
    eval("1.times { mark; #{"mark;" * rand(4)} }")
    GC.start if i % 10 == 9
  end
end

def compact
  5.times do
    down(6)
    GC.compact
    mark
  end
end

def files
  Tempfile.create(["loaded", ".rb"]) do |file|
    lines = rand(200)
    file.write("#{"\n" * lines}def loaded(x)\n  x.each do\n    mark\n  end\nend\nmark\nloaded([1])\nclass Loaded\n  mark\n  [1].each { mark }\nend\n")
    file.flush
    load file.path
  end
end

# Methods with so many instructions that each part of Ruby's table of lines is used.
def long
  $long ||= [3, 12, 40, 200, 700].map do |n|
    body = (1..n).map { |i| i % 7 == 3 ? "mark\n" : i % 5 == 1 ? "a = [b, #{i}, a]\n\n" : "b = a.to_s + \"#{i}\" if b\n" }.join
    eval("def long#{n}(a, b)\n#{body}mark\nend", TOPLEVEL_BINDING, "long.rb", 1)
    "long#{n}"
  end
  $long.each { |name| send(name, nil, nil) }
end

def signals
  trap("USR1") { mark; [1].each { mark } }
  Process.kill("USR1", $$)
  10.times { [1].each { Thread.pass } }
end

def depths
  [0, 1, 30, 100, 124, 125, 126, 127, 128, 500].each { |n| deep(n) }
  down(rand(60))
end

SCENES = { "calls" => 1, "exceptions" => 3, "fibers" => 3, "threads" => 1, "ractors" => 1, "churn" => 1, "compact" => 1,
           "files" => 3, "long" => 1, "signals" => 1, "depths" => 1 }.freeze

def told(recorder)
  recorder.said.map do |n, locations|
    [n, locations.map { |l| l.is_a?(Array) ? l : [l.label, l.path, l.lineno] }]
  end
end

$stdout.sync = true
puts "ready"
$stdin.gets
rounds = (ARGV.shift || 1).to_i
scenes = ARGV.empty? ? SCENES.keys : ARGV.dup
recording do
  rounds.times do
    scenes.each { |scene| SCENES[scene].times { send(scene) } }
    RECORDERS.flat_map { |r| told(r) }.each { |line| puts JSON.generate(line) }
    RECORDERS.each { |r| r.said.clear }
  end
end
