# SPDX-License-Identifier: Apache-2.0
#
#     ruby extconf.rb [--with-ustack-notes-include=FOLDER of ustack_notes.h] && make && make install
#
# YJIT as it was in Ruby 3.1 only (helpers/runtimes/ruby/README.md): elsewhere nothing is
# built, and `require "ustack_notes"` does nothing. The folder needs not be named in the
# source tree, in the gem, and where ustack-notes is installed.
require "mkmf"

header = "rb_mjit_min_header-#{RUBY_VERSION}.h"
amalgamate = File.expand_path("../../../../../writer/amalgamate", __dir__)
folder, = dir_config("ustack-notes")

why_not =
  if !RUBY_VERSION.start_with?("3.1.") then "this is Ruby #{RUBY_VERSION}, not 3.1"
  elsif RUBY_PLATFORM !~ /\Ax86_64-linux/ then "#{RUBY_PLATFORM} is not x86-64 Linux"
  elsif !File.exist?("#{RbConfig::CONFIG["rubyarchhdrdir"]}/#{header}") then "#{header} is missing"
  end
if why_not
  puts "ustack_notes: nothing is built: #{why_not}"
  File.write("Makefile", dummy_makefile($srcdir).join)
  exit
end

if folder
  $INCFLAGS = "-I#{folder} #{$INCFLAGS}"
elsif !File.exist?("#{__dir__}/ustack_notes.h")
  if File.exist?(amalgamate)
    system(amalgamate, "ustack_notes.h") or abort "ustack_notes.h can't be made"
    $INCFLAGS = "-I. #{$INCFLAGS}"
  elsif !pkg_config("ustack-notes")
    abort "ustack_notes.h is missing: install ustack-notes, or say --with-ustack-notes-include=FOLDER"
  end
end
$CPPFLAGS << " -D_GNU_SOURCE"
$defs << "-DYN_RUBY_HEADER='\"#{header}\"'" << "-DYN_RUBY_VERSION='\"#{RUBY_VERSION}\"'"
$CFLAGS << " -std=gnu17 -Wall -Wextra -Wno-declaration-after-statement -fvisibility=hidden"
create_makefile("ustack_notes")
