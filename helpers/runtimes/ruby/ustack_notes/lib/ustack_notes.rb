# SPDX-License-Identifier: Apache-2.0
# frozen_string_literal: true

# Notes of what YJIT compiles, for tracers: ruby -rustack_notes --yjit app.rb, with
# USTACK_NOTES=1 in the environment; or, to have them always, `UstackNotes.start(true)`.
# See helpers/runtimes/ruby/README.md.
module UstackNotes
  why_not =
    if !defined?(RubyVM::YJIT) || !RubyVM::YJIT.enabled?
      "YJIT is off (ruby --yjit)"
    elsif !RUBY_VERSION.start_with?("3.1.")
      "they are of Ruby 3.1; this one has --yjit-perf" # 3.3 and newer
    end
  if why_not
    def self.start(_on = false) = false
    warn "ustack_notes: no notes: #{why_not}" if $VERBOSE
  else
    require "ustack_notes/instructions"
    require "ustack_notes.so"
    start
  end
end
