# SPDX-License-Identifier: Apache-2.0
use strict;
use warnings;

sub fib { my $n = shift; $n < 2 ? $n : fib($n - 1) + fib($n - 2) }

while (1) {
    my @v = sort { $a <=> $b } map { $_ * 7919 % 101 } 0 .. 300;
    my $s = join ",", @v;
    my $n = () = $s =~ /(\d)(?=\d)/g;
    fib(12);
    eval { die "x\n" };
}
