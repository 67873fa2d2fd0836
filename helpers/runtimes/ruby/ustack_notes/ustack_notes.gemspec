# SPDX-License-Identifier: Apache-2.0
# Built by `ninja ustack-ruby-gem` (helpers/runtimes/ruby/CMakeLists.txt), which puts
# ustack_notes.h beside the extension's sources.
Gem::Specification.new do |s|
  s.name = "ustack_notes"
  s.version = "1.0.0"
  s.summary = "What Ruby 3.1's YJIT compiles, told to tracers as ustack notes"
  s.authors = ["The authors of ustack(helper)"]
  s.license = "Apache-2.0"
  s.required_ruby_version = ">= 3.1"
  s.files = Dir["lib/**/*.rb", "ext/**/*.{rb,c,h}"]
  s.extensions = ["ext/ustack_notes/extconf.rb"]
end
