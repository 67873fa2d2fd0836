# SPDX-License-Identifier: Apache-2.0
# frozen_string_literal: true

module UstackNotes
  # Never run, only compiled: Ruby that has nearly every instruction of the virtual
  # machine in it, from which the extension learns them (lines.c).
  INSTRUCTIONS = <<~'RUBY'
    def m(a, b = 1, *c, k: a.x, q: 2, **o, &d)
      e = a & b | a ^ b; e = a - b * e / a % b; e << a; a[b] = e; a[b]; a["s"]; a["s"] = e
      a < b; a <= b; a > b; a >= b; a == b; a != b; !a; -"s"; "s".freeze; a =~ b; a.nil?; a.empty?; a.size; a.length; a.succ
      f, g = a; f, *g = a; *f, g = a; f, g = g, f; [*a, b]; [a, *b]; { a: b, **o }; { 1 => 2 }; [a, b, e]; [1, 2]; (a..b); a&.b; a ||= b
      "#{a}#{b}"; /#{a}/o; /x#{a}/; :"#{a}"; $x = a; $x; $~; $1; @a = b; @a; @@a = b; @@a; A; A::B; ::A
      defined?(a.b); defined?(@a); defined?(yield); yield(a); super; super(a); d.call(a); m(&d); m(*a); m(**o); x { a = b; y { a } }
      case a when 1 then b when "x" then e when :y then 3 end; case a when String, Integer then 4 end
      case a; in [1, *] then 2; in { z: } then z; in q if b then 1; end
      while a do break if b; next if e; a += 1 end; begin a rescue b ensure e end; return a unless b; a until b
      alias p q; undef z; def self.r; end; ->(v) { v }; if a..b then e end
      [a, b].max; [a, b].min; a.(b); redo_ = 1; a <=> b; a.b += 1; a[b] += 1; a[b] ||= 1; __FILE__; self; nil; true; 1.0; 2r; [1, 2].each { |(i, j), h| i }; a && b; a || b; not a
      for i in a do b end; catch(a) { throw a }; a.b = 1; (a; b); a ? b : e; loop { break }
    end
    class B < C; end; module D; end; class << self; end; A = a; a::B ||= 1; x do |i, (j, k), l = 1| l end; BEGIN { z }; alias $y $x; p(1, 2) if $stdin..$stdout
  RUBY

  def self.instructions
    said, $VERBOSE = $VERBOSE, nil
    RubyVM::InstructionSequence.compile(INSTRUCTIONS)
  ensure
    $VERBOSE = said
  end
  private_class_method :instructions
  private_constant :INSTRUCTIONS
end
