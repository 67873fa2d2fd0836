# SPDX-License-Identifier: Apache-2.0
# Calls Ruby from C from Ruby, in all manner of ways. In the innermost call it says so, by an
# lseek and a line of output, and waits for a line: then its native stack can be looked at.
# "ready" and the first line as in stacks.rb.
NULL = File.open("/dev/null")
$n = 0

def park
  NULL.sysseek($n += 1)
  puts $n
  $stdin.gets
  0
end

class Thing
  include Comparable
  def initialize = park
  def to_s = (park; "x")
  def <=>(other) = park
  def method_missing(name) = park
  def respond_to_missing?(name, all) = true
  define_method(:dynamic) { |x| [x].each { park } }
end

def nested(n) = n.zero? ? park : [n].map { |x| nested(x - 1) }

$stdout.sync = true
puts "ready"
$stdin.gets
park
nested(5)
thing = Thing.new
"#{thing}"
[thing, thing].sort
thing.ghost
thing.dynamic(1)
eval("[1].each { park }")
thing.instance_eval { tap { park } }
begin
  raise "x"
rescue
  [1].each { park }
end
begin
  1
ensure
  [2].inject(1) { park }
end
Fiber.new { [1].each { park } }.resume
Enumerator.new { |y| park; y << 1 }.next
Thread.new { [3].sort_by { park } }.join
Hash.new { |h, k| park }[1]
%i[park].each(&method(:send))
:park.to_proc.call(self)
method(:nested).to_proc.call(2)
"a".gsub(/a/) { park.to_s }
catch(:x) { loop { park; throw :x } }
at_exit { park }
